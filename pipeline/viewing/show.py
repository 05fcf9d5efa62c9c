"""Print an output directory's answers as a short table: `python -m pipeline.viewing.show output`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pipeline.viewing.gold import is_right

COLUMNS = ["source", "question", "answer", "gold", "pages", "confidence", "review"]
_MOST_CHARS = 60


def show(output: str, most_rows: int = 20) -> str:
    """Return the first rows of the answers, beside what is known to be right, and where they lie."""
    import pandas

    table = pandas.read_parquet(Path(output) / "answers")
    shown = table.head(most_rows).copy()
    known = shown["gold_answer"].fillna("")
    shown["gold"] = [
        _mark(answer, gold) for answer, gold in zip(shown["answer"].fillna(""), known, strict=True)
    ]
    said = shown["answer"].fillna(shown["error"]).fillna("")
    shown["answer"] = [_excerpt(text, gold) for text, gold in zip(said, known, strict=True)]
    for name in ("source", "question"):
        shown[name] = shown[name].fillna("").map(lambda text: _excerpt(text, ""))
    shown["pages"] = shown["evidence_pages"].map(lambda pages: ",".join(map(str, pages)))
    shown["confidence"] = shown["confidence"].round(2)
    shown["review"] = shown["needs_review"].map({True: "look", False: ""})
    if not known.any():
        shown = shown.drop(columns="gold")
    columns = [name for name in COLUMNS if name in shown]
    listing = shown[columns].to_string(index=False, justify="left", na_rep="")
    return f"{listing}\n\n{len(table)} rows in {output}/answers: pandas.read_parquet({output + '/answers'!r})"


def _mark(answer: str, gold: str) -> str:
    return f"{'✓' if is_right(answer, gold) else '✗'} {gold}" if gold else ""


def _excerpt(text: str, wanted: str) -> str:
    """Return as much of a text as fits a column, around the words that one looks for."""
    text = re.sub(r"\s+", " ", text)
    if len(text) <= _MOST_CHARS:
        return text
    at = max(text.casefold().find(wanted.casefold()), 0) if wanted else 0
    start = max(min(at - (_MOST_CHARS - len(wanted)) // 2, len(text) - _MOST_CHARS), 0)
    end = start + _MOST_CHARS
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "answers").is_dir():
        sys.exit("usage: python -m pipeline.viewing.show OUTPUT   (a directory that a run has written)")
    print(show(sys.argv[1]))
