"""What a request and an answer are: by which settings, pages and words a stored reply is known again.

Every setting has an effect, listed here. Those that can change what an engine says are part of the identity
of every request and answer: change one, and the question is asked anew. Those that only change what is made
of a reply are part of the answer's `settings_hash`: change one, and the answer is made again of the stored
reply.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.base import Served
from pipeline.reading.draw import DRAWING
from pipeline.records import Question, Request, Subject
from pipeline.texts import fingerprint

DERIVATION = 2
"""Raised when the code makes other answers of the same replies: they are then made again, without asking."""


class Effect(Enum):
    """What changing a setting does to answers that are there already."""

    ASKS = "asks again"
    DERIVES = "derives again"
    NEITHER = "changes none"


_ASKS, _DERIVES, _NEITHER = Effect.ASKS, Effect.DERIVES, Effect.NEITHER

EFFECTS: dict[str, Effect] = {
    "input": _NEITHER, "output": _NEITHER, "plan": _NEITHER, "strict": _NEITHER, "retry_errors": _NEITHER,
    "pilot": _NEITHER, "cost.gpu_hour_price": _NEITHER, "cost.core_hour_price": _NEITHER,
    "budget.gpu_hours": _NEITHER, "budget.money": _NEITHER,
    "shard.index": _NEITHER, "shard.count": _NEITHER, "shard.planned": _NEITHER,
    # Which files are inputs: their bytes, not these, identify an answer.
    "source.include": _NEITHER, "source.exclude": _NEITHER, "source.follow_links": _NEITHER,
    # What can be drawn at all, and how fast; pages that could not be drawn are not among those of a request.
    "raster.workers": _NEITHER, "raster.page_timeout_s": _NEITHER, "raster.worker_memory_mb": _NEITHER,
    "raster.max_megapixels": _NEITHER, "raster.password": _NEITHER, "raster.passwords": _NEITHER,
    "raster.scratch": _NEITHER,
    "raster.crop": _ASKS,
    # Which pages share a request.
    "pack.max_images": _ASKS, "pack.window_tokens": _NEITHER,
    "model.context_tokens": _ASKS, "model.max_images": _ASKS,
    # Whose words they are, and what it is shown.
    "model.name": _ASKS, "model.path": _ASKS, "model.repository": _ASKS, "model.tokenizer": _ASKS,
    "model.tokenizer_version": _ASKS, "model.image_max_px": _ASKS, "model.image_patch_px": _ASKS,
    "model.system_prompt": _ASKS,
    "model.license": _NEITHER, "model.license_url": _NEITHER, "model.notice": _NEITHER,
    # Used for predictions and for what fits where.
    "model.parameters_b": _NEITHER, "model.layers": _NEITHER, "model.width": _NEITHER,
    "model.kv_heads": _NEITHER, "model.head_dim": _NEITHER, "model.gpus": _NEITHER,
    # A task of another name is another task: both keep their rows in one output.
    "task.name": _ASKS, "task.scope": _ASKS, "task.instruction": _ASKS, "task.schema": _ASKS,
    "task.labels": _ASKS, "task.evidence": _ASKS, "task.max_output_tokens": _ASKS,
    # The text of each question is part of its own answers' identity.
    "task.question": _NEITHER, "task.questions": _NEITHER,
    "task.answer_field": _DERIVES,
    "engine.name": _ASKS,
    # An attempt more or less: replies that need none stay as they are.
    "engine.review_below": _DERIVES, "engine.calibration": _DERIVES, "engine.repair_attempts": _DERIVES,
    "engine.embedded.passage_chars": _ASKS,
    "engine.embedded.workers": _NEITHER, "engine.embedded.page_timeout_s": _NEITHER,
    "engine.embedded.worker_memory_mb": _NEITHER,
    "engine.embedded.window_tokens": _NEITHER,
    # Numbers and sampling of the model. Layouts round differently, no more than batches of other sizes do.
    "engine.vllm.quantization": _ASKS, "engine.vllm.args": _ASKS, "engine.vllm.repetition_tokens": _ASKS,
    "engine.vllm.repetition_count": _ASKS, "engine.vllm.repetition_penalty": _ASKS,
    "engine.vllm.tensor_parallel": _NEITHER, "engine.vllm.replicas": _NEITHER,
    "engine.vllm.gpu_memory_utilization": _NEITHER, "engine.vllm.max_batched_tokens": _NEITHER,
    "engine.vllm.max_sequences": _NEITHER, "engine.vllm.eager": _NEITHER,
    "engine.vllm.max_restarts": _NEITHER, "engine.vllm.load_timeout_s": _NEITHER,
    "engine.vllm.stall_timeout_s": _NEITHER,
    "evaluate.gold": _NEITHER, "evaluate.min_score": _NEITHER, "evaluate.profile": _NEITHER,
    "evaluate.metric": _NEITHER, "evaluate.right_from": _NEITHER,
    # Which servers they are and how they are reached; what they serve is asked of them.
    "engine.server.urls": _NEITHER, "engine.server.registry": _NEITHER, "engine.server.served_model": _ASKS,
    "engine.server.key_variable": _NEITHER, "engine.server.images": _NEITHER,
    "engine.server.max_concurrency": _NEITHER, "engine.server.request_timeout_s": _NEITHER,
    "engine.server.attempts": _NEITHER, "engine.server.outage_s": _NEITHER,
    "engine.server.load_timeout_s": _NEITHER, "engine.server.repetition_tokens": _ASKS,
    "engine.server.repetition_count": _ASKS, "engine.server.repetition_penalty": _ASKS,
    "sink.journal_seconds": _NEITHER, "sink.journal_parts": _NEITHER, "sink.checkpoint_rows": _NEITHER,
}  # fmt: skip

# Arguments of vLLM by which it places or schedules its work, and writes its logs.
_PLACING_ARGUMENTS = frozenset(
    """device tensor_parallel_size pipeline_parallel_size data_parallel_size distributed_executor_backend
    gpu_memory_utilization max_num_batched_tokens max_num_seqs enforce_eager scheduling_policy scheduler_cls
    worker_extension_cls num_gpu_blocks_override block_size disable_log_stats max_parallel_loading_workers
    enable_prefix_caching""".split()
)


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The identity of what one run asks and answers."""

    asked_with: str
    """Of all that can change a reply but the pages and the question."""
    settings_hash: str
    """Of that and of all that answers are derived by: the column of that name."""

    def answer_id(self, subject: Subject, question: Question) -> str:
        """Identify the answer to a question about a page, a document or a folder."""
        # A folder's labels name its files; those of a document follow from its bytes.
        labels = [page.label for page in subject.pages] if subject.scope == "folder" else []
        # Without bytes a file is known by its name: else all that cannot be read would share one row's error.
        place = (subject.document_id or subject.source, subject.page or "", *labels)
        return fingerprint(self.asked_with, *place, question.text)

    def identified(self, request: Request) -> Request:
        """Return a request with its identity: the pages that it really shows, and every word of it."""
        pages = (
            part
            for page in request.pages
            for part in (page.document.document_id, page.number, page.width_px, page.height_px, page.label)
        )
        attempt: tuple[object, ...] = (request.attempt, request.fault or "")
        # Two groups of parts that say the same have the same words, but each has a reply of its own.
        if request.kind == "merge" and request.position:
            attempt = (*attempt, request.position)
        known_as = fingerprint(request.cell.answer_id, request.kind, request.prompt, *attempt, *pages)
        return dataclasses.replace(request, request_id=known_as)


def of(
    settings: RunSettings, engine: str, schema: object, system_prompt: str, served: Served | None = None
) -> Identity:
    """Return the identity of a run whose engine, reply schema and unfilled system prompt are known.

    `served`: what its servers serve, where they are its engine.
    """
    values = dict(leaves(settings))
    # What `auto` chose counts: the same setting may choose otherwise on another machine.
    values["engine.name"] = engine
    values["task.schema"] = schema  # a file's contents count, not its name
    values["model.system_prompt"] = system_prompt
    # By content: the same weights in another place give the same replies.
    values["model.path"] = weights_identity(settings.model.path) if engine == "vllm" else None
    if served is not None:
        values["engine.server.served_model"], values["served.version"] = served.model, served.version
    values["engine.vllm.args"] = {
        name: given for name, given in settings.engine.vllm.args.items() if name not in _PLACING_ARGUMENTS
    }
    values["engine.calibration"] = _contents(settings.engine.calibration)
    # Settings of an engine that does not answer change no reply.
    others = [f"engine.{name}." for name in ("embedded", "vllm", "server") if name != engine]
    of_this_engine = {k: v for k, v in values.items() if not k.startswith(tuple(others))}
    asked_with = fingerprint(_fingerprint(of_this_engine, Effect.ASKS), DRAWING, choose.REPLIES[engine])
    derived = _fingerprint(of_this_engine, Effect.DERIVES)
    return Identity(asked_with, fingerprint(asked_with, derived, DERIVATION))


def _contents(file: str | None) -> str | None:
    return Path(file).read_text(encoding="utf-8") if file and Path(file).is_file() else file


def leaves(settings: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every setting with its full name."""
    assert dataclasses.is_dataclass(settings)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def weights_identity(path: str | None) -> str:
    """Identify the weights in a folder by their files' names, sizes and samples; "" without a folder.

    The same weights elsewhere are the same, and others under the same path are not.
    """
    folder = Path(path) if path else None
    if folder is None or not folder.is_dir():
        return path or ""
    # Mistral's format has params.json, that of Hugging Face config.json.
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("params.json"), *folder.glob("config.json")])
    return fingerprint(*(part for file in files for part in (file.name, file.stat().st_size, _sample(file))))


_SAMPLE_BYTES = 1 << 16
_SAMPLES = 8


def _sample(file: Path) -> str:
    """Hash a file's bytes at a few places: reading hundreds of gigabytes would take minutes."""
    size, digest = file.stat().st_size, hashlib.sha256()
    with file.open("rb") as opened:
        for number in range(_SAMPLES):
            opened.seek(number * max(0, size - _SAMPLE_BYTES) // max(1, _SAMPLES - 1))
            digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _fingerprint(values: Mapping[str, object], effect: Effect) -> str:
    # A setting that someone forgot to list asks again: too much work is better than a stale answer.
    chosen = {name: value for name, value in values.items() if EFFECTS.get(name, _ASKS) is effect}
    return fingerprint(json.dumps(chosen, sort_keys=True, default=str, ensure_ascii=True))
