"""A private Slurm on this machine: the real daemons, four nodes of eight counted GPUs, nothing confined.

Needs the commands munged, slurmctld, slurmd and scrontab, and a host name that stands for a loopback address.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NODES, CPUS, GPUS = 4, 8, 8
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED"}

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.own-pid
SlurmdPidFile={folder}/%n.own-pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
ScronParameters=enable
MinJobAge=3600
MaxArraySize={most}
KillWait=5
SlurmdTimeout=10
ReturnToService=1
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=2 PreemptMode=OFF
PartitionName=spot Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
"""


class Cluster:
    """Start it with `up`, end it with `down`; commands of Slurm find it by `environment`."""

    def __init__(self, folder: Path, max_array_size: int = 1001) -> None:
        self.folder = folder
        self._most = max_array_size
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._waiting: dict[str, float] = {}
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        built = Path(sys.prefix) / "slurm"  # scrontab, where no package has it
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin:{built}",
        }

    def up(self) -> None:
        """Start the daemons and wait until every node takes jobs."""
        self._configure()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        at = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        self._start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={at['socket']}",
            f"--pid-file={at['pid']}", f"--log-file={at['log']}", f"--seed-file={at['seed']}",
        )  # fmt: skip
        self._await("munge", lambda: self._works("munge", "--no-input", f"--socket={at['socket']}"))
        self._start("slurmctld", "-D")
        for number in range(1, NODES + 1):
            self._nodes[f"n{number}"] = self._start("slurmd", "-D", "-N", f"n{number}")
        self._await(
            "the nodes", lambda: self.run("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D") == str(NODES)
        )

    def down(self) -> None:
        """End all jobs, then the daemons."""
        jobs = self.run("squeue", "-h", "-o", "%A").split()
        if jobs:
            self._works("scancel", *jobs)
            self._works("scancel", "--full", "--signal=KILL", *jobs)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()

    def run(self, *command: str, check: bool = True, cwd: Path | None = None) -> str:
        """Run a command with this cluster in its environment; return what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, cwd=cwd, timeout=300
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
        return (done.stdout + done.stderr).strip()

    def states(self, *jobs: str) -> list[str]:
        """Return the states of jobs and of the tasks of arrays."""
        return self.run(
            "squeue", "--noheader", "--array", "--states=all", "--format=%T", f"--jobs={','.join(jobs)}"
        ).split()

    def wait(self, *jobs: str, seconds: float = 240) -> None:
        """Wait for the end of jobs, sparing those that were queued again their time of grace."""
        self._await(f"jobs {jobs}", lambda: ENDED.issuperset(self.hurry(*jobs)), seconds)

    def hurry(self, *jobs: str) -> list[str]:
        """Let tasks that were queued again begin now, not in two minutes; return the states of all."""
        listed = self.run(
            "squeue", "--noheader", "--array", "--states=all", "--format=%i %T %r", f"--jobs={','.join(jobs)}"
        )
        found = [line.split(maxsplit=2) for line in listed.splitlines()]
        waiting = {task for task, state, reason in found if (state, reason) == ("PENDING", "BeginTime")}
        self._waiting = {task: self._waiting.get(task, time.monotonic()) for task in waiting}
        for task, since in self._waiting.items():
            # A node refuses a job that it ended in the same second, and Slurm takes that for the job's end.
            if time.monotonic() - since > 3:
                self._works("scontrol", "update", f"jobid={task}", "StartTime=now")
        return [state for _, state, _ in found]

    def lose(self, node: str) -> None:
        """Kill a node's slurmd, and wait until Slurm notices; the processes of its jobs live on."""
        self._nodes[node].kill()
        self._await(f"{node} down", lambda: "down" in self.run("sinfo", "-h", "-n", node, "-o", "%T"), 90)

    def restore(self, node: str) -> None:
        """Start a lost node's slurmd again."""
        self._nodes[node] = self._start("slurmd", "-D", "-N", node)
        self._await(f"{node} up", lambda: self.run("sinfo", "-h", "-n", node, "-o", "%T").startswith("idle"))

    def _configure(self) -> None:
        for name in ("state", "gpu"):
            (self.folder / name).mkdir(parents=True)
        host = socket.gethostname()
        port = _free_ports(NODES + 1)
        for number in range(GPUS):
            (self.folder / "gpu" / str(number)).symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(f"Name=gpu Type=h200 File={self.folder}/gpu/[0-{GPUS - 1}]\n")
        nodes = "\n".join(
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + number} CPUs={CPUS}"
            f" RealMemory=1000000 Gres=gpu:h200:{GPUS}"
            for number in range(1, NODES + 1)
        )
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        text = CONFIGURATION.format(
            folder=self.folder, host=host, port=port, user=user, nodes=nodes, most=self._most
        )
        (self.folder / "slurm.conf").write_text(text)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "daemons.log").open("ab") as log:
            daemon = subprocess.Popen(
                command,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._daemons.append(daemon)
        return daemon

    def _works(self, *command: str) -> bool:
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0

    def _await(self, what: str, happened: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, f"{what}: not within {seconds:g} s; see {self.folder}"
            time.sleep(0.3)


def _free_ports(count: int) -> int:
    """Return the first of `count` free ports in a row, below those that the kernel hands out."""
    for first in range(20000 + os.getpid() % 8000, 32000):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")
