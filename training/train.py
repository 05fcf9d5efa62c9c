"""Train the small Pixtral on pages that are made up while it learns.

python training/train.py OUT --minutes 9 --of 27 [--before 9 --resume OUT/weights.safetensors]

Of `--of` minutes in all, `--before` have been used by earlier calls: they set the lessons and the step size.
OUT gets `log.jsonl` (a line a measurement) and `weights.safetensors`, every two minutes and at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pages
import torch
from lessons import MOST_PAGES, Lesson, Teacher
from network import Pixtral, Shape
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

IGNORED = -100
STAGES = ((0.0, 1), (0.2, 2), (0.35, 4), (0.5, MOST_PAGES))
"""From which share of the time on requests have up to how many pages."""
_PEAK, _WARM_UP = 1e-3, 0.02
_MERGES = 0.08
"""Of all batches, those of merges, which have no pages."""
_POOL = 2000
"""Pages of a size that a worker keeps: each request has new ones and some that were shown before."""
_NEW = 1.5
"""Pages drawn for each request, on average."""
_SAVE_S, _JUDGE_S = 120.0, 60.0


class Batch(NamedTuple):
    """Requests of as many pages of one size each."""

    tokens: NDArray[np.int64]
    """(requests, tokens), padded with 0 at the end."""
    targets: NDArray[np.int64]
    """(requests, tokens): the token that comes next, or IGNORED where no reply is."""
    images: NDArray[np.uint8]
    """(images, height, width); none for merges."""
    characters: NDArray[np.int64]
    """(images, patches, place in the code), as pages.characters."""
    names: NDArray[np.int64]
    """(images, patches), as pages.names."""


@dataclass
class Drawn:
    """A page with its image and what is where on it."""

    page: pages.Page
    image: NDArray[np.uint8]
    characters: NDArray[np.int64]
    names: NDArray[np.int64]


class Lessons(IterableDataset[Batch]):
    """Batches without end, made in worker processes. `most` pages a request is shared with them."""

    def __init__(self, fonts: Sequence[str], tokens_per_step: int, seed: int, most: Tensor) -> None:
        self._fonts, self._tokens, self._seed, self._most = fonts, tokens_per_step, seed, most
        self._pools: dict[tuple[int, int], deque[Drawn]] = {}

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = random.Random(self._seed * 1000 + (worker.id if worker else 0))
        teacher = Teacher()
        while True:
            most = int(self._most)
            if rng.random() < _MERGES:
                yield self._merges(rng, teacher)
            else:
                # As often as not all that there may be: those take longest to learn.
                count = rng.choice((1, rng.randint(1, most), most))
                yield self.of(rng, teacher, count, rng.choice(pages.SIZES_PX))

    def of(
        self,
        rng: random.Random,
        teacher: Teacher,
        count: int,
        size: tuple[int, int],
        requests: int | None = None,
    ) -> Batch:
        """Make a batch of requests of `count` pages each."""
        first = [self._draw(rng, size) for _ in range(count + 1)]
        length = len(teacher.encode(self._lesson(rng, teacher, first[:count]))[0]) + 20
        requests = requests or max(1, self._tokens // length)
        shown = [self._choose(rng, size, count) for _ in range(requests)]
        lessons = [self._lesson(rng, teacher, each) for each in shown]
        drawn = [each for some in shown for each in some]
        tokens, targets = _padded(teacher, lessons)
        return Batch(
            tokens, targets, np.stack([each.image for each in drawn]),
            np.stack([each.characters for each in drawn]), np.stack([each.names for each in drawn]),
        )  # fmt: skip

    def _lesson(self, rng: random.Random, teacher: Teacher, shown: Sequence[Drawn]) -> Lesson:
        start = rng.choice((1, rng.randint(1, 120)))
        numbered = [(start + place, each.page) for place, each in enumerate(shown)]
        return teacher.lesson(rng, numbered, start + len(shown) - 1 + rng.choice((0, rng.randint(0, 60))))

    def _choose(self, rng: random.Random, size: tuple[int, int], count: int) -> list[Drawn]:
        pool = self._pools.setdefault(size, deque(maxlen=_POOL))
        drawn = int(_NEW + rng.random())
        pool.extend(self._draw(rng, size) for _ in range(max(drawn, count - len(pool))))
        return rng.sample(pool, count)

    def _draw(self, rng: random.Random, size: tuple[int, int]) -> Drawn:
        page = pages.page(rng, size, self._fonts)
        characters = pages.characters(page).reshape(-1, len(pages.CODE))
        return Drawn(page, pages.draw(page), characters, pages.names(page).reshape(-1))

    def _merges(self, rng: random.Random, teacher: Teacher) -> Batch:
        made = [pages.page(rng, (256, 160), self._fonts) for _ in range(200)]
        lines = [line for page in made for line in page.lines]
        tokens, targets = _padded(teacher, [teacher.merge(rng, lines) for _ in range(self._tokens // 500)])
        nothing = np.zeros((0, 1), np.int64)
        return Batch(tokens, targets, np.zeros((0, 16, 16), np.uint8), nothing[..., None], nothing)


def _padded(teacher: Teacher, lessons: Sequence[Lesson]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    encoded = [teacher.encode(lesson) for lesson in lessons]
    # A whole number of 32s: few lengths in all.
    length = math.ceil(max(len(tokens) for tokens, _ in encoded) / 32) * 32
    tokens, targets = np.zeros((len(encoded), length), np.int64), np.full((len(encoded), length), IGNORED)
    for row, (each, begin) in enumerate(encoded):
        tokens[row, : len(each)] = each
        targets[row, begin - 1 : len(each) - 1] = each[begin:]
    return tokens, targets


class Helper(nn.Module):
    """Says of every patch which characters and name are in it: only to learn to see, and thrown away."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.characters = nn.Linear(dim, len(pages.CODE) * (1 + len(pages.CHARACTERS)))
        self.names = nn.Linear(dim, 1 + len(pages.NAMES))

    def forward(self, patches: Tensor, characters: Tensor, names: Tensor) -> Tensor:
        """Return the loss of (images, patches, dim) against what is there."""
        scores = self.characters(patches).unflatten(-1, (len(pages.CODE), -1)).float()
        # Most patches hold nothing, which is easily said.
        rare = torch.full((scores.shape[-1],), 1.0, device=patches.device)
        rare[0] = 0.05
        loss = functional.cross_entropy(scores.flatten(0, 2), characters.flatten(), rare)
        few = torch.full((1 + len(pages.NAMES),), 1.0, device=patches.device)
        few[0] = 0.05
        named = self.names(patches).float().flatten(0, 1)
        return cast(Tensor, loss + functional.cross_entropy(named, names.flatten(), few))


def worn(images: Tensor) -> Tensor:
    """Return images of which some are blurred or grainy, as scans are: their replies are less sure."""
    count = len(images)
    steps = torch.arange(-4, 5, device=images.device, dtype=torch.float32)
    spread = 0.4 + 2.0 * torch.rand(1, device=images.device)
    line = torch.exp(-(steps**2) / (2 * spread**2))
    line = (line / line.sum())[None, None]
    grey = images.float()[:, None]
    blurred = functional.conv2d(grey, line[..., None], padding=(4, 0))
    blurred = functional.conv2d(blurred, line[:, :, None], padding=(0, 4))
    some = (torch.rand(count, 1, 1, 1, device=images.device) < 0.15).float()
    grain = 12 * torch.rand(count, 1, 1, 1, device=images.device) * torch.randn_like(grey)
    return (some * (blurred + grain) + (1 - some) * grey).clamp(0, 255)[:, 0]


def loss_of(
    model: Pixtral, helper: Helper, batch: Sequence[Tensor], weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss to go down, the loss of the replies alone, and the share of replies that are right."""
    tokens, targets, images, characters, names = batch
    patches, seen = None, torch.zeros((), device=tokens.device)
    if len(images):
        patches = model.patches(worn(images) if model.training else images.float())
        seen = helper(patches, characters, names)
    hidden = model.hidden(tokens, patches)
    asked = targets != IGNORED
    scores = model.logits(hidden[asked]).float()
    replies = functional.cross_entropy(scores, targets[asked])
    with torch.no_grad():
        right = torch.ones_like(asked)
        right[asked] = scores.argmax(-1) == targets[asked]
        exact = right.all(dim=1).float().mean()
    return replies + weight * seen, replies, exact


def _rate(progress: float) -> float:
    warm = min(1.0, progress / _WARM_UP)
    return _PEAK * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _on(device: torch.device, batch: Batch) -> list[Tensor]:
    return [torch.as_tensor(each).to(device, non_blocking=True) for each in batch]


def _save(model: Pixtral, file: Path) -> None:
    save_file({name: value.to(torch.bfloat16).cpu() for name, value in model.state_dict().items()}, file)


class Judge:
    """Held-out requests: other seeds, and fonts that no lesson has."""

    def __init__(self, requests: int) -> None:
        rng, teacher = random.Random(-1), Teacher()
        drawn = Lessons(pages.HELD_OUT_FONTS, 0, -1, torch.tensor(MOST_PAGES))
        self._batches = {count: drawn.of(rng, teacher, count, (256, 160), requests) for count in (1, 4, 8)}
        merges = Lessons(pages.HELD_OUT_FONTS, 500 * requests, -1, torch.tensor(MOST_PAGES))
        self._batches[0] = merges._merges(rng, teacher)

    @torch.no_grad()
    def judge(self, model: Pixtral, helper: Helper, device: torch.device) -> dict[str, float]:
        """Return the share of whole replies that are right, by pages of the request; 0 pages: merges."""
        model.eval()
        found = {}
        for count, batch in self._batches.items():
            with torch.autocast(device.type, torch.bfloat16):
                found[f"right_{count}"] = round(float(loss_of(model, helper, _on(device, batch), 0.0)[2]), 4)
        model.train()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--before", type=float, default=0)
    parser.add_argument("--of", type=float, default=27)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--tokens", type=int, default=65536, help="per step, about")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--judged", type=int, default=128, help="held-out requests of each kind")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, most = Pixtral(Shape()), torch.ones((), dtype=torch.int64).share_memory_()
    helper = Helper(model.shape.dim).to(device)
    if given.resume:
        model.load_state_dict({name: value.float() for name, value in load_file(given.resume).items()})
    model.to(device)
    lessons = Lessons(pages.FONTS, given.tokens, given.seed + int(given.before), most)
    most.fill_(max(pages_ for share, pages_ in STAGES if share <= given.before / given.of))
    batches = iter(DataLoader(lessons, batch_size=None, num_workers=given.workers, prefetch_factor=4))
    judge = Judge(given.judged)
    weights = [*model.parameters(), *helper.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=_PEAK, betas=(0.9, 0.95), weight_decay=0.05)
    next(batches)  # the time begins when the workers are at work
    begin, step, saved, judged, shown = time.monotonic(), 0, 0.0, 0.0, 0
    while (spent := time.monotonic() - begin) < 60 * given.minutes:
        progress = (given.before + spent / 60) / given.of
        most.fill_(max(pages_ for share, pages_ in STAGES if share <= progress))
        for group in optimizer.param_groups:
            # After a pause AdamW knows nothing of the weights any more, and must warm up again.
            group["lr"] = _rate(progress) * min(1.0, (step + 1) / 100)
        batch = _on(device, next(batches))
        with torch.autocast(device.type, torch.bfloat16):
            loss, replies, exact = loss_of(model, helper, batch, weight=max(0.1, 1.0 - 2 * progress))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step, shown = step + 1, shown + len(batch[2])
        if step % 50 == 0 or spent - judged > _JUDGE_S:
            line = {"minutes": round(given.before + spent / 60, 2), "step": step, "pages": shown,
                    "most": int(most), "loss": round(loss.item(), 4), "replies": round(replies.item(), 4),
                    "right": round(exact.item(), 4)}  # fmt: skip
            if spent - judged > _JUDGE_S:
                line |= judge.judge(model, helper, device)
                judged = spent
            with (given.out / "log.jsonl").open("a") as file:
                print(json.dumps(line), file=file)
            print(json.dumps(line), flush=True)
        if spent - saved > _SAVE_S:
            _save(model, given.out / "weights.safetensors")
            saved = spent
    _save(model, given.out / "weights.safetensors")
    line = {
        "minutes": round(given.before + given.minutes, 2),
        "step": step,
        **judge.judge(model, helper, device),
    }
    print(json.dumps(line), flush=True)
    with (given.out / "log.jsonl").open("a") as file:
        print(json.dumps(line), file=file)


if __name__ == "__main__":
    main()
