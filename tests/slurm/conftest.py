"""Runs on a real Slurm: submitted as a user submits them, with the embedded engine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pymupdf
import pytest
from cluster import Cluster

from pipeline.sharding.progress import Status, status
from pipeline.slurm import submitted

REPOSITORY = Path(__file__).parent.parent.parent
SMALL = ["engine=embedded", "raster.workers=1", "engine.workers=1", "gpus=8"]


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., Cluster]]:
    """Start clusters, and end them with the session."""
    with ExitStack() as stack:

        def make(**settings: int) -> Cluster:
            # A short path: Unix sockets have no room for more.
            folder = tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)
            made = Cluster(Path(stack.enter_context(folder)), **settings)
            made.environment["DOCBATCH_PYTHON"] = sys.executable
            stack.callback(made.down)
            made.up()
            return made

        yield make


@pytest.fixture(scope="session")
def cluster(start: Callable[..., Cluster]) -> Cluster:
    return start()


class Job(SimpleNamespace):
    """One output directory and the jobs that write it."""

    cluster: Cluster
    folder: Path
    output: Path
    arguments: list[str]
    environment: dict[str, str]
    """Of its tasks, beside the cluster's."""

    def pace(self, seconds: float) -> None:
        """Let tasks take so long for a request at least: 60 pages are two, and a third that merges them."""
        paced = self.folder / "paced-python"
        paced.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "paced.py"} "$@"\n')
        paced.chmod(0o755)
        self.environment |= {"DOCBATCH_PYTHON": str(paced), "PACE_S": str(seconds)}

    def submit(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run jobs/submit.sh."""
        command = [str(REPOSITORY / "jobs" / "submit.sh"), *self.arguments, *more]
        return subprocess.run(
            command,
            env=self.cluster.environment | self.environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )

    def submitted(self, *more: str) -> dict[str, list[str]]:
        """Submit, and return the ids of the jobs."""
        done = self.submit(*more)
        assert done.returncode == 0, done.stdout + done.stderr
        return submitted(self.output)

    def finished(self, *more: str) -> dict[str, list[str]]:
        """Submit, wait for the end, and return the ids of the jobs."""
        jobs = self.submitted(*more)
        self.cluster.wait(*(job for each in jobs.values() for job in each))
        return jobs

    def status(self) -> Status:
        return status(str(self.output))

    def until(self, happened: Callable[[Status], bool], seconds: float = 120) -> Status:
        """Wait until the status, read while the jobs run, says so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (self.output / "plan.parquet").exists() and happened(found := self.status()):
                return found
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds:g} s; see {self.output}")

    def table(self, name: str = "answers") -> pd.DataFrame:
        return pd.read_parquet(self.output / name)

    def log(self, name: str) -> str:
        return "\n".join(file.read_text() for file in sorted((self.output / "logs").glob(name)))

    def done(self, what: str) -> int:
        """Return how many pages were read, or requests answered, in all attempts of all tasks of the plan."""
        from pipeline.sharding import shards
        from pipeline.sharding.progress import attempts

        tried = attempts(self.output, shards.read(self.output))
        return sum(int(getattr(each.summary, what)) for tries in tried.values() for each in tries)


@pytest.fixture
def job(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """An empty output; `status` in this process asks the same cluster."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    output = tmp_path / "runs" / "out"
    return Job(
        cluster=cluster,
        folder=tmp_path,
        output=output,
        arguments=["input=in", "output=runs/out", *SMALL],
        environment={},
    )


def write_pdf(path: Path, *texts: str) -> None:
    """Write a document with one page per text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pymupdf.open() as document:
        for text in texts:
            document.new_page(width=595, height=842).insert_text((40, 60), text, fontsize=11)
        document.save(path)


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what must not depend on how the work was divided."""
    columns = [
        "answer_id",
        "source",
        "question_id",
        "status",
        "error_code",
        "answer",
        "pages_read",
        "pages_total",
    ]
    chosen = table[columns].astype(object)
    return list(chosen.where(chosen.notna(), None).sort_values(["source", "question_id"]).to_dict("records"))


def lasting(table: pd.DataFrame) -> list[str]:
    """Return the rows of a table, sorted, with every column but those that tell when and by what run."""
    passing = [name for name in table if name in ("run_id", "created_at") or name.endswith("_seconds")]
    return sorted(table.drop(columns=passing).to_json(orient="records", lines=True).splitlines())
