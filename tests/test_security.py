"""The promises of SECURITY.md: each has a test that is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import scripted

from pipeline.config import RunSettings
from pipeline.records import Failure
from pipeline.run import execute

ROOT = Path(__file__).parents[1]
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())


def test_every_promise_names_a_test() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert len(promises) >= 15
    assert not [row for row in promises if "::test_" not in row]


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_the_tests_that_hold_the_promises_are_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("cannot open '/home/my docs/a.pdf' now", "cannot open 'a.pdf' now"),
        ("a/b.pdf: cannot be read (/tmp/x/y.pdf)", "a/b.pdf: cannot be read (y.pdf)"),
        ("in/b.pdf, page 2: 3 km/h and/or 1 / 2", "in/b.pdf, page 2: 3 km/h and/or 1 / 2"),
        ('File "/usr/lib/x.py", line 1', 'File "x.py", line 1'),
    ],
)
def test_of_a_path_in_an_error_the_name_is_left(text: str, left: str) -> None:
    assert Failure("corrupt", text).message == left


def test_no_row_names_a_folder_of_this_machine(
    compose: Callable[..., RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder" / "in"
    folder.mkdir(parents=True)
    for ending in ("pdf", "png", "jpg", "epub", "cbz", "tiff", "xps"):
        start = {"pdf": b"%PDF-1.7\n", "png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff"}
        (folder / f"broken.{ending}").write_bytes(
            start.get(ending, b"PK\x03\x04") + b"\0 no more " + ending.encode()
        )
    scripted.install(monkeypatch, lambda _: scripted.says("x"))
    execute(settings := compose(f"input={folder}", "engine=vllm", "task=qa", "task.question=Which?"))
    for name in ("answers", "documents"):
        table = pd.read_parquet(Path(settings.output) / name)
        assert len(table) == 7
        assert set(table["status"]) == {"error"}
        assert not table.astype(str).map(lambda value: str(tmp_path) in str(value)).any(axis=None)
