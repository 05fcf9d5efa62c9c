"""Error rates of texts that were read: edits per character and per word of the gold text."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer


def character_error_rate(predictions: str | Sequence[str], golds: str | Sequence[str]) -> float:
    """Return edits over characters of the gold texts together; white space at the ends does not count.

    It may exceed 1. Without a gold character it is the number of characters that were read all the same.
    """
    return float(jiwer.cer(_listed(golds), _listed(predictions)))


def word_error_rate(predictions: str | Sequence[str], golds: str | Sequence[str]) -> float:
    """Return edits over words of the gold texts together; it may exceed 1."""
    return float(jiwer.wer(_listed(golds), _listed(predictions)))


def _listed(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)
