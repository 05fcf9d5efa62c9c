"""Read Cyrillic and Korean, which the bundled model does not know, with Tesseract where it is installed."""

from __future__ import annotations

import csv
import ctypes
import functools
import io
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.engines.embedded.lines import Line, Place

if TYPE_CHECKING:
    from PIL import Image

LANGUAGES = {"Cyrillic": "rus", "Korean": "kor", "Hangul": "kor"}
"""Of each script, by Tesseract's names of both, the language that reads it."""
_SURE = 0.9
"""Score from which what the bundled model read stands."""
_DOUBTFUL_SHARE = 0.2
"""Of what was found on a page, how much the model must be unsure of before another script is thought of."""
_LETTERS_PER_HEIGHT = 0.5
"""Of a line, the letters and digits that a stretch as long as it is high has at least."""
_ENLARGED = 2
"""Tesseract reads letters of 20 pixels best; a page that fits the vision model has half of that."""
_LONGEST_S = 30
"""Of each call: what the bundled model has read is kept when Tesseract takes longer."""
_PR_SET_PDEATHSIG = 1
_SCRIPT = re.compile(r"^Script: (\w+)", re.MULTILINE)


def corrected(lines: Sequence[Line], image: Image.Image) -> list[Line]:
    """Return the lines of a page, those that were hardly read as Tesseract reads them."""
    known = _languages()
    if not known or not _is_doubtful(lines):
        return list(lines)
    enlarged = io.BytesIO()
    size = image.width * _ENLARGED, image.height * _ENLARGED
    # PPM: not compressed only to be unpacked in the next process.
    image.convert("L").resize(size).save(enlarged, "PPM")
    # --psm 0 tells the script alone, which is far less work than to read the page in each.
    found = _SCRIPT.search(_run(["--psm", "0", "-l", "osd"], enlarged.getvalue()))
    language = LANGUAGES.get(found[1]) if found else None
    if language is None or language not in known:
        return list(lines)
    table = _run(
        ["--psm", "3", "-l", f"{language}+eng" if "eng" in known else language, "tsv"], enlarged.getvalue()
    )
    words = _words(table)
    return [_reread(line, words) for line in lines]


def _is_doubtful(lines: Sequence[Line]) -> bool:
    widths = [(line.place[2] - line.place[0], _sureness(line)) for line in lines if line.place]
    total = sum(width for width, _ in widths)
    return sum(width for width, score in widths if score < _SURE) > _DOUBTFUL_SHARE * total


def _sureness(line: Line) -> float:
    """Return the score of a line, 0 where it has far fewer letters than fit: others were read as spaces."""
    if line.place is None:
        return line.score
    x0, y0, x1, y1 = line.place
    read = sum(map(str.isalnum, line.text))
    return line.score if read >= _LETTERS_PER_HEIGHT * (x1 - x0) / max(y1 - y0, 1) else 0.0


def _reread(line: Line, words: Sequence[tuple[Place, str, float]]) -> Line:
    """Return a line with the words that Tesseract read where it stands, if it is surer of them."""
    if line.place is None or _sureness(line) >= _SURE:
        return line
    x0, y0, x1, y1 = line.place
    inside = [
        (place[0], text, score)
        for place, text, score in words
        if x0 <= (place[0] + place[2]) / 2 <= x1 and y0 <= (place[1] + place[3]) / 2 <= y1
    ]
    length = sum(len(text) for _, text, _ in inside)
    score = sum(len(text) * score for _, text, score in inside) / length if length else 0.0
    if score <= _sureness(line):
        return line
    return line._replace(text=" ".join(text for _, text, _ in sorted(inside)), score=score)


def _words(table: str) -> list[tuple[Place, str, float]]:
    """Return the words of Tesseract's table, with their places on the page as it was."""
    found: list[tuple[Place, str, float]] = []
    # Nothing is quoted in this table: a word that begins with " would take the next rows with it.
    for row in csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE):
        text, conf = (row.get("text") or "").strip(), float(row.get("conf") or -1)
        # Blocks, paragraphs and lines have rows as well, with a confidence of -1.
        if text and conf >= 0:
            left, top, width, height = (
                int(row[name]) / _ENLARGED for name in ("left", "top", "width", "height")
            )
            found.append(((left, top, left + width, top + height), text, conf / 100))
    return found


@functools.cache
def _languages() -> frozenset[str]:
    """Return the languages that are installed; none where Tesseract, or what tells scripts apart, is not."""
    if shutil.which("tesseract") is None:
        return frozenset()
    try:
        listed = subprocess.run(
            ["tesseract", "--list-langs"], capture_output=True, text=True, check=False, timeout=_LONGEST_S
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    found = frozenset(listed.stdout.split())
    return found if "osd" in found else frozenset()


def _run(arguments: Sequence[str], image: bytes) -> str:
    """Return what Tesseract prints about an image; nothing where it fails or takes too long."""
    try:
        # One thread: the workers fill the cores already, and threads on top would wait for each other.
        done = subprocess.run(
            ["tesseract", "stdin", "stdout", *arguments],
            input=image, capture_output=True, check=False, preexec_fn=_end_with_parent, timeout=_LONGEST_S,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _end_with_parent() -> None:
    # A worker that is over its time is killed: what it started must not go on.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
