"""Time exact token counting per page, against encoding the same pages with mistral_common.

python benchmarks/tokens.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import hydra
from PIL import Image

from pipeline.asking.tokens import TokenCounter
from pipeline.run import CONF, to_settings

PAGES = 300
SIZES = [(736, 1024), (1024, 736), (1024, 1024), (640, 480)]


def main() -> None:
    for model in ("pixtral_large", "pixtral_12b", "mistral_small"):
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            settings = to_settings(hydra.compose("config", overrides=["input=.", f"model={model}"]))
        counter = TokenCounter(settings.model, settings.model.system_prompt)
        patch = settings.model.image_patch_px
        pages = [(f"Page {n} of {PAGES}", *SIZES[n % len(SIZES)]) for n in range(1, PAGES + 1)]
        pages = [(label, w // patch * patch, h // patch * patch) for label, w, h in pages]
        images = [(label, Image.new("RGB", (w, h))) for label, w, h in pages[:8]]

        def count(counter: TokenCounter = counter, pages: list[tuple[str, int, int]] = pages) -> int:
            counter.text.cache_clear()
            pieces = sum(counter.text(label) + counter.image(w, h) for label, w, h in pages)
            return pieces + counter.overhead + counter.text("What is the total?")

        ours = timed(count) / len(pages)
        theirs = timed(lambda c=counter, i=images: c.encode(i, "What is the total?")) / len(images)
        print(f"{model:14} {1000 * ours:.4f} ms per page; encoding takes {theirs / ours:,.0f} x as long")


def timed(run: Callable[[], object]) -> float:
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    main()
