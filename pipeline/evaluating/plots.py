"""Draw what is easier seen than read: what confidence is worth, and scores night after night."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluating.reliability import Reliability
from pipeline.tables.columns import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _GREY, _RED = "#2563a8", "#8a8f98", "#b3261e"


def reliability(measured: Sequence[tuple[str, Reliability]]) -> str:
    """Return a diagram as SVG: of answers as sure as this, how many are right; a line for each name."""
    figure, axes = _figure(4.6, 4.2)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="as sure as right")
    for color, (name, each) in zip((_GREY, _BLUE) if len(measured) > 1 else (_BLUE,), measured, strict=False):
        sizes = [12 + 150 * b.answers / each.answers for b in each.bins]
        points = [b.confidence for b in each.bins], [b.right for b in each.bins]
        axes.plot(*points, color=color, linewidth=1.2, label=f"{name}: ECE {each.ece:.3f}")
        axes.scatter(*points, s=sizes, color=color, alpha=0.6, linewidths=0)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of answers that are right")
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return _svg(figure)


def history(rows: Sequence[Row]) -> str:
    """Return scores over time as SVG: each with its interval, red where they kept a night from publishing."""
    figure, axes = _figure(7.2, 3.2)
    scores, low, high = (np.asarray([row[name] for row in rows], float) for name in ("score", "low", "high"))
    times = np.asarray([_utc(row) for row in rows])
    axes.plot(times, scores, color=_BLUE, linewidth=1)
    for published, color, label in ((True, _BLUE, "published"), (False, _RED, "not published")):
        chosen = np.asarray([bool(row["is_published"]) is published for row in rows])
        if chosen.any():
            spans = np.maximum(0, np.vstack([scores - low, high - scores])[:, chosen])
            axes.errorbar(
                times[chosen],
                scores[chosen],
                yerr=spans,
                fmt="o",
                color=color,
                markersize=4,
                capsize=2,
                label=label,
            )
    least = np.asarray([row["min_score"] for row in rows], float)
    axes.step(times, least, where="mid", color=_GREY, linestyle="--", label="min_score")
    axes.set(ylabel=f"{rows[-1]['profile']}.{rows[-1]['metric']}")
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    figure.autofmt_xdate()
    return _svg(figure)


def _utc(row: Row) -> np.datetime64:
    time = row["scored_at"]
    assert isinstance(time, dt.datetime)
    return np.datetime64(time.replace(tzinfo=None), "s")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # Not pyplot, which keeps every figure, and asks for a display.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e7ec", linewidth=0.6)
    return figure, axes


def _svg(figure: Figure) -> str:
    """Return a figure as text, the same for the same figures."""
    import matplotlib as mpl

    file = io.StringIO()
    # Without a salt matplotlib names the parts of an SVG at random; only with `none` letters stay text.
    with mpl.rc_context({"svg.hashsalt": "docbatch", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
