"""Kill one of two vLLM servers in the middle of a run, and tell what the other found in its prefix cache.

python benchmarks/two_servers.py FOLDER [--documents 24] [--questions 3] [--serve ARGUMENTS of vllm serve …]

On the CPU with the tiny model that gpu.py writes, unless `--serve` says otherwise. FOLDER holds PDFs with
pages of ordinary size. Prints, before and after the death, the share of prompt tokens that came from the
cache, and how many requests there were; and whether every answer is there once.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pymupdf
from gpu import build_model, pages_of

from pipeline.compose import compose_settings
from pipeline.run import execute

ARGUMENTS = """--config-format mistral --load-format dummy --tokenizer-mode mistral --enforce-eager
    --max-model-len 131072 --max-num-batched-tokens 8192 --limit-mm-per-prompt {"image":30}
    --enable-prefix-caching --enable-prompt-tokens-details --structured-outputs-config
    {"backend":"xgrammar","disable_any_whitespace":true}""".split()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=ARGUMENTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        run(given, Path(work))


def run(given: argparse.Namespace, work: Path) -> None:
    model = build_model(work / "model", "tiny", None)
    write_documents(given.folder, work / "in", given.documents)
    questions = "".join(f"{n},What do the pages say about matter {n}?\n" for n in range(given.questions))
    (work / "q.csv").write_text(f"question_id,question\n{questions}")
    settings = compose_settings([
        f"input={work / 'in'}", f"output={work / 'out'}", "task=qa", f"task.questions={work / 'q.csv'}",
        "engine=server", f"engine.registry={work / 'registry'}", f"model.path={model}",
        "model.image_max_px=256", "task.max_output_tokens=8", "engine.repair_attempts=0",
        "sink.journal_seconds=1",
    ])  # fmt: skip
    with served(work, model, given.serve) as servers:
        killed_at: list[dt.datetime] = []
        killer = threading.Thread(
            target=kill_in_the_middle, args=(servers[0], work / "out", given, killed_at)
        )
        killer.start()
        summary = execute(settings)
        killer.join()
    requests = pd.read_parquet(work / "out" / "requests")
    answers = pd.read_parquet(work / "out" / "answers")
    for name, part in requests.groupby(requests["created_at"] > killed_at[0]):
        share = part["cached_tokens"].sum() / part["prompt_tokens"].sum()
        print(
            f"{'after ' if name else 'before'}  {len(part):4} requests  {share:6.1%} of prompt tokens cached"
        )
    once = not answers.duplicated(["source", "question_id"]).any()
    print(f"{len(answers)} answers of {given.documents * given.questions}, each once: {once};", end=" ")
    print(f"{summary.errors.get('engine_failed', 0)} failed")


def kill_in_the_middle(
    server: subprocess.Popen[bytes], output: Path, given: argparse.Namespace, killed_at: list[dt.datetime]
) -> None:
    """Kill a server, and all that it started, when a third of the replies are journaled."""
    wanted = given.documents * given.questions / 3
    while True:
        with contextlib.suppress(OSError, ValueError):
            if json.loads((output / "run.json").read_text())["summary"]["requests"] >= wanted:
                break
        time.sleep(0.2)
    os.killpg(server.pid, signal.SIGKILL)
    killed_at.append(dt.datetime.now(dt.UTC))


@contextlib.contextmanager
def served(work: Path, model: Path, arguments: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run two servers of the model, which write their addresses into one registry."""
    registry, servers = work / "registry", []
    (registry / "servers").mkdir(parents=True)
    for number in range(2):
        port = str(18000 + os.getpid() % 1000 * 2 + number)
        command = [
            sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--host", "127.0.0.1",
            "--served-model-name", "tiny", "--port", port, *arguments,
        ]  # fmt: skip
        servers.append(subprocess.Popen(command, start_new_session=True))
        (registry / "servers" / f"{number}.url").write_text(f"http://127.0.0.1:{port}/v1\n")
        while not is_well(port) and servers[-1].poll() is None:
            time.sleep(1)
    try:
        yield servers
    finally:
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def is_well(port: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
        return bool(reply.status == 200)
    return False


def write_documents(folder: Path, into: Path, count: int) -> None:
    """Write documents of two pages each, all unlike each other."""
    pool = pages_of(folder)
    into.mkdir()
    for number in range(count):
        with pymupdf.open() as document:
            for place in range(2):
                path, index = pool[(2 * number + place) % len(pool)]
                with pymupdf.open(path) as source:
                    document.insert_pdf(source, from_page=index, to_page=index)
                document[-1].insert_text((20, 20), f"{number} {place}", fontsize=8)
            document.save(into / f"{number:03}.pdf")


if __name__ == "__main__":
    main()
