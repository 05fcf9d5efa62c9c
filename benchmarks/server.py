"""Measure engine=server against the offline engine: the same pages, one after the other, on the same GPU.

python benchmarks/server.py FOLDER OUT.json [OVERRIDE …] --model pixtral_large [--layers 22]

FOLDER holds PDFs with pages of ordinary size; their pages are made into documents of `--pages` pages.
OVERRIDES are the pipeline's, for both, as `engine.quantization=fp8`; what follows `--serve` are arguments
of vllm serve, as `--quantization fp8`. Measured from PDFs to Parquet, once the model is loaded: the offline
engine, then a server with page images in the requests and with images=file, both with the pipeline's
additions to vLLM. Each with 1 and 4 questions about each document, of pages that no other measurement has
shown.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymupdf
from gpu import SHAPES, WRITTEN, build_model, pages_of

from pipeline.compose import compose_settings
from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.base import Engine, EngineContext
from pipeline.run import execute

ROOT = Path(__file__).parents[1]
WAYS = {
    "offline": ("engine=vllm", "+engine.args.load_format=dummy"),
    "server, images in the requests": ("engine=server",),
    "server, images as files": ("engine=server", "engine.images=file"),
}  # fmt: skip
_LOADING_S = 5
"""Seconds that a run waits for its engine: models load for longer, and workers start meanwhile."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="pixtral_large")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--pages", type=int, default=8)
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="last: arguments of vllm serve")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args() if "--serve" not in sys.argv else parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        Benchmark(given, Path(work)).run()


@dataclass
class Benchmark:
    """One model, served in one way after the other."""

    given: argparse.Namespace
    work: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> None:
        self.model = build_model(self.work / "model", self.given.model, self.given.layers)
        self.pool = pages_of(self.given.folder)
        offline = [way for way in self.given.ways if way.startswith("offline")]
        for way in offline:
            self.measure(way)
        if served := [way for way in self.given.ways if way not in offline]:
            with self.served():
                for way in served:
                    self.measure(way)

    def measure(self, way: str) -> None:
        """Run with each number of questions over one open engine, and keep what it took."""
        with Borrowed(self.work / "scratch") as borrowed:
            for count in self.given.questions:
                name = f"{len(self.rows):02}"
                summary = execute(self.settings(name, count, *WAYS[way]))
                seconds = time.monotonic() - borrowed.begun
                assert not summary.errors.get("engine_failed"), summary
                row = {"way": way, "questions": count, "pages": summary.pages, "seconds": seconds}
                row |= {"pages_per_s": summary.pages / seconds, "requests": summary.requests}
                self.rows.append(row | {"cached": summary.cached_tokens / summary.prompt_tokens})
                print(self.rows[-1], flush=True)
                self.given.out.write_text(json.dumps({"command": sys.argv, "rows": self.rows}, indent=1))

    def settings(self, name: str, questions: int, *more: str) -> RunSettings:
        file = self.work / f"{questions}.csv"
        lines = (f"{n},In one sentence: what do the pages say about matter {n}?" for n in range(questions))
        file.write_text("question_id,question\n" + "\n".join(lines) + "\n")
        model = "pixtral_large" if self.given.model == "tiny" else self.given.model
        layers = self.given.layers or SHAPES[self.given.model]["n_layers"]
        return compose_settings([
            f"input={self.documents(name)}", f"output={self.work / 'output' / name}", f"model={model}",
            "task=qa",
            f"task.questions={file}", f"task.max_output_tokens={WRITTEN}", "engine.repair_attempts=0",
            f"model.path={self.model}", f"model.layers={layers}", f"raster.scratch={self.work / 'scratch'}",
            f"engine.registry={self.work / 'registry'}", *self.given.overrides, *more,
        ])  # fmt: skip

    def documents(self, name: str) -> Path:
        """Write documents with pages that no others have: their prefixes are in no cache."""
        folder = self.work / "pdf" / name
        folder.mkdir(parents=True)
        for number in range(self.given.documents):
            with pymupdf.open() as document:
                for place in range(self.given.pages):
                    path, index = self.pool[(number * self.given.pages + place) % len(self.pool)]
                    with pymupdf.open(path) as source:
                        document.insert_pdf(source, from_page=index, to_page=index)
                    document[-1].insert_text((20, 20), f"{name} {number} {place}", fontsize=8)
                document.save(folder / f"{number:04}.pdf")
        return folder

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """Serve the model with the pipeline's additions to vLLM."""
        registry, log = self.work / "registry", self.given.out.with_suffix(".server.log")
        command = [
            sys.executable, "-m", "pipeline.serve", f"registry={registry}", "host=127.0.0.1", "--",
            sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(self.model),
            "--config-format", "mistral", "--load-format", "dummy", "--tokenizer-mode", "mistral",
            "--limit-mm-per-prompt", '{"image": 30}', "--enable-prefix-caching",
            "--enable-prompt-tokens-details",
            "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
            "--max-num-batched-tokens", "8192", "--allowed-local-media-path", str(self.work), "--seed", "0",
            "--scheduler-cls", "pipeline.engines.vllm.scheduler.FullStepScheduler",
            "--worker-extension-cls", "pipeline.engines.vllm.served_worker.ServedWorkerAdditions",
            *self.given.serve,
        ]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        with log.open("wb") as said:
            serving = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        try:
            while not list(registry.glob("servers/*.url")):
                assert serving.poll() is None, f"the server could not be started: see {log}"
                time.sleep(1)
            yield
        finally:
            serving.terminate()
            serving.wait()


class Borrowed:
    """Lets runs share one open engine, which the first of them builds; `begun` is when the latest had it."""

    def __init__(self, scratch: Path) -> None:
        """`scratch`: the folder in which all of them draw."""
        self._scratch = scratch

    def __enter__(self) -> Borrowed:
        self._build, self._stack = choose.build, contextlib.ExitStack()
        self._engine: Engine | None = None
        choose.build = self._lend  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        choose.build = self._build
        self._stack.close()

    def _lend(self, name: str, settings: Any, context: EngineContext) -> Any:
        if self._engine is None:
            context = dataclasses.replace(context, scratch=self._scratch)
            self._engine = self._stack.enter_context(self._build(name, settings, context))
        time.sleep(_LOADING_S)
        self.begun = time.monotonic()
        return Kept(self._engine)


class Kept:
    """An open engine that a run may use and not close."""

    def __init__(self, engine: Engine) -> None:
        self.window_tokens, self.windows_ahead = engine.window_tokens, engine.windows_ahead
        self.put, self.take = engine.put, engine.take

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *error: object) -> None: ...


if __name__ == "__main__":
    main()
