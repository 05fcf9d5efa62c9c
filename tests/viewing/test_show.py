"""The table for a terminal: the words that answer are seen, beside what is known to be right."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.tables import columns
from pipeline.viewing.show import show


def output(tmp_path: Path, *rows: dict[str, object]) -> str:
    given = {"status": "ok", "evidence_pages": [1, 2], "confidence": 0.5, "needs_review": False}
    table = pa.Table.from_pylist([given | row for row in rows], schema=columns.ANSWERS)
    (tmp_path / "answers").mkdir()
    pq.write_table(table, tmp_path / "answers" / "shard-0000-of-0001.parquet")
    return show(str(tmp_path))


def test_what_is_known_to_be_right_is_seen_in_a_long_answer(tmp_path: Path) -> None:
    filler = "and so on and so forth " * 20
    seen = output(
        tmp_path,
        {
            "source": "a.pdf",
            "question": "Who?",
            "answer": f"{filler}Nora Quill {filler}",
            "gold_answer": "Nora Quill",
        },
        {
            "source": "b.pdf",
            "question": "Who?",
            "answer": "Ada",
            "gold_answer": "Nora Quill",
            "needs_review": True,
        },
        {"source": "c.pdf", "question": "Who?", "error": "c.pdf: needs a password", "status": "error"},
    )
    right, wrong, failed = seen.splitlines()[1:4]
    assert right.count("Nora Quill") == 2
    assert "✓ Nora Quill" in right
    assert "✗ Nora Quill" in wrong
    assert "look" in wrong
    assert "needs a password" in failed
    assert max(map(len, seen.splitlines())) < 240


def test_without_gold_there_is_no_column_for_it(tmp_path: Path) -> None:
    seen = output(tmp_path, {"source": "a.pdf", "question": "Who?", "answer": "Ada"})
    assert "gold" not in seen.splitlines()[0]
