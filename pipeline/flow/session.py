"""Put the stages together for one run: what each needs of another is handed to it here."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pipeline.answering import reduce, settle
from pipeline.asking import pack, prompt, schema, tokens, writer
from pipeline.asking import questions as task
from pipeline.config import RunSettings
from pipeline.engines import base, choose
from pipeline.errors import Interrupted, PipelineError, SettingsError
from pipeline.flow import account, progress
from pipeline.reading import draw, language, raster, scratch, source
from pipeline.records import (
    Answer,
    Cell,
    Chunk,
    Completion,
    Document,
    Failure,
    Outline,
    Page,
    Request,
    Subject,
    Summary,
    Window,
    fingerprint,
    matches,
)
from pipeline.sharding import balance, plan, shards
from pipeline.tables import ledger, sink

log = logging.getLogger("pipeline")


class Assembly:
    """The open parts of a run. Use as a context manager."""

    def __init__(
        self, settings: RunSettings, found: source.Found | None = None, plan: shards.Plan | None = None
    ) -> None:
        """`found` are the inputs where a `plan` says which; otherwise `settings` do."""
        self.settings = settings
        self._plan = plan
        self._earlier: list[dict[str, Any]] = []
        self._questions = task.questions(settings.task)
        self._envelope = schema.envelope(settings.task)
        self._found = found or self._find()
        self._engine_name, reason = choose.choose(settings.engine, settings.model)
        self._identity = choose.identity(self._engine_name, settings.model)
        log.info("engine=%s: %s", self._engine_name, reason)
        self._account = account.Account(settings, self._engine_name, self._identity)
        self.summary = self._account.summary
        self._asked: set[str] = set()
        self._window_numbers: dict[str, int] = {}
        self._left: Counter[int] = Counter()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        settings, stack = self.settings, self._stack
        with ExitStack() as building:
            template = prompt.system_prompt_template(settings.model)
            self.settings_hash = self._hash(template)
            self._check_plan()
            output = Path(settings.output)
            stamp = {
                "model": self._identity,
                "engine": self._engine_name,
                "task": settings.task.name,
                "run_id": self._account.run_id,
                "settings_hash": self.settings_hash,
            }
            kinds = schema.field_kinds(settings.task)
            self.tables = building.enter_context(
                sink.Tables(output, settings.shard, settings.sink, stamp, kinds, self._account.begun)
            )
            self._system = prompt.fill_system_prompt(template, settings.model.name, self.tables.first_date())
            counter = tokens.TokenCounter(settings.model, self._system)
            self._writer = writer.Writer(settings.task, self._envelope, counter)
            place = fingerprint(output.resolve(), sink.shard_name(settings.shard))
            folder = scratch.choose(settings.raster.scratch, f"docbatch-{place}-{self._account.run_id[:8]}")
            geometry = draw.Geometry(settings.model.image_max_px, settings.model.image_patch_px)
            self.rasterizer = building.enter_context(raster.Rasterizer(settings.raster, geometry, folder))
            self.progress = building.enter_context(progress.Progress(self.summary))
            self._ledger = ledger.Ledger(language.detect_language)
            self._reducer = reduce.Reducer(
                envelope=self._envelope,
                evidence=settings.task.evidence,
                answer_field=settings.task.answer_field,
                review_below=settings.engine.review_below,
                write_merge=self._writer.merge,
                write_again=self._writer.again,
                room_tokens=self._prompt_room,
                repair_attempts=0 if self._engine_name == "embedded" else settings.engine.repair_attempts,
            )
            stack.push(building.pop_all())
        self._earlier = account.attempts_before(self.tables.read_run(), self._plan_id)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _find(self) -> source.Found:
        settings = self.settings
        if not settings.shard.planned:
            return source.find(settings.input, settings.source, settings.shard, balance.balance)
        self._plan = shards.read_for(Path(settings.output), settings.shard)
        mine = self._plan.of(settings.shard.index)
        paths = (Path(os.fsdecode(path)) for path in mine["path"].to_pylist())
        return source.Found(
            source.listed(zip(paths, mine["source"].to_pylist(), strict=True), settings.source)
        )

    def _check_plan(self) -> None:
        """Refuse to work on a plan that was made for other answers."""
        if self._plan is not None and self._plan.settings_hash != self.settings_hash:
            raise SettingsError(
                f"output={self.settings.output}: plan.parquet was made with other settings of model, task or"
                f" engine (here: {self._identity}, {self.settings.task.name}); repeat those or plan again"
            )

    def build_engine(self) -> base.Engine:
        """Build the engine; it is closed with the run."""
        shard = f"-{sink.shard_name(self.settings.shard)}" if self.settings.shard.count > 1 else ""
        context = base.EngineContext(
            model=self.settings.model,
            envelope=self._envelope,
            system_prompt=self._system,
            max_output_tokens=self.settings.task.max_output_tokens,
            scratch=self.rasterizer.scratch,
            log=Path(self.settings.output)
            / "logs"
            / f"engine-{self._account.begun:%Y-%m-%dT%H-%M-%S}{shard}-{{}}.log",
            adapt_tokenizer=tokens.skip_pixels,
            detect_language=language.detect_language,
        )
        # A second's work, for which the engine would wait later; while the model loads it costs nothing.
        warm_up = threading.Thread(target=language.warm_up, name="warm-up")
        warm_up.start()
        self.engine = self._stack.enter_context(
            choose.build(self._engine_name, self.settings.engine, context)
        )
        warm_up.join()  # py3langid must not be used while it is set up
        return self.engine

    @property
    def window_tokens(self) -> int:
        """Prompt tokens that may be in flight together."""
        return min(self.settings.pack.window_tokens, self.engine.window_tokens)

    # ---- from documents to chunks ----

    def outlines(self) -> Iterator[Outline]:
        """Yield the outline of every input, in order."""
        for outline in self.rasterizer.outlines(self._found.documents, self._known):
            self.summary.inputs += 1
            self.tables.meet(outline.document)
            yield outline

    def chunks(self, outlines: Iterator[Outline]) -> Iterator[Chunk]:
        """Yield what is to be rendered, with the requests still to be made about it."""
        scope = self.settings.task.scope
        for members, subjects in pack.subjects(outlines, scope):
            cells = [(subject, self._cells(subject)) for subject in subjects]
            todo = [(subject, [c for c in asked if self._is_new(c)]) for subject, asked in cells]
            incomplete = any(asked for _, asked in cells) and any(
                self._lacks_row(o.document) for o in members
            )
            self._open_rows(members, looked_at=incomplete)
            if scope == "folder":
                self.tables.meet_folder(subjects[0])
            for subject, new in todo:
                if new or incomplete:
                    self.progress.expect(len(subject.pages))
                    yield from self._pack(subject, new)
        self.summary.ignored_files = len(self._found.ignored)

    def _known(self, document: Document) -> Outline | None:
        """Spare opening a document whose every cell is finished."""
        row = self.tables.document(document)
        if row is None or self.settings.task.scope == "folder":
            return None
        if row["status"] == "error":
            failure = Failure(row["error_code"], row["error"])
            return None if self.settings.retry_errors else Outline(document, failure=failure)
        pages = tuple(Page(document, n, row["pages"], 0, 0, n) for n in range(1, row["pages"] + 1))
        outline = Outline(document, pages)
        subjects = [s for _, found in pack.subjects([outline], self.settings.task.scope) for s in found]
        cells = [cell for subject in subjects for cell in self._cells(subject)]
        finished = all(self.tables.is_finished(cell, self.settings.retry_errors) for cell in cells)
        return outline if finished and not (cells and row["text_layer_pages"] is None) else None

    def _cells(self, subject: Subject) -> list[Cell]:
        return [
            Cell(
                fingerprint(self.settings_hash, subject.document_id, subject.page or "", question.text),
                subject,
                question,
            )
            for question in self._questions
            if matches(subject.source, question.document)
        ]

    def _is_new(self, cell: Cell) -> bool:
        """Note that a cell is wanted, and tell whether it must be asked: once, whatever asks for it."""
        self.tables.want(cell)
        if cell.answer_id in self._asked or self.tables.is_finished(cell, self.settings.retry_errors):
            return False
        self._asked.add(cell.answer_id)
        return True

    def _lacks_row(self, document: Document) -> bool:
        if document.failure or document.duplicate_of:
            return False
        row = self.tables.document(document)
        return row is None or row["text_layer_pages"] is None or row["status"] == "error"

    def _open_rows(self, members: Sequence[Outline], looked_at: bool) -> None:
        for outline in members:
            document = outline.document
            if document.duplicate_of and self._ledger.repeat(document):
                continue
            original = self.tables.original(document)
            if document.duplicate_of and original:
                self.tables.repeat_document(document, original)
            elif outline.failure or looked_at or original is None:
                row = self._ledger.begin(outline, looked_at)
                if row is not None:
                    self.tables.add_document(row)

    def _pack(self, subject: Subject, cells: Sequence[Cell]) -> Iterator[Chunk]:
        most_pages = min(self.settings.pack.max_images, self.settings.model.max_images)
        yield from pack.chunks(
            subject,
            cells,
            self._writer.page_cost,
            self._writer.ask,
            most_pages,
            self._prompt_room,
        )

    @property
    def _prompt_room(self) -> int:
        return self.settings.model.context_tokens - self.settings.task.max_output_tokens

    # ---- from chunks to answers ----

    def ask(self, window: Window, window_number: int) -> None:
        """Hand the engine what a rendered window asks."""
        asked, due = zip(*(self._settle(chunk) for chunk in window), strict=True)
        self._put([request for requests in (*due, *asked) for request in requests], window_number)

    def wait_for(self, window_number: int) -> None:
        """Take replies, and ask what they give rise to, until nothing of that window is left to ask."""
        while self._left[window_number]:
            for request, completion in self.engine.take():
                of = self._window_numbers.pop(request.request_id)
                self._left[of] -= 1
                self._put(self._keep(request, completion), of)
        del self._left[window_number]

    def _put(self, requests: Sequence[Request], window_number: int) -> None:
        if requests:
            self._window_numbers.update((request.request_id, window_number) for request in requests)
            self._left[window_number] += len(requests)
            self.engine.put(requests, window_number)

    def _settle(self, chunk: Chunk) -> tuple[list[Request], list[Request]]:
        """Take a rendered chunk: return what to ask about it, and the merges that are due already."""
        for row in self._ledger.add_pages(chunk.pages):
            self.tables.add_document(row)
        self.progress.see_pages(chunk.pages)
        asked, settled = settle.settle(chunk)
        due = [more for request, completion in settled for more in self._reduce(request, completion)]
        unasked = []
        for request in asked:
            if (known := self.tables.completion(request)) is not None:
                due += self._reduce(request, known)
            else:
                unasked.append(
                    self._writer.recount(request) if len(request.pages) < len(chunk.pages) else request
                )
        return unasked, due

    def _keep(self, request: Request, completion: Completion) -> list[Request]:
        """Keep an engine's reply; return the requests that it gives rise to."""
        self.tables.add_request(request, completion)
        self.progress.see_request(completion)
        if completion.failure is None and completion.prompt_tokens != request.prompt_tokens:
            log.error(
                "%s: %d prompt tokens were counted, the engine had %d",
                request.cell.subject.source, request.prompt_tokens, completion.prompt_tokens,
            )  # fmt: skip
        due = self._reduce(request, completion)
        if self.tables.commit_if_due():
            self.record("running")
        return due

    def _reduce(self, request: Request, completion: Completion) -> list[Request]:
        outcome = self._reducer.add(request, completion)
        if isinstance(outcome, Answer):
            self.tables.add_answer(outcome)
            self.progress.see_answer(outcome)
            return []
        return outcome or []

    # ---- the end ----

    def checkpoint(self, window: Window) -> None:
        """Journal what is finished when a window is, and note how far the run is."""
        self.progress.see_window(window)
        self.tables.commit()
        self.record("running")

    def stop(self, error: BaseException) -> None:
        """Keep what is finished when the run cannot go on."""
        self.tables.commit()
        self.tables.publish(complete=False)
        if isinstance(error, Interrupted):
            self.record("interrupted")
        else:
            self.record("failed", f"{error}" if isinstance(error, PipelineError) else repr(error))

    def finish(self) -> Summary:
        """Reconcile the counts with the tables."""
        for row in self._ledger.unseen():
            self.tables.add_document(row)
        self.tables.commit()
        self.summary.inputs_ok, self.summary.inputs_error = self.tables.inputs()
        ok, failed = self.tables.outcome()
        self.summary.cells = ok + sum(failed.values())
        self.summary.errors, self.summary.failed = dict(failed), sum(failed.values())
        self.summary.reused = ok - self.summary.answered
        return self.summary

    @property
    def _plan_id(self) -> str | None:
        return self._plan.plan_id if self._plan else None

    def record(self, state: str, error: str | None = None, **more: Any) -> None:
        """Write run.json: how far the run is, settings, versions, counts, dates."""
        more |= {"prompt_date": self.tables.first_date().isoformat(), "settings_hash": self.settings_hash}
        self.tables.write_run(self._account.at(state, error, self._plan_id, self._earlier, **more))

    def plan(self, count: int) -> str:
        """Divide what is left to do into `count` shards in plan.parquet, and return the plan as a table."""
        # What the tasks of an earlier plan left unpublished would be unknown to those of this one.
        if self.tables.has_leftovers:
            self.tables.publish(complete=False)
        self.tables.forget_shards()
        rows: dict[str, plan.PlanRow] = {}
        todo: set[str] = set()

        def noted() -> Iterator[Outline]:
            for outline in self.outlines():
                document = outline.document
                rows[document.source] = plan.row(document, len(outline.pages), outline.failure)
                if self.tables.document(document) is None and not document.duplicate_of:
                    todo.add(document.source)
                yield outline

        for chunk in self.chunks(noted()):
            name = chunk.pages[0].document.source if chunk.pages else chunk.subject.source
            if name in rows:
                plan.add(rows[name], chunk, self.settings.model)
                todo.add(name)
        plan.assign(rows, todo, self.settings.task.scope, count)
        written = ({**dataclasses.asdict(row), "task": self.settings.task.name} for row in rows.values())
        shards.write(Path(self.settings.output), list(written), count, self.settings_hash)
        kept = self.tables.outcome()[0]
        return plan.describe(rows.values(), self.settings.task.name, self.settings.model, kept, count)

    def missing(self) -> Iterator[tuple[str, int]]:
        """Go over all inputs without answering; yield each that lacks answers, and how many it lacks."""
        for chunk in self.chunks(self.outlines()):
            name = chunk.pages[0].document.source if chunk.pages else chunk.subject.source
            yield name, len(chunk.requests)

    def _hash(self, system_template: str) -> str:
        """Identify all that an answer depends on but the document and the question."""
        given, model = self.settings.task, self.settings.model
        asked = (given.name, given.scope, given.instruction, given.evidence, given.max_output_tokens)
        drawn = (model.image_max_px, model.image_patch_px)
        return fingerprint(*asked, json.dumps(self._envelope), *drawn, system_template, self._identity)
