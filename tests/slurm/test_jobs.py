"""jobs/ on a real Slurm: every question answered once, whatever happens to tasks and nodes."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
from cluster import Cluster
from conftest import REPOSITORY, SMALL, Job, lasting, rows, write_pdf

QUESTIONS = "question_id,question\nwhat,What is it about?\nwho,Who wrote it?\n"


def library(folder: Path, count: int) -> None:
    """Write documents of 1 to 7 pages."""
    for number in range(count):
        texts = [f"Report {number} on ships, page {page}, written by Ada." for page in range(1 + number % 7)]
        write_pdf(folder / f"{number % 5}" / f"{number:03}.pdf", *texts)


def long_work(job: Job, count: int, request_s: float = 0.25) -> int:
    """Write documents that take a task three requests, and so long, each; return their pages."""
    for number in range(count):
        texts = (f"Volume {number}, page {page}." * 9 for page in range(60))
        write_pdf(job.folder / "in" / f"{number:02}.pdf", *texts)
    job.pace(request_s)
    return 60 * count


def whole(job: Job, *more: str) -> Path:
    """Run the same without Slurm, into another output."""
    output = job.folder / "whole"
    given = [argument for argument in SMALL if not argument.startswith("gpus=")]
    command = [sys.executable, "-m", "pipeline.run", "input=in", f"output={output}", *given, *more]
    subprocess.run(command, cwd=job.folder, check=True, capture_output=True)
    return output


def test_two_hundred_documents_on_four_nodes(job: Job) -> None:
    library(job.folder / "in", 200)
    (job.folder / "in" / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (job.folder / "questions.csv").write_text(QUESTIONS)
    task = ("task=qa", "task.questions=questions.csv")
    done = job.submit("shards=8", *task)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"plan +\d+\nanswer +\d+ .*\npublish +\d+\nfollow .*pipeline.status output=", done.stdout
    )
    found = job.until(lambda status: status.count("running") > 0)
    assert found.jobs["answer"]
    jobs = [name.split()[1] for name in (job.output / "_journal" / "jobs").read_text().splitlines()]
    job.cluster.wait(*jobs)

    table = job.table()
    assert len(table) == 402
    assert not table.duplicated(["source", "question_id"]).any()
    assert (table["status"] == "ok").sum() == 400
    alone = whole(job, *task)
    for name in ("answers", "documents", "requests"):
        assert lasting(job.table(name)) == lasting(pd.read_parquet(alone / name))
    costs = job.table("plan.parquet").groupby("shard")["engine_seconds"].sum()
    assert len(costs) == 8
    assert costs.max() / costs.min() < 1.10
    nodes = set(re.findall(r"attempt 1 on (n\d)", job.log("answer-*_*.log")))
    assert nodes == {"n1", "n2", "n3", "n4"}
    ended = job.status()
    assert (ended.count("done"), ended.pages_per_second) == (8, 0)
    assert job.cluster.states(*jobs) == ["COMPLETED"] * 10


def test_a_task_that_is_signalled_saves_is_queued_again_and_finishes(job: Job) -> None:
    pages = long_work(job, 24)
    jobs = job.submitted("shards=2", "pack.window_tokens=1")
    job.until(lambda status: status.shards[0].state == "running" and status.shards[0].pages_done > 120)
    job.cluster.run("scancel", "--batch", "--signal=USR1", f"{jobs['answer'][0]}_0")
    job.cluster.wait(*jobs["answer"], *jobs["publish"])
    log = job.log(f"answer-{jobs['answer'][0]}_0.log")
    assert "interrupted by SIGUSR1: finished work is saved" in log
    assert "attempt 2 on" in log
    found = job.status()
    assert [shard.state for shard in found.shards] == ["done", "done"]
    assert found.shards[0].attempts == 2
    table = job.table()
    assert len(table) == 24
    assert (table["status"] == "ok").all()
    # A window is one document here: what is read again is the one under way and the one rendered ahead.
    assert pages <= job.done("pages") <= pages + 2 * 60
    assert job.done("requests") <= len(job.table("requests"))  # so that none was answered twice
    assert set(job.cluster.states(*jobs["answer"], *jobs["publish"])) == {"COMPLETED"}


def test_a_task_that_is_signalled_before_it_begins_to_work_is_queued_again(job: Job) -> None:
    library(job.folder / "in", 8)
    jobs = job.submitted("shards=1")
    log = job.output / "logs" / f"answer-{jobs['answer'][0]}_0.log"
    end = time.monotonic() + 120
    while not (log.exists() and "attempt 1" in log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.01)
    job.cluster.run("scancel", "--batch", "--signal=USR1", f"{jobs['answer'][0]}_0")
    job.cluster.wait(*jobs["answer"], *jobs["publish"])
    assert "queued again: what is finished is saved" in log.read_text()
    assert "attempt 2 on" in log.read_text()
    assert job.cluster.states(*jobs["answer"], *jobs["publish"]) == ["COMPLETED"] * 2
    assert (job.table()["status"] == "ok").all()
    assert len(job.table()) == 8


def test_a_task_that_reaches_its_time_limit_goes_on_in_another_attempt(job: Job) -> None:
    pages = long_work(job, 80, request_s=0.3)  # over a minute
    job.environment["DOCBATCH_ANSWER_OPTIONS"] = "--time=1 --signal=B:USR1@30"
    jobs = job.submitted("shards=1", "pack.window_tokens=1")
    job.cluster.wait(*jobs["answer"], *jobs["publish"], seconds=600)
    assert job.cluster.states(*jobs["answer"], *jobs["publish"]) == ["COMPLETED"] * 2
    (shard,) = job.status().shards
    log = job.log("answer-*.log")
    assert shard.attempts >= 2
    # On a busy machine the time of an attempt may be over before it has begun to work.
    assert log.count("queued again: what is finished is saved") == shard.attempts - 1
    assert "interrupted by SIGUSR1: finished work is saved" in log
    assert len(job.table()) == 80
    assert (job.table()["status"] == "ok").all()
    assert pages <= job.done("pages") <= pages + 2 * 60 * (shard.attempts - 1)
    assert job.done("requests") <= len(job.table("requests"))


def test_killed_tasks_and_a_lost_node_cost_no_row(job: Job) -> None:
    long_work(job, 24)
    jobs = job.submitted("shards=3", "pack.window_tokens=1")
    job.until(lambda status: all(shard.pages_done > 60 for shard in status.shards))
    cancelled, lost, killed = (f"{jobs['answer'][0]}_{shard}" for shard in range(3))
    job.cluster.run("scancel", "--signal=KILL", cancelled)
    node = job.cluster.run("squeue", "-h", f"--jobs={lost}", "-o", "%N")
    job.cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    task_process(job, 2).kill()
    job.until(lambda status: [status.shards[shard].state for shard in (0, 2)] == ["failed", "failed"])
    assert "ended without writing a final state" in job.status().shards[2].reason
    job.cluster.run("scontrol", "requeue", cancelled)
    job.cluster.run("scontrol", "requeue", killed)
    job.cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
    job.cluster.wait(*jobs["answer"], *jobs["publish"])
    found = job.status()
    assert [(shard.state, shard.attempts) for shard in found.shards] == [("done", 2)] * 3
    table = job.table()
    assert len(table) == 24
    assert not table.duplicated(["source", "question_id"]).any()
    assert (table["status"] == "ok").all()


def test_a_task_whose_earlier_copy_lives_on_takes_the_shard_over(job: Job) -> None:
    """As when slurmd is lost and the processes of its jobs are not: the older copy must stop by itself."""
    long_work(job, 16)
    jobs = job.submitted("shards=1", "pack.window_tokens=1")
    job.until(lambda status: status.shards[0].pages_done > 60)
    older = task_process(job, 0)
    node = job.cluster.run("squeue", "-h", f"--jobs={jobs['answer'][0]}_0", "-o", "%N")
    older.suspend()
    try:
        job.cluster.lose(node)
        job.until(lambda status: bool(job.cluster.hurry(*jobs["answer"])) and status.shards[0].attempts == 2)
        older.resume()
        psutil.wait_procs([older], timeout=30)
        assert not older.is_running()
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            older.kill()
        job.cluster.restore(node)
    job.cluster.wait(*jobs["answer"], *jobs["publish"])
    assert len(job.table()) == 16
    assert not job.table().duplicated(["source", "question_id"]).any()
    assert "was taken over by" in job.log("answer-*.log")


def task_process(job: Job, shard: int) -> psutil.Process:
    """Return the process that answers a shard."""
    (found,) = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if {"pipeline.run", f"shard.index={shard}"} <= set(process.info["cmdline"] or ())
        and process.info["cwd"] == str(job.folder)
        and "sbatch" not in " ".join(process.info["cmdline"])
    ]
    return found


def test_two_tasks_for_one_shard(job: Job) -> None:
    long_work(job, 24)
    jobs = job.submitted("shards=1", "pack.window_tokens=1")
    job.until(lambda status: status.shards[0].state == "running")
    given = [
        *(argument for argument in job.arguments if not argument.startswith("gpus=")),
        "pack.window_tokens=1",
    ]
    mistake = job.cluster.run(
        "sbatch", "--parsable", "--array=0", "--output=mistake.log",
        str(REPOSITORY / "jobs" / "answer.sbatch"), "0", "1", "runs/out", *given, cwd=job.folder,
    )  # fmt: skip
    job.cluster.wait(mistake)
    log = (job.folder / "mistake.log").read_text()
    holder = re.search(
        r"error: .*planned-0000-of-0001 is being written by another run \(Slurm job (\d+) on n", log
    )
    assert holder, log
    assert "Traceback" not in log
    assert job.cluster.states(mistake) == ["FAILED"]
    job.cluster.wait(*jobs["answer"], *jobs["publish"])
    assert (job.table()["status"] == "ok").all()
    assert len(job.table()) == 24


def test_a_shard_that_fails_is_named_and_submitting_again_does_only_that(job: Job) -> None:
    library(job.folder / "in", 40)
    jobs = job.submitted("shards=4", "at_once=1")
    job.until(lambda status: status.count("done") >= 1)
    job.cluster.run("scancel", f"{jobs['answer'][0]}_3")
    job.cluster.wait(*jobs["answer"], *jobs["publish"])
    assert job.cluster.states(*jobs["publish"]) == ["FAILED"]
    log = job.log("publish-*.log")
    missing = re.search(
        r"error: shard 3: (\d+) answers about \d+ inputs are missing: no task has worked", log
    )
    assert missing, log
    table = job.table()
    assert len(table) == 40 - int(missing[1])
    assert (table["status"] == "ok").all()
    failed = job.status().shards[3]
    assert (failed.state, failed.reason) == ("failed", "no task has worked on it, and none is queued")

    again = job.finished("shards=2")
    assert job.cluster.states(*again["publish"]) == ["COMPLETED"]
    assert sum(shard.answers for shard in job.status().shards) == int(missing[1])
    whole_table = job.table()
    assert len(whole_table) == 40
    kept = whole_table.set_index("answer_id").loc[table["answer_id"], "created_at"]
    assert (kept.to_numpy() == table["created_at"].to_numpy()).all()


def test_three_nights(job: Job) -> None:
    """jobs/nightly.scrontab in Slurm's own cron, a night a minute: documents come, change and go."""
    schedule = (REPOSITORY / "jobs" / "nightly.scrontab").read_text()
    for given, here in {
        "/opt/docbatch/bin/python": sys.executable,
        "/opt/docbatch-src": str(REPOSITORY),
        "/data/reports": str(job.folder / "in"),
        "/runs/reports": str(job.output),
        "0 22 * * *": "* * * * *",
        "shards=4": shlex.join(["shards=4", *SMALL]),
    }.items():
        assert given in schedule
        schedule = schedule.replace(given, here)
    job.output.mkdir(parents=True)
    library(job.folder / "in", 12)
    (job.folder / "scrontab").write_text(schedule)
    job.cluster.run("scrontab", str(job.folder / "scrontab"))
    try:
        nights(job)
    finally:
        job.cluster.run("scrontab", "-r")


def nights(job: Job) -> None:
    """Let nights pass, and look at each morning's tables."""

    def pass_until(published: Callable[[pd.DataFrame], bool]) -> pd.DataFrame:
        """Wait for a night after which the table is as it should be."""
        end = time.monotonic() + 240
        while time.monotonic() < end:
            night(job)
            if published(found := job.table().set_index("source")):
                return found
        raise AssertionError(f"no night has done it; see {job.output}")

    first = pass_until(lambda table: len(table) == 12)
    write_pdf(job.folder / "in" / "new.pdf", "A new report.")
    write_pdf(job.folder / "in" / "0" / "000.pdf", "A report that was corrected.")
    (job.folder / "in" / "1" / "001.pdf").unlink()
    names = set(first.index) - {"1/001.pdf"} | {"new.pdf"}
    changed = first.loc["0/000.pdf", "document_id"]
    second = pass_until(
        lambda table: set(table.index) == names and table.loc["0/000.pdf", "document_id"] != changed
    )
    same = sorted(set(first.index) - {"1/001.pdf", "0/000.pdf"})
    assert (second.loc[same, "created_at"] == first.loc[same, "created_at"]).all()
    assert (second["status"] == "ok").all()
    before = {file: file.read_bytes() for file in job.output.glob("*/shard-*.parquet")}
    night(job)
    assert {file: file.read_bytes() for file in job.output.glob("*/shard-*.parquet")} == before


def night(job: Job) -> None:
    """Wait for the next submission of the schedule and for the end of its jobs."""
    noted = job.output / "_journal" / "jobs"
    earlier = noted.read_text() if noted.exists() else ""
    end = time.monotonic() + 150
    while "publish" not in (found := noted.read_text() if noted.exists() else "") or found == earlier:
        assert time.monotonic() < end, f"the schedule submitted nothing; see {job.output}"
        time.sleep(0.3)
    jobs = [line.split()[1] for line in found.splitlines()]
    job.cluster.wait(*jobs)
    assert set(job.cluster.states(*jobs)) == {"COMPLETED"}


def test_a_night_that_is_not_over_is_left_to_finish(job: Job) -> None:
    """The command of the schedule, while the jobs of the night before still run."""
    long_work(job, 12)
    jobs = job.submitted("shards=1")
    noted = (job.output / "_journal" / "jobs").read_text()
    again = job.submit("shards=1")
    assert again.returncode == 3
    assert "of an earlier submission are not over" in again.stderr
    assert (job.output / "_journal" / "jobs").read_text() == noted
    job.cluster.wait(*(name for names in jobs.values() for name in names))
    assert len(job.table()) == 12


def test_launcher_slurm(job: Job) -> None:
    library(job.folder / "in", 12)
    given = [argument for argument in job.arguments if not argument.startswith("gpus=")]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.run", "launcher=slurm", "shard.count=3", *given],
        cwd=job.folder, env=job.cluster.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((job.output / "answers").iterdir())) == 3
    table = job.table()
    assert len(table) == 12
    assert rows(table) == rows(pd.read_parquet(whole(job) / "answers"))


def test_a_mistake_queues_nothing(job: Job) -> None:
    library(job.folder / "in", 1)
    before = job.cluster.run("squeue", "-h")
    for argument, complaint in {
        "task=quiz": "task=quiz: is unknown",
        "input=nowhere": "input=nowhere: there is no such file or folder",
        "shards=many": "shards=many: must be a number",
    }.items():
        done = job.submit(argument)
        assert (done.returncode, complaint in done.stderr) == (1, True), done.stderr
        assert "Traceback" not in done.stderr
    job.environment["DOCBATCH_PUBLISH_OPTIONS"] = "--partition=nowhere"
    assert job.submit().returncode == 1
    time.sleep(1)
    assert job.cluster.run("squeue", "-h") == before


def test_a_cancelled_task_is_not_queued_again(job: Job) -> None:
    long_work(job, 12)
    jobs = job.submitted("shards=1", "pack.window_tokens=1")
    job.until(lambda status: status.shards[0].pages_done > 60)
    job.cluster.run("scancel", *jobs["answer"])
    job.cluster.wait(*jobs["answer"], *jobs["publish"])
    assert job.cluster.states(*jobs["answer"]) == ["CANCELLED"]
    assert job.cluster.states(*jobs["publish"]) == ["FAILED"]
    assert 0 < len(job.table()) < 12


def test_a_preempted_task_saves_and_goes_on_later(job: Job) -> None:
    long_work(job, 48)
    job.environment["DOCBATCH_ANSWER_OPTIONS"] = "--partition=spot"
    jobs = job.submitted("shards=4", "pack.window_tokens=1")
    job.until(lambda status: all(shard.pages_done > 60 for shard in status.shards))
    urgent = job.cluster.run(
        "sbatch", "--parsable", "--gpus-per-node=8", "--output=/dev/null", "--wrap", "sleep 1"
    )
    job.cluster.wait(urgent, *jobs["answer"], *jobs["publish"])
    assert "interrupted by SIGUSR1: finished work is saved" in job.log("answer-*.log")
    found = job.status()
    assert sorted(shard.attempts for shard in found.shards) == [1, 1, 1, 2]
    assert len(job.table()) == 48
    assert (job.table()["status"] == "ok").all()


def test_more_shards_than_an_array_may_have(job: Job, start: Callable[..., Cluster]) -> None:
    small = start(max_array_size=3)
    library(job.folder / "in", 20)
    job.cluster = small
    jobs = job.finished("shards=7", "at_once=3")
    assert len(jobs["answer"]) == 3
    assert small.states(*jobs["answer"], *jobs["publish"]) == ["COMPLETED"] * 8
    assert job.table()["source"].nunique() == len(job.table()) == 20


def asks_who_wrote(job: Job, count: int, gold: str) -> None:
    """Write documents, and a question about each with its gold answer."""
    library(job.folder / "in", count)
    rows = (f"who,Who wrote report {n}?,{n % 5}/{n:03}.pdf,{gold}" for n in range(count))
    (job.folder / "questions.csv").write_text(
        "\n".join(["question_id,question,document,answer", *rows]) + "\n"
    )


def test_answers_below_the_gate_leave_the_tables_of_the_night_before(job: Job) -> None:
    def night() -> tuple[str, str]:
        jobs = job.submitted("shards=2", "task=qa", "task.questions=questions.csv", "evaluate.min_score=0.5")
        job.cluster.wait(*jobs["answer"], *jobs["publish"])
        (state,) = job.cluster.states(*jobs["publish"])
        return state, job.log(f"publish-{jobs['publish'][0]}.log")

    asks_who_wrote(job, 20, "Ada")
    assert night()[0] == "COMPLETED"
    before = job.table()
    assert len(before) == 20
    # The next night has more documents, and gold answers by which all answers are wrong.
    asks_who_wrote(job, 30, "Bob")
    state, log = night()
    assert state == "FAILED"
    assert "evaluate.min_score=0.5: the tables of before are left" in log
    pd.testing.assert_frame_equal(job.table(), before)
    # Once that is corrected the tables hold what the second night answered; nothing is asked again.
    asks_who_wrote(job, 30, "Ada")
    assert night()[0] == "COMPLETED"
    assert len(job.table()) == 30
    assert len(job.table("requests")) == 30
    history = pd.read_parquet(job.output / "evaluation" / "history.parquet")
    assert history["is_published"].tolist() == [True, False, True]
