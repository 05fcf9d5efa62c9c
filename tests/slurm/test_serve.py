"""jobs/serve.sbatch and an array of clients on a real Slurm: they find it, and it ends by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
from conftest import REPOSITORY, Job
from test_jobs import library

STAND_IN = Path(__file__).with_name("stand_in.py")


def submit_server(job: Job, registry: Path) -> str:
    """Submit a server that ends three seconds after its last client, and return the id of its job."""
    environment = job.cluster.environment | {
        "DOCBATCH_SERVE_COMMAND": f"{sys.executable} {STAND_IN}",
        "DOCBATCH_SERVE_OPTIONS": "host=127.0.0.1 next_client_s=3 first_client_s=200",
        "DOCBATCH_SERVER_KEY": "sesame",
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": str(job.folder),
    }
    job.environment["DOCBATCH_SERVER_KEY"] = "sesame"
    command = [
        "sbatch", "--parsable", "--export=ALL", "--output=serve.log", "--gpus-per-node=8",
        str(REPOSITORY / "jobs" / "serve.sbatch"), str(registry), "the-model",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=job.folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_server_and_four_clients_finish_and_the_server_ends_by_itself(job: Job) -> None:
    library(job.folder / "in", 24)
    registry = job.folder / "registry"
    server = submit_server(job, registry)
    job.arguments = [
        "input=in", "output=runs/out", "raster.workers=1", "task=qa", "task.question=Who wrote it?",
        "engine=server", f"engine.registry={registry}",
    ]  # fmt: skip
    jobs = job.finished("shards=4")
    job.cluster.wait(server, seconds=60)
    assert set(job.cluster.states(server, *(name for names in jobs.values() for name in names))) == {
        "COMPLETED"
    }
    log = (job.folder / "serve.log").read_text()
    assert "the server is ended: the last client is done" in log
    table = job.table()
    assert len(table) == 24
    assert (table["status"] == "ok").all()
    assert set(table["answer"]) == {"Ada"}
    assert not list(registry.glob("*/*.url")) and not list(registry.glob("clients/*"))
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(STAND_IN) in (p.info["cmdline"] or [])]
