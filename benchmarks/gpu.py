"""Measure the vLLM engine on real GPUs, with random weights in the exact shape of the model.

python benchmarks/gpu.py FOLDER OUT.json [OVERRIDE …] --model pixtral_large [--layers 22] [--measure sweep …]

FOLDER holds PDFs with pages of ordinary size; their pages are made into documents of 1, 8 and 30 pages.
OVERRIDES are the pipeline's, as `engine.quantization=fp8 engine.tensor_parallel=2`. What is measured, on one
engine, with the prompts that the pipeline writes:

sweep      LLM.chat over rendered pages at 1, 8 and 30 pages per request, for several tokens per step:
           the whole, the steady state between beginning and end, and how long these take beyond it;
           with `--ways plain product` also without what the pipeline adds to vLLM
questions  1, 2, 4 and 8 questions per document in the pipeline's order, and 4 document by document
pipeline   `pipeline.run` from PDFs to Parquet, against LLM.chat over the same prompts, already rendered
profile    where the time of the first GPU goes, in steps from the middle of a request of each of --sizes
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import json
import math
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pymupdf

from benchmarks import gpu_time
from benchmarks.steps import Step, noted, steady
from pipeline.asking import windows
from pipeline.compose import compose_settings
from pipeline.config import ModelSettings, RunSettings
from pipeline.engines import base, choose, prefix_gate
from pipeline.engines.vllm import engine as vllm
from pipeline.engines.vllm import host as vllm_host
from pipeline.engines.vllm.backlog import Work
from pipeline.engines.vllm.messages import Prompt
from pipeline.engines.vllm.speed import operations
from pipeline.engines.vllm.translate import write_prompt
from pipeline.flow import session
from pipeline.flow.inputs import find_inputs
from pipeline.flow.session import Session
from pipeline.records import Chunk, Request
from pipeline.run import execute
from pipeline.sharding.balance import balance

WAYS = ("plain", "cutlass", "product")
"""As vLLM comes; the pipeline with vLLM's FP8 products; the pipeline."""
SHAPES: dict[str, dict[str, Any]] = {
    "pixtral_large": {
        "dim": 12288, "n_layers": 88, "head_dim": 128, "hidden_dim": 28672, "n_heads": 96, "n_kv_heads": 8,
        "vocab_size": 32768,
        "vision_encoder": {"hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 48,
                           "num_attention_heads": 16, "image_token_id": 10, "image_break_token_id": 14,
                           "image_end_token_id": 15},
    },
    "pixtral_12b": {
        "dim": 5120, "n_layers": 40, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
        "vocab_size": 131072,
        "vision_encoder": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                           "num_attention_heads": 16, "image_token_id": 10, "image_break_token_id": 12,
                           "image_end_token_id": 13},
    },
    "tiny": {
        "dim": 256, "n_layers": 2, "head_dim": 32, "hidden_dim": 512, "n_heads": 8, "n_kv_heads": 2,
        "vocab_size": 32768,
        "vision_encoder": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
                           "num_attention_heads": 4, "image_token_id": 10, "image_break_token_id": 14,
                           "image_end_token_id": 15},
    },
}  # fmt: skip
WRITTEN = 32
"""Tokens that every reply has at most: the measurements are about reading."""
_PROFILED_PAGES = 30
_PROFILED_STEPS = (4, 5)
"""Steps before the profile, and in it; of these the first and the last do not count."""
_LOADING_S = 5
"""Seconds that a run waits for the engine it borrows: models load for longer, and workers start meanwhile."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="pixtral_large")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--budgets", type=int, nargs="+", default=[8192, 16384, 32768])
    parser.add_argument("--serve-at", type=int, default=8192, help="tokens per step after the sweep")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["product"], help="in `sweep`")
    parser.add_argument("--rounds", type=int, default=1, help="times that `sweep` is measured")
    kinds = ["sweep", "questions", "pipeline"]
    parser.add_argument("--measure", nargs="+", choices=[*kinds, "profile"], default=kinds)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 30], help="pages per request")
    parser.add_argument("--requests", type=int, nargs="+", default=[16, 2, 1], help="requests of each size")
    parser.add_argument("--documents", type=int, default=6, help="of 8 pages, in `questions`")
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--pipeline-sizes", type=int, nargs="+", default=[1, 8, 30])
    parser.add_argument("--pipeline-pages", type=int, nargs="+", default=[96, 96, 90], help="of each size")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        Benchmark(given, Path(work)).run()


class Benchmark:
    """One engine, and what is measured with it."""

    def __init__(self, given: argparse.Namespace, work: Path) -> None:
        self.given, self.work = given, work
        self.model = build_model(work / "model", given.model, given.layers)
        self.scratch = work / "scratch"
        self.scratch.mkdir()
        self.budget = work / "budget"
        os.environ["BENCHMARK_BUDGET"] = str(self.budget)
        os.environ["BENCHMARK_STEPS"] = str(work / "steps")
        os.environ["BENCHMARK_PLAN"] = str(work / "plan.pickle")
        os.environ["BENCHMARK_SERVE_AT"] = str(given.serve_at)
        self.pool = pages_of(given.folder)
        self.results: dict[str, Any] = {
            "command": sys.argv,
            "served_at": given.serve_at,
            "layers": given.layers or self.shape["n_layers"],
        }

    @property
    def shape(self) -> dict[str, Any]:
        return SHAPES[self.given.model]

    @property
    def pipeline_pages(self) -> dict[int, int]:
        return dict(zip(self.given.pipeline_sizes, self.given.pipeline_pages, strict=True))

    def run(self) -> None:
        settings = self.settings("main", self.folder("none", 1, 1))
        self.results["matmul_tflops"] = matmul()
        plan: dict[str, Any] = {"budgets": self.given.budgets, "sweep": {}, "pipeline": {}, "profile": {}}
        plan |= {"ways": self.given.ways, "rounds": self.given.rounds}
        if "sweep" in self.given.measure:
            for size, requests in zip(self.given.sizes, self.given.requests, strict=True):
                plan["sweep"][size] = self.written(f"sweep{size}", size, requests)
        if "profile" in self.given.measure:
            for size in self.given.sizes:
                plan["profile"][size] = self.written(
                    f"profile{size}", size, math.ceil(_PROFILED_PAGES / size)
                )
        if "pipeline" in self.given.measure:
            for size, pages in self.pipeline_pages.items():
                plan["pipeline"][size] = self.written(f"bare{size}", size, max(1, pages // size))
        Path(os.environ["BENCHMARK_PLAN"]).write_bytes(pickle.dumps(plan))
        # By its module's name: the engine's process does not import the script that was started.
        vllm_host.main = importlib.import_module("benchmarks.gpu").measuring_host
        with vllm.VllmEngine(settings.engine.vllm, self.context(settings)) as engine:
            self.results["cache_tokens"] = engine._replicas[0].cache_tokens
            self.bare(plan)
            if "questions" in self.given.measure:
                self.questions(engine)
            if "pipeline" in self.given.measure:
                self.pipeline(engine, plan)
        self.results["gpus"] = gpus()
        self.save()
        print(table(self.results))

    def save(self) -> None:
        self.given.out.write_text(json.dumps(self.results, indent=1))

    # ---- what is read ----

    def settings(self, name: str, folder: Path, *more: str) -> RunSettings:
        model = "pixtral_large" if self.given.model == "tiny" else self.given.model
        layers = self.given.layers or self.shape["n_layers"]
        full = SHAPES[model]["n_layers"]
        overrides = [
            f"input={folder}", f"output={self.work / 'output' / name}", f"model={model}", "task=qa",
            f"model.path={self.model}", f"model.layers={layers}", "engine=vllm",
            "task.question='What does the document say about its purpose?'",
            f"task.max_output_tokens={WRITTEN}", "engine.repair_attempts=0", f"raster.scratch={self.scratch}",
            "+engine.args.load_format=dummy",
            "+engine.args.scheduler_cls=benchmarks.swept_scheduler.SweptScheduler",
            "+engine.args.worker_extension_cls=benchmarks.swept_scheduler.SweptWorker",
            f"engine.max_batched_tokens={max(*self.given.budgets, self.given.serve_at)}",
            *self.given.overrides, *more,
        ]  # fmt: skip
        settings = compose_settings(overrides)
        shrunk = settings.model.parameters_b * (0.03 + 0.97 * layers / full)  # embeddings and images stay
        return dataclasses.replace(
            settings,
            model=dataclasses.replace(
                settings.model, parameters_b=settings.model.parameters_b if layers == full else shrunk
            ),
        )

    def context(self, settings: RunSettings) -> base.EngineContext:
        with self.session(settings) as run:
            log = self.given.out.parent / f"{self.given.out.stem}-engine-{{}}.log"
            return dataclasses.replace(run.context, scratch=self.scratch, log=log, max_output_tokens=WRITTEN)

    def session(self, settings: RunSettings) -> AbstractContextManager[Session]:
        return session.opened(settings, lambda: find_inputs(settings, balance))

    def folder(self, name: str, size: int, count: int) -> Path:
        """Write `count` PDFs of `size` pages each, with pages that no other has."""
        folder = self.work / "pdf" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            with pymupdf.open() as document:
                for place in range(size):
                    path, index = self.pool[(number * size + place) % len(self.pool)]
                    with pymupdf.open(path) as source:
                        document.insert_pdf(source, from_page=index, to_page=index)
                    document[-1].insert_text((20, 20), f"{name} {number} {place}", fontsize=8)
                document.save(folder / f"{number:04}.pdf")
        return folder

    def rendered(self, name: str, size: int, count: int, *more: str) -> list[Chunk]:
        """Render documents and keep the images where the engine may read them."""
        settings = self.settings(name, self.folder(name, size, count), *more)
        keep = self.scratch / name
        keep.mkdir()
        chunks: list[Chunk] = []
        with self.session(settings) as run:
            chunks_of_run = run.agenda.chunks(run.agenda.outlines())
            for window in run.rasterizer.render(windows.windows(chunks_of_run, lambda: 10**12)):
                for chunk in window:
                    pages = [
                        dataclasses.replace(p, image=keep / p.image.name) for p in chunk.pages if p.image
                    ]
                    for page, kept in zip(chunk.pages, pages, strict=True):
                        shutil.copy(str(page.image), str(kept.image))
                    asked = tuple(dataclasses.replace(r, pages=tuple(pages)) for r in chunk.requests)
                    chunks.append(dataclasses.replace(chunk, pages=tuple(pages), requests=asked))
        return chunks

    def written(self, name: str, size: int, count: int) -> list[tuple[Prompt, int]]:
        """Return prompts with their tokens, as the pipeline writes them."""
        requests = [r for chunk in self.rendered(name, size, count) for r in chunk.requests]
        engine = self.settings("main", self.folder("none", 1, 1)).engine.vllm
        return [(write_prompt(Work(r, 0, 0), engine), r.prompt_tokens) for r in requests]

    # ---- what is measured ----

    def bare(self, plan: dict[str, Any]) -> None:
        """Add what the hosts measured with LLM.chat before they began to serve.

        Copies of the model measure at the same time, each over everything: together they take, over one
        share each, the time of one divided by their number.
        """
        hosts = [json.loads(file.read_text()) for file in sorted(self.work.glob("bare-*.json"))]
        copies = len(hosts)
        measured = hosts[0]
        model = self.settings("main", self.folder("none", 1, 1)).model
        for kind in ("sweep", "pipeline"):
            for row, *others in zip(*(host[kind] for host in hosts), strict=True):
                row["seconds"] = statistics.mean(r["seconds"] for r in (row, *others)) / copies
                for rate in ("steady_pages_per_second", "steady_tokens_per_second"):
                    if all(rate in other for other in (row, *others)):
                        row[rate] += sum(other[rate] for other in others)
        for row in measured["sweep"]:
            prompts = plan["sweep"][row["size"]]
            pages = sum(len(prompt.images) for prompt, _ in prompts)  # a short context divides documents
            row |= rates(row["seconds"], [tokens for _, tokens in prompts], pages, model)
            row["tflops_per_gpu"] = row["tflops"] / max(1, measured["gpus"] * copies)
        self.results |= measured | {"copies": copies}
        self.save()

    def questions(self, engine: vllm.VllmEngine) -> None:
        rows: list[dict[str, Any]] = []
        serve(engine, [self.rendered("warm", 2, 2)], together=False)
        for count, by_document in [*((q, False) for q in self.given.questions), (4, True)]:
            name = f"q{count}{'d' if by_document else ''}"
            file = self.work / f"{name}.csv"
            lines = [
                f"{n},In one sentence: what do the pages say about matter number {n}?" for n in range(count)
            ]
            file.write_text("question_id,question\n" + "\n".join(lines) + "\n")
            chunks = self.rendered(
                name, 8, self.given.documents, "task.question=null", f"task.questions={file}"
            )
            begin = time.monotonic()
            grouped = list(windows.windows(chunks, lambda: engine.window_tokens))
            cached, prompt = serve(engine, grouped, together=by_document)
            row = {
                "questions": count,
                "by_document": by_document,
                "documents": len(chunks),
                "windows": len(grouped),
            }
            rows.append(row | {"seconds": time.monotonic() - begin, "cached": cached / prompt})
            print(rows[-1], flush=True)
            self.results["questions"] = rows
            self.save()

    def pipeline(self, engine: vllm.VllmEngine, plan: dict[str, Any]) -> None:
        rows: list[dict[str, Any]] = []
        borrowed = Borrowed(engine)
        choose.build = lambda name, settings, context: borrowed  # type: ignore[assignment, return-value]
        for size, pages in self.pipeline_pages.items():
            count = max(1, pages // size)
            settings = self.settings(f"run{size}", self.folder(f"run{size}", size, count))
            with Utilization() as gpu:
                summary = execute(settings)
                seconds = time.monotonic() - borrowed.begun
            assert summary.failed == summary.errors.get("truncated", 0) + summary.errors.get(
                "repetition", 0
            ), summary
            bare = next(row for row in self.results["pipeline"] if row["size"] == size)
            row = {"size": size, "pages": summary.pages, "bare_seconds": bare["seconds"], "seconds": seconds}
            row |= {"ratio": bare["seconds"] / seconds, **gpu.shares()}
            row |= {f"bare_{name}": bare[name] for name in gpu.shares()}
            rows.append(row)
            print(row, flush=True)
            self.results["pipeline_runs"] = rows
            self.save()


class Borrowed:
    """An open engine that a run may use and not close."""

    def __init__(self, engine: vllm.VllmEngine) -> None:
        self.engine = engine
        self.window_tokens, self.windows_ahead = engine.window_tokens, engine.windows_ahead
        self.put, self.take = engine.put, engine.take

    def __enter__(self) -> Borrowed:
        time.sleep(_LOADING_S)
        self.begun = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None: ...


def serve(engine: vllm.VllmEngine, windows: Sequence[Sequence[Chunk]], together: bool) -> tuple[int, int]:
    """Put windows to the engine, one ahead, and return (cached, all) prompt tokens.

    `together`: nothing is held back, as when a plain list of prompts goes through `LLM.chat`.
    """
    cached = prompt = 0
    turns: dict[str, int] = {}
    left: Counter[int] = Counter()
    engine._gate = AllAtOnce() if together else prefix_gate.PrefixGate()
    for turn, window in enumerate([*windows, []]):
        requests = [request for chunk in window for request in chunk.requests]
        turns.update((request.request_id, turn) for request in requests)
        left[turn] += len(requests)
        engine.put(requests, turn)
        while turn and left[turn - 1]:
            for request, completion in engine.take():
                assert completion.failure is None, completion.failure
                assert completion.prompt_tokens == request.prompt_tokens
                left[turns[request.request_id]] -= 1
                cached += completion.cached_tokens
                prompt += completion.prompt_tokens
    engine._gate = prefix_gate.PrefixGate()
    return cached, prompt


class AllAtOnce(prefix_gate.PrefixGate):
    """Holds nothing back."""

    def defer(self, request: Request) -> bool:
        return False


# ---- in the engine's process ----


def measuring_host(*arguments: Any) -> None:
    """Serve as `vllm_host.main` does, after measuring bare `LLM.chat` on the engine that serves."""
    serve_after = vllm_host.Host.serve
    begin = time.monotonic()

    def measure(self: vllm_host.Host) -> None:
        load_seconds = time.monotonic() - begin
        plan = pickle.loads(Path(os.environ["BENCHMARK_PLAN"]).read_bytes())
        budget = Path(os.environ["BENCHMARK_BUDGET"])
        steps = Path(f"{os.environ['BENCHMARK_STEPS']}-{os.getpid()}")
        found: dict[str, Any] = {"load_seconds": load_seconds, "sweep": [], "pipeline": []}
        config = self._llm.llm_engine.vllm_config
        found["gpus"] = config.parallel_config.world_size

        def use(tokens: int, way: str) -> None:
            budget.write_text(f"{tokens} {way}")
            found["images"] = self._llm.collective_rpc("encode_images", args=(way,))

        planned = [prompts for kind in ("sweep", "pipeline", "profile") for prompts in plan[kind].values()]
        for prompts in planned[:1]:
            chat(self, [prompt for prompt, _ in prompts[:2]])  # warm
        each = itertools.product(range(plan["rounds"]), plan["budgets"], plan["sweep"].items(), plan["ways"])
        for _, tokens, (size, prompts), way in each:  # one way after the other, on the same pages
            use(tokens, way)
            noted(steps)  # of what came before
            seconds = chat(self, [prompt for prompt, _ in prompts])
            row = {"batched_tokens": tokens, "way": way, "size": size, "seconds": seconds}
            row |= in_the_middle(seconds, prompts, noted(steps))
            print(row, flush=True)
            found["sweep"].append(row)
        for way in plan["ways"] if plan["sweep"] else ():
            use(plan["budgets"][0], way)
            found["decode"] = [*found.get("decode", []), {"way": way, **decode(self)}]
        use(int(os.environ["BENCHMARK_SERVE_AT"]), "product")
        for size, prompts in plan["pipeline"].items():
            with Utilization() as gpu:
                seconds = chat(self, [prompt for prompt, _ in prompts])
            found["pipeline"].append({"size": size, "seconds": seconds, **gpu.shares()})
        for size, prompts in plan["profile"].items():
            found.setdefault("profile", {})[size] = profile(self, prompts, budget.parent)
        (budget.parent / f"bare-{os.getpid()}.json").write_text(json.dumps(found))
        serve_after(self)

    vllm_host.Host.serve = measure  # type: ignore[method-assign]
    vllm_host.main(*arguments)


def chat(host: vllm_host.Host, prompts: Sequence[Prompt]) -> float:
    """Return the seconds that LLM.chat takes over prompts, with every cache empty before."""
    llm = host._llm
    llm.reset_prefix_cache()
    llm.reset_mm_cache()
    llm.llm_engine.reset_encoder_cache()
    conversations = [host._conversation(prompt) for prompt in prompts]
    parameters = [host._parameters(prompt) for prompt in prompts]
    begin = time.monotonic()
    outputs = llm.chat(conversations, parameters, use_tqdm=False)
    seconds = time.monotonic() - begin
    assert len(outputs) == len(prompts)
    return seconds


def in_the_middle(
    seconds: float, prompts: Sequence[tuple[Prompt, int]], steps: Sequence[Step]
) -> dict[str, float]:
    """Return the steady rates of a read, and its seconds beyond these: its beginning and end."""
    tokens = sum(count for _, count in prompts)
    found = steady(steps, tokens / sum(len(prompt.images) for prompt, _ in prompts))
    if found:
        found["ramp_seconds"] = seconds - tokens / found["steady_tokens_per_second"]
    return found


def profile(host: vllm_host.Host, prompts: Sequence[tuple[Prompt, int]], folder: Path) -> dict[str, Any]:
    """Return where the time of three full steps goes, on the first GPU."""
    trace = folder / f"trace-{os.getpid()}.json"
    host._llm.collective_rpc("profile_steps", args=(*_PROFILED_STEPS, str(trace)))
    chat(host, [prompt for prompt, _ in prompts])
    return gpu_time.summarise(trace)


def decode(host: vllm_host.Host) -> dict[str, float]:
    """Return how fast replies are written: 32 at a time, 64 tokens each."""
    from vllm import SamplingParams

    conversation = [{"role": "user", "content": "Write something long."}]
    parameters = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)
    begin = time.monotonic()
    host._llm.chat([conversation] * 32, parameters, use_tqdm=False)
    seconds = time.monotonic() - begin
    return {"sequences": 32, "tokens_per_second": 32 * 64 / seconds, "step_ms": 1000 * seconds / 64}


class Utilization:
    """When a GPU ran nothing, as its driver reports it ten times a second."""

    def __enter__(self) -> Utilization:
        self._process = None
        self._file = tempfile.TemporaryFile("w+")
        if shutil.which("nvidia-smi"):
            query = [
                "nvidia-smi",
                "--query-gpu=index,utilization.gpu",
                "--format=csv,noheader,nounits",
                "-lms",
                "100",
                *(["-i", os.environ["CUDA_VISIBLE_DEVICES"]] if "CUDA_VISIBLE_DEVICES" in os.environ else []),
            ]
            self._process = subprocess.Popen(query, stdout=self._file)
        return self

    def __exit__(self, *error: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def shares(self) -> dict[str, Any]:
        """Return how the time went, mean over GPUs; empty without a GPU.

        `before`, `after`: seconds without work at the start and the end. Between these, `idle`: the share of
        the time in which nothing ran, however shortly; `stopped`: the share of the tenths of a second in
        which nothing ran at all; `quiet`: where the first GPU ran less than half, as (second, seconds).
        """
        self._file.seek(0)
        lines = [line.split(",") for line in self._file.read().splitlines() if line.count(",") == 1]
        found = []
        for index in sorted({index for index, _ in lines}):
            values = [int(value) for name, value in lines if name == index]
            busy = [place for place, value in enumerate(values) if value]
            if busy:
                between = values[busy[0] : busy[-1] + 1]
                found.append(
                    {
                        "before": busy[0] / 10,
                        "after": (len(values) - 1 - busy[-1]) / 10,
                        "idle": 1 - statistics.mean(between) / 100,
                        "stopped": between.count(0) / len(between),
                        "quiet": _quiet(values, range(busy[0], busy[-1] + 1)),
                    }
                )
        if not found:
            return {}
        means = {name: statistics.mean(one[name] for one in found) for name in found[0] if name != "quiet"}
        return means | {"quiet": found[0]["quiet"]}


def _quiet(values: Sequence[int], places: Iterable[int]) -> list[tuple[float, float]]:
    runs = [(low, list(run)) for low, run in itertools.groupby(places, lambda place: values[place] < 50)]
    return [(run[0] / 10, len(run) / 10) for low, run in runs if low]


# ---- models, pages, rates ----


def build_model(folder: Path, name: str, layers: int | None) -> Path:
    """Write a model folder in Mistral format, without weights."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    data = Path(str(MistralTokenizer._data_path()))
    folder.mkdir(parents=True)
    if name == "pixtral_12b":
        shutil.copy(data / "tekken_240911.json", folder / "tekken.json")
    else:
        shutil.copy(data / "mistral_instruct_tokenizer_241114.model.v7m1", folder / "tokenizer.model.v7m1")
    shape = {"rope_theta": 1e9, "norm_eps": 1e-5, "max_seq_len": 131072, "max_position_embeddings": 131072}
    shape |= SHAPES[name] | {"n_layers": layers or SHAPES[name]["n_layers"]}
    more = {"num_channels": 3, "image_size": 1024, "patch_size": 16, "rope_theta": 1e4, "adapter_bias": False}
    shape["vision_encoder"] = more | SHAPES[name]["vision_encoder"]
    (folder / "params.json").write_text(json.dumps(shape))
    return folder


def pages_of(folder: Path) -> list[tuple[Path, int]]:
    """List the portrait pages of ordinary size that hold text, in every PDF of a folder."""
    found = []
    for path in sorted(folder.rglob("*.pdf")):
        with pymupdf.open(path) as document:
            for index, page in enumerate(document):
                if 0.70 < page.rect.width / page.rect.height < 0.72 and len(page.get_text()) > 200:
                    found.append((path, index))
    return found


def rates(seconds: float, tokens: Iterable[int], pages: int, model: ModelSettings) -> dict[str, float]:
    """Return pages per second and TFLOP/s: two operations per weight and token, and causal attention."""
    counts = list(tokens)
    flops = sum(sum(operations(count, 0, model)) for count in counts)
    return {
        "pages_per_second": pages / seconds,
        "tflops": flops / seconds / 1e12,
        "tokens": sum(counts),
    }


def matmul() -> dict[str, float]:
    """Return the rate of large matrix products on one GPU, in TFLOP/s, in a process of its own."""
    code = """
import json, torch
def rate(product, n=8192, times=30):
    for _ in range(5): product()
    a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    a.record(); [product() for _ in range(times)]; b.record(); torch.cuda.synchronize()
    return 2 * n**3 * times / a.elapsed_time(b) / 1e9
if torch.cuda.is_available():
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    found = {"bf16": rate(lambda: x @ y)}
    p, q = x.to(torch.float8_e4m3fn), y.t().contiguous().to(torch.float8_e4m3fn).t()
    one = torch.tensor(1.0, device="cuda")
    found["fp8"] = rate(lambda: torch._scaled_mm(p, q, scale_a=one, scale_b=one, out_dtype=torch.bfloat16))
    print(json.dumps(found))
else:
    print("{}")
"""
    return dict(
        json.loads(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        )
    )


def gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


def table(results: dict[str, Any]) -> str:
    """Return what was measured as Markdown."""
    return "\n".join(_lines(results))


def _lines(results: dict[str, Any]) -> Iterator[str]:
    product = results["matmul_tflops"]
    yield (
        f"loaded in {results['load_seconds']:.0f} s; cache {results['cache_tokens']:,} tokens x"
        f" {results['copies']}; matrix product {product}; {results['gpus']}"
    )
    for row in results.get("sweep", ()):
        yield (
            f"| {row['batched_tokens']} | {row['way']} | {row['size']} pages |"
            f" {row['pages_per_second']:.2f} pages/s | {row['tokens'] / row['seconds']:,.0f} tokens/s |"
            f" {row['tflops_per_gpu']:.0f} TFLOP/s per GPU |{_steady(row)}"
        )
    for row in results.get("decode", ()):
        yield f"| {row['way']} | writing | {row['tokens_per_second']:.0f} tokens/s |"
    profiles = {f"{size} pages": found for size, found in results.get("profile", {}).items() if "ms" in found}
    if profiles:
        yield gpu_time.table(profiles)
    for row in results.get("questions", ()):
        kind = "document by document" if row["by_document"] else f"{row['windows']} windows"
        cached = f"{row['cached']:.0%} cached"
        yield f"| {row['questions']} questions | {kind} | {row['seconds']:.1f} s | {cached} |"
    for row in results.get("pipeline_runs", ()):
        shares = {name: f"{row[name]:.1%}" for name in row if name.endswith(("idle", "stopped"))}
        yield f"| {row['size']} pages | {row['ratio']:.3f} of bare LLM.chat | {shares} |"


def _steady(row: dict[str, float]) -> str:
    if "ramp_seconds" not in row:  # too short to have a middle
        return ""
    pages, tokens = row["steady_pages_per_second"], row["steady_tokens_per_second"]
    return f" steady {pages:.2f} pages/s, {tokens:,.0f} tokens/s | ramp {row['ramp_seconds']:.1f} s |"


if __name__ == "__main__":
    main()
