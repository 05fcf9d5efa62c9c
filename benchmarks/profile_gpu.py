"""Profile the reading of pages on a GPU, and compare ways of running vLLM on one loaded model.

python -m benchmarks.profile_gpu FOLDER OUT.json [OVERRIDE …] --layers 22 --trial name=baseline
    --trial name=full,cache=24576,budget=12288,images=packed --trial name=profile,profile=1

FOLDER and OVERRIDES are as for benchmarks/gpu.py. Every trial reads the same pages. What it changes:

step=8192           tokens a step
cache=0, budget=0   embeddings of images kept, and computed in a step; 0: as many as `step`, as vLLM does
images, product     ways through the encoder and the FP8 products: see benchmarks/encoder_paths.py
guided=1            0: replies are not held to the task's schema
sizes=1+8+30        pages per request, of --sizes
profile=0           1: a profile in place of a rate

vLLM's engine runs in this process, so that its scheduler can be changed and its steps seen. The workers of
several GPUs are processes of their own: they can be compared here, not profiled.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from benchmarks import gpu, gpu_time
from benchmarks.steps import Step, steady
from pipeline.asking import tokens
from pipeline.engines.vllm import guide, host, launch, messages

_WARM_STEPS, _PROFILED_STEPS = 3, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    name: str
    step: int = 8192
    cache: int = 0
    budget: int = 0
    images: str = "plain"
    product: str = "cutlass"
    guided: int = 1
    sizes: str = ""
    profile: int = 0

    @classmethod
    def parse(cls, text: str) -> Trial:
        """Read `name=wide,cache=32768`."""
        types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        given = dict(item.split("=", 1) for item in text.split(","))
        values: dict[str, Any] = {k: int(v) if types[k] == "int" else v for k, v in given.items()}
        return cls(**values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=gpu.SHAPES, default="pixtral_large")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 30], help="pages per request")
    parser.add_argument("--requests", type=int, nargs="+", default=[48, 6, 1], help="requests of each size")
    parser.add_argument("--trial", type=Trial.parse, action="append", required=True)
    parser.add_argument("--scheduler", help="a class for scheduler_cls")
    parser.add_argument("--most", type=int, default=16384, help="tokens a step that the engine is built for")
    parser.add_argument("--check", action="store_true", help="compare the ways through the encoder first")
    parser.add_argument(
        "--until", type=float, help="start no trial later than this (seconds since the epoch)"
    )
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args()
    # What gpu.Benchmark reads besides.
    given.budgets, given.serve_at = [given.most], given.most
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        Profile(given, Path(work)).run()


class Profile:
    """One engine in this process, and what is measured with it."""

    def __init__(self, given: argparse.Namespace, work: Path) -> None:
        self.given, self.work = given, work
        self.bench = gpu.Benchmark(given, work)
        self.results: dict[str, Any] = self.bench.results | {"gpus": gpu.gpus(), "trials": []}
        self.steps: list[Step] = []
        self.requested = dict(zip(given.sizes, given.requests, strict=True))

    def run(self) -> None:
        begin = time.monotonic()
        prompts = {
            size: self.bench.written(f"p{size}", size, count) for size, count in self.requested.items()
        }
        self.results["written_seconds"] = time.monotonic() - begin
        self.load()
        self.render(prompts)
        if self.given.check:
            self.check()
        self.read(self.inputs[self.given.sizes[0]][:3], Trial(name="warm"))
        for trial in self.given.trial:
            sizes = [int(size) for size in trial.sizes.split("+")] if trial.sizes else self.given.sizes
            for size in sizes:
                if self.given.until and time.time() > self.given.until:
                    print("no time left for", trial.name, size, flush=True)
                else:
                    self.measure(trial, size)
        self.llm.llm_engine.engine_core.shutdown()

    # ---- the engine ----

    def load(self) -> None:
        begin = time.monotonic()
        from vllm import LLM

        self.results["import_seconds"] = time.monotonic() - begin
        settings = self.bench.settings("main", self.bench.folder("none", 1, 1))
        context = self.bench.context(settings)
        parallel = settings.engine.vllm.tensor_parallel or 1
        arguments = launch.llm_arguments(settings.engine.vllm, context, str(self.bench.model), parallel)
        arguments |= {"scheduler_cls": self.given.scheduler}
        begin = time.monotonic()
        self.llm = LLM(**arguments)
        self.results["load_seconds"] = time.monotonic() - begin
        tokens.skip_pixels(self.llm.get_tokenizer().instruct)
        config = self.llm.llm_engine.vllm_config
        self.results["cache_tokens"] = config.cache_config.num_gpu_blocks * config.cache_config.block_size
        self.results["v2_model_runner"] = getattr(config, "use_v2_model_runner", None)
        self.results["async_scheduling"] = config.scheduler_config.async_scheduling
        self.results["gpus_per_copy"] = parallel
        self.model = settings.model
        envelope = guide.guide(context.envelope, context.max_output_tokens) if context.envelope else None
        sampling = messages.Sampling(
            context.system_prompt,
            context.max_output_tokens,
            envelope,
            settings.engine.vllm.repetition_tokens,
            settings.engine.vllm.repetition_count,
        )
        self.host = host.Host(self.llm, sampling, None, None)  # type: ignore[arg-type]
        self.scheduler = self.llm.llm_engine.engine_core.engine_core.scheduler
        manager = self.scheduler.encoder_cache_manager
        self.results["scheduler"] = {
            "class": type(self.scheduler).__name__,
            "cache": manager.cache_size,
            "budget": self.scheduler.max_num_encoder_input_tokens,
            "step": self.scheduler.max_num_scheduled_tokens,
        }
        self.log_steps()
        print({key: value for key, value in self.results.items() if key != "command"}, flush=True)
        self.save()

    def log_steps(self) -> None:
        """Keep the time, tokens and images of every step that ends."""
        update = self.scheduler.update_from_output

        def logged(output: Any, *more: Any, **named: Any) -> Any:
            images = sum(len(each) for each in output.scheduled_encoder_inputs.values())
            self.steps.append(Step(time.monotonic(), output.total_num_scheduled_tokens, images))
            return update(output, *more, **named)

        self.scheduler.update_from_output = logged

    def render(self, prompts: dict[int, list[tuple[messages.Prompt, int]]]) -> None:
        """Read and tokenize every prompt once: a run renders beside the GPU."""
        begin = time.monotonic()
        self.inputs = {
            size: [self.llm._preprocess_chat_one(self.host._conversation(prompt)) for prompt, _ in found]
            for size, found in prompts.items()
        }
        self.counts = {size: [count for _, count in found] for size, found in prompts.items()}
        self.parameters = self.host._parameters(next(iter(prompts.values()))[0][0])
        self.results["render_seconds"] = time.monotonic() - begin
        self.results["tokens_per_request"] = {s: statistics.mean(c) for s, c in self.counts.items()}

    def use(self, trial: Trial) -> None:
        """Change the engine as the trial says, with every cache empty."""
        from benchmarks import encoder_paths

        self.llm.collective_rpc(encoder_paths.choose, args=(trial.images, trial.product))
        assert trial.step <= self.given.most
        self.scheduler.max_num_scheduled_tokens = trial.step
        self.scheduler.max_num_encoder_input_tokens = max(trial.budget or trial.step, 4096)
        self.scheduler.encoder_cache_manager.cache_size = max(trial.cache or trial.step, 4096)
        assert self.llm.reset_prefix_cache()
        self.llm.llm_engine.reset_encoder_cache()
        self.steps.clear()

    # ---- what is measured ----

    def check(self) -> None:
        """Compare what the encoder comes to by each way, with random weights of trained size.

        Replies are not compared: those of random weights hardly depend on the images.
        """
        from benchmarks import encoder_paths

        self.llm.collective_rpc(encoder_paths.randomise)
        self.results["difference"] = self.llm.collective_rpc(encoder_paths.check)[0]
        print("difference from the dense mask:", self.results["difference"], flush=True)
        self.save()

    def enqueue(self, inputs: Sequence[Any], trial: Trial) -> None:
        parameters = self.parameters.clone()
        if not trial.guided:
            parameters.structured_outputs = None
        for rank, each in enumerate(inputs):
            self.llm._add_request(each, parameters.clone(), priority=rank)

    def read(self, inputs: Sequence[Any], trial: Trial) -> float:
        """Return the seconds that the engine takes from the first step to the last."""
        self.use(trial)
        self.enqueue(inputs, trial)
        engine = self.llm.llm_engine
        begin = time.monotonic()
        while engine.has_unfinished_requests():
            engine.step()
        seconds = time.monotonic() - begin
        self.drain()
        return seconds

    def drain(self) -> None:
        """Take back what the engine still has under way after the last reply."""
        engine = self.llm.llm_engine
        while engine.engine_core.engine_core.batch_queue:
            engine.step()

    def measure(self, trial: Trial, size: int) -> None:
        row: dict[str, Any] = dataclasses.asdict(trial) | {"size": size, "at": time.time()}
        self.llm.collective_rpc(reset_peak)
        try:
            row |= self.profile(trial, size) if trial.profile else self.rate(trial, size)
        except Exception as error:  # the other trials are still worth their time
            row["error"] = f"{type(error).__name__}: {str(error)[:500]}"
            self.results["trials"].append(row)
            self.save()
            print(row, flush=True)
            raise
        row["peak_gib"] = max(self.llm.collective_rpc(peak))
        self.results["trials"].append(row)
        self.save()
        short = {key: value for key, value in row.items() if key not in ("profile_found", "step_log")}
        print(short, flush=True)

    def rate(self, trial: Trial, size: int) -> dict[str, Any]:
        seconds = self.read(self.inputs[size], trial)
        counts = self.counts[size]
        pages = size * self.requested[size]
        found = gpu.rates(seconds, counts, pages, self.model) | {"seconds": seconds, "pages": pages}
        found["tokens_per_second"] = sum(counts) / seconds
        found |= steady(self.steps, sum(counts) / pages)
        log = [(round(s.ended - self.steps[0].ended, 3), s.tokens, s.images) for s in self.steps]
        return found | {"step_log": [each for each in log if each[1] >= 64]}

    def profile(self, trial: Trial, size: int) -> dict[str, Any]:
        """Profile steps from the middle of a short read."""
        import torch

        if not hasattr(self, "_marked"):
            self._marked = True
            self.llm.collective_rpc(gpu_time.mark)
            with torch.profiler.profile(activities=activities()):  # the first one takes seconds to start
                torch.ones(1)
        pages = min(size * len(self.inputs[size]), 30)
        self.use(trial)
        self.enqueue(self.inputs[size][: max(1, pages // size)], trial)
        engine = self.llm.llm_engine
        while engine.has_unfinished_requests() and len(self.steps) < _WARM_STEPS:
            engine.step()
        with torch.profiler.profile(activities=activities()) as profiler:
            for _ in range(_PROFILED_STEPS):
                engine.step()
        while engine.has_unfinished_requests():
            engine.step()
        self.drain()
        trace = self.work / f"{trial.name}-{size}.json"
        profiler.export_chrome_trace(str(trace))
        found = gpu_time.summarise(trace)
        found["trace_mb"] = trace.stat().st_size / 1e6
        trace.unlink()
        if "ms" in found:
            print(gpu_time.table({f"{trial.name}, {size} pages": found}), found["steps"], flush=True)
        return {"profile_found": found}

    def save(self) -> None:
        temporary = self.given.out.with_suffix(".part")
        temporary.write_text(json.dumps(self.results, indent=1, default=str))
        temporary.replace(self.given.out)


def activities() -> list[Any]:
    from torch.profiler import ProfilerActivity

    return [ProfilerActivity.CPU, ProfilerActivity.CUDA]


def reset_peak(worker: Any) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak(worker: Any) -> float:
    """Return the most memory that was allocated since `reset_peak`, in GiB."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


if __name__ == "__main__":
    main()
