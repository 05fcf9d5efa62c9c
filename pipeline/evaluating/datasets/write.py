"""Write a data set as the pipeline reads it: images, questions.csv, and gold.jsonl with what is right."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pipeline import store
from pipeline.errors import SettingsError
from pipeline.evaluating.datasets import base, known
from pipeline.evaluating.datasets.base import Dataset, Item
from pipeline.records import Json
from pipeline.texts import clean_text, fingerprint

_ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and how it is asked and scored."""

    dataset: Dataset
    folder: Path
    items: int

    @property
    def _there(self) -> str:
        return f"{self.items} questions of {self.dataset.name} ({self.dataset.hub}) in {self.folder}"

    def __str__(self) -> str:
        """Say it with the two commands that follow."""
        there = self.folder
        asked = f"task={self.dataset.task} task.questions={there}/questions.csv output={there}/output"
        if self.dataset.metric == "rating":
            scored = "a judge gives the ratings: pipeline.evaluating.judge, see docs/evaluation.md"
            return f"{self._there}\n  docbatch run {there}/images {asked}\n  {scored}"
        scored = f"profile={self.dataset.profile} metric={self.dataset.metric}"
        return (
            f"{self._there}\n"
            f"  docbatch run {there}/images {asked}\n"
            f"  docbatch evaluate run={there}/output gold={there}/gold.jsonl {scored}"
        )


def write(name: str, files: str, to: Path, limit: int | None) -> Written:
    """Write a data set into a folder. Raises SettingsError for another name, or files of another kind."""
    dataset = known.DATASETS.get(name)
    if dataset is None:
        raise SettingsError(f"dataset={name}: must be one of {', '.join(known.names())}")
    with store.disk_errors(to):
        (to / "images").mkdir(parents=True, exist_ok=True)
        with (
            (to / "questions.csv").open("w", newline="", encoding="utf-8") as asked,
            (to / "gold.jsonl").open("w", encoding="utf-8") as gold,
        ):
            questions = csv.writer(asked)
            questions.writerow(("question_id", "question", "document"))
            count = 0
            for item in islice(_items(dataset, files), limit):
                count += 1
                document = _write_images(item, to / "images")
                row = (item.item_id, clean_text(item.question), document)
                questions.writerow(row)
                gold.write(json.dumps(_gold(item, *row), ensure_ascii=False) + "\n")
    if not count:
        raise SettingsError(f"files={files}: hold no rows; give the Parquet files of {name}")
    return Written(dataset, to, count)


def _items(dataset: Dataset, files: str) -> Iterator[Item]:
    for number, row in enumerate(base.rows(files, dataset.columns)):
        yield from dataset.items(row, number)


def _gold(item: Item, question_id: str, question: str, document: str) -> dict[str, Json]:
    return {
        "question_id": question_id,
        "question": question,
        "document": document,
        "answers": [clean_text(gold) for gold in item.golds],
        "group": item.group,
        "about": dict(item.about),
    }


def _write_images(item: Item, folder: Path) -> str:
    """Write the images of an item, as one file of several pages where it has several; return its name."""
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in item.item_id)
    if name != item.item_id:  # `a/b` and `a_b` must not share a file
        name = f"{name}-{fingerprint(item.item_id)[:8]}"
    try:
        opened = [Image.open(io.BytesIO(data)) for data in item.images]
        if len(opened) == 1:
            file = folder / f"{name}{_ENDINGS.get(opened[0].format or '', '.img')}"
            file.write_bytes(item.images[0])  # as it was published, without another compression
        else:
            file = folder / f"{name}.tif"
            pages = [picture.convert("RGB") for picture in opened]
            # Without loss: the model is to see the pixels that were published.
            pages[0].save(file, save_all=True, append_images=pages[1:], compression="tiff_deflate")
    except (UnidentifiedImageError, OSError, ValueError) as error:
        reason = f"its image cannot be read ({error}); fetch the files again"
        raise SettingsError(f"item {item.item_id}: {reason}") from error
    return file.name
