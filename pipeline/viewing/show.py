"""Print an output directory's answers as a short table: `python -m pipeline.viewing.show output`."""

from __future__ import annotations

import sys
from pathlib import Path

COLUMNS = ["source", "question", "answer", "evidence_pages", "confidence", "needs_review"]


def show(output: str, most_rows: int = 20) -> str:
    """Return the first rows of the answers, and where they lie."""
    import pandas

    table = pandas.read_parquet(Path(output) / "answers")
    shown = table[COLUMNS].head(most_rows).copy()
    shown["answer"] = table["answer"].fillna(table["error"])
    for name in ("source", "question", "answer"):
        shown[name] = shown[name].fillna("").str.replace(r"\s+", " ", regex=True).map(_short)
    shown["evidence_pages"] = shown["evidence_pages"].map(lambda pages: ",".join(map(str, pages)))
    shown["confidence"] = shown["confidence"].round(2)
    shown = shown.rename(columns={"evidence_pages": "pages", "needs_review": "review"})
    listing = shown.to_string(index=False, justify="left", na_rep="")
    return f"{listing}\n\n{len(table)} rows in {output}/answers: pandas.read_parquet({output + '/answers'!r})"


def _short(text: str, most_chars: int = 56) -> str:
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "answers").is_dir():
        sys.exit("usage: python -m pipeline.viewing.show OUTPUT   (a directory that a run has written)")
    print(show(sys.argv[1]))
