"""What the embedded engine takes of the cores."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.records import Completion, Request, Usage

# Of one core: OCR takes 1 to 6 s a page, and is nearly all of the time (docs/figures.md).
_PAGE_S = 0.02
_SCAN_S = 2.6
_REQUEST_S = 0.02


@dataclass(frozen=True, slots=True)
class EmbeddedSpeed:
    """Reads text layers in no time and other pages by OCR, on the cores of this machine."""

    cores: int
    gpus: int = 0
    is_model: bool = False

    @property
    def assumed(self) -> str:
        return f"{_SCAN_S:g} s of a core for a page without a text layer, {_PAGE_S:g} s for another; no GPU"

    def seconds(self, usage: Usage) -> float:
        """Predict the seconds of one core."""
        return _REQUEST_S + _PAGE_S * (usage.pages - usage.scans) + _SCAN_S * usage.scans

    def weigh(self, request: Request, completion: Completion) -> float:
        """Return the time that it took: requests are answered one after the other."""
        return completion.engine_seconds
