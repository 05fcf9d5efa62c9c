"""Train the small Pixtral on pages that are made up while it learns.

python training/train.py OUT --minutes 9 --of 27 [--before 9 --resume OUT/state.pt]

Of `--of` minutes in all, `--before` have been used by earlier calls: they set the lessons and the step size.
OUT gets `log.jsonl` (a line a measurement), `weights.safetensors` and `state.pt`, which has what the
optimizer knows as well, every two minutes and at the end. `--resume` goes on from that; from weights alone,
which lack the helper, the decoder goes on to learn from replies, and what the encoder sees stays as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pages
import torch
from batches import IGNORED, Batch, Lessons
from helper import Helper
from lessons import MOST_PAGES, Teacher
from network import Pixtral, Shape
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

STAGES = ((0.0, 1), (0.1, 2), (0.2, 4), (0.3, MOST_PAGES))
"""From which share of the time on requests have up to how many pages."""
_PEAK, _WARM_UP = 1e-3, 0.02
_COLD_STEPS = 30
_SAVE_S, _JUDGE_S = 120.0, 60.0
_STEPS_SHOWN = 50


def worn(images: Tensor) -> Tensor:
    """Return images as other printers and scanners would give them: thinner, thicker, blurred or grainy."""
    count = len(images)
    grey = images.float()[:, None]
    strokes = torch.rand(count, 1, 1, 1, device=images.device)
    thick = -functional.max_pool2d(functional.pad(-grey, (0, 1, 0, 1), value=-255.0), 2, stride=1)
    thin = functional.max_pool2d(functional.pad(grey, (0, 1, 0, 1), value=255.0), 2, stride=1)
    grey = torch.where(strokes < 0.2, grey.lerp(thick, 5 * strokes), grey)
    grey = torch.where(strokes > 0.9, grey.lerp(thin, 6 * (strokes - 0.9)), grey)
    steps = torch.arange(-4, 5, device=images.device, dtype=torch.float32)
    spread = 0.4 + 2.0 * torch.rand(1, device=images.device)
    line = torch.exp(-(steps**2) / (2 * spread**2))
    line = (line / line.sum())[None, None]
    blurred = functional.conv2d(grey, line[..., None], padding=(4, 0))
    blurred = functional.conv2d(blurred, line[:, :, None], padding=(0, 4))
    some = (torch.rand(count, 1, 1, 1, device=images.device) < 0.15).float()
    grain = 12 * torch.rand(count, 1, 1, 1, device=images.device) * torch.randn_like(grey)
    return (some * (blurred + grain) + (1 - some) * grey).clamp(0, 255)[:, 0]


def loss_of(
    model: Pixtral, helper: Helper | None, batch: Sequence[Tensor]
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Return the loss to go down, its parts, and the share of replies that are right throughout."""
    tokens, targets, wants, marks, about, images, seen, numbers = batch
    patches = model.patches(worn(images) if model.training else images.float()) if len(images) else None
    states = model.states(tokens, patches)
    asked = targets != IGNORED
    scores = model.logits(model.norm(states[-1][asked])).float()
    parts = {"replies": functional.cross_entropy(scores, targets[asked])}
    if helper is not None and patches is not None:
        parts["seen"] = helper.seen(patches, seen)
        known = helper.known(model, states, tokens, seen, numbers, wants, marks, about)
        parts |= dict(zip(("number", "about", "looks"), known, strict=True))
    with torch.no_grad():
        right = torch.ones_like(asked)
        right[asked] = scores.argmax(-1) == targets[asked]
        exact = right.all(dim=1).float().mean()
    return torch.stack(list(parts.values())).sum(), parts, exact


def _rate(progress: float) -> float:
    warm = min(1.0, progress / _WARM_UP)
    return _PEAK * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def mixed(device: torch.device) -> torch.autocast:
    """Return what has a GPU compute in bf16; CPUs are slower with it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _on(device: torch.device, batch: Batch) -> list[Tensor]:
    return [torch.as_tensor(each).to(device, non_blocking=True) for each in batch]


def save(model: Pixtral, file: Path) -> None:
    """Write the weights in bf16, by the names that vLLM knows."""
    save_file({name: value.to(torch.bfloat16).cpu() for name, value in model.state_dict().items()}, file)


class Judge:
    """Held-out requests: other seeds, and fonts that no lesson has."""

    def __init__(self, requests: int, device: torch.device) -> None:
        rng, teacher = random.Random(-1), Teacher()
        drawn = Lessons(pages.HELD_OUT_FONTS, 0, -1, torch.tensor(MOST_PAGES))
        self._batches = {count: drawn.of(rng, teacher, count, (256, 160), requests) for count in (1, 4, 8)}
        merges = Lessons(pages.HELD_OUT_FONTS, 500 * requests, -1, torch.tensor(MOST_PAGES))
        self._batches[0] = merges.merges(rng, teacher)
        self._device = device

    @torch.no_grad()
    def judge(self, model: Pixtral) -> dict[str, float]:
        """Return the share of whole replies that are right, by pages of the request; 0 pages: merges."""
        model.eval()
        found = {}
        for count, batch in self._batches.items():
            with mixed(self._device):
                exact = loss_of(model, None, _on(self._device, batch))[2]
            found[f"right_{count}"] = round(float(exact), 4)
        model.train()
        return found


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path
    minutes: float
    before: float
    of: float
    resume: Path | None
    fonts: Path | None
    tokens: int
    workers: int
    judged: int
    seed: int


class Training:
    """The model with what it takes to train it."""

    def __init__(self, given: Options) -> None:
        torch.manual_seed(given.seed)
        self.given = given
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = Pixtral(Shape()).to(self.device)
        has_weights_alone = given.resume is not None and given.resume.suffix == ".safetensors"
        self.helper = None if has_weights_alone else Helper(self.model.shape.dim).to(self.device)
        if has_weights_alone:
            self.model.vision_encoder.requires_grad_(False)
            self.model.vision_language_adapter.requires_grad_(False)
        learning = [*self.model.parameters(), *(self.helper.parameters() if self.helper else ())]
        self._weights = [each for each in learning if each.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._weights, lr=_PEAK, betas=(0.9, 0.95), weight_decay=0.05, fused=True
        )
        self._cold_steps = _COLD_STEPS
        """Over which the step size grows from nothing: an optimizer that knows nothing yet errs widely."""
        if given.resume:
            self._resume(given.resume)
        # Workers see it change.
        self.most = torch.tensor(_most_pages(given.before / given.of)).share_memory_()
        fonts = [*pages.FONTS, *(pages.fonts_in(given.fonts) if given.fonts else ())]
        lessons = Lessons(fonts, given.tokens, given.seed + int(given.before), self.most)
        loader = DataLoader(lessons, batch_size=None, num_workers=given.workers, prefetch_factor=4)
        self.batches = iter(loader)
        self.steps = self.pages = 0

    def step(self, progress: float) -> dict[str, float]:
        """Learn from one batch; return what it came to."""
        self.most.fill_(_most_pages(progress))
        for group in self._optimizer.param_groups:
            group["lr"] = _rate(progress) * min(1.0, (self.steps + 1) / self._cold_steps)
        batch = _on(self.device, next(self.batches))
        with mixed(self.device):
            loss, parts, exact = loss_of(self.model, self.helper, batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self.steps, self.pages = self.steps + 1, self.pages + len(batch[5])
        if self.steps % _STEPS_SHOWN:
            return {}  # asking the GPU would wait for it
        found = {name: round(part.item(), 4) for name, part in (parts | {"right": exact}).items()}
        return {"pages": self.pages, "most": int(self.most), **found}

    def save(self) -> None:
        """Write the weights as they are now, and what it takes to go on with them."""
        save(self.model, self.given.out / "weights.safetensors")
        torch.save([part.state_dict() for part in self._parts], self.given.out / "state.pt")

    @property
    def _parts(self) -> tuple[nn.Module | torch.optim.Optimizer, ...]:
        parts = self.model, self.helper, self._optimizer
        return tuple(part for part in parts if part is not None)

    def _resume(self, file: Path) -> None:
        if self.helper is None:
            self.model.load_state_dict({name: value.float() for name, value in load_file(file).items()})
            return
        for part, state in zip(self._parts, torch.load(file, map_location=self.device), strict=True):
            part.load_state_dict(state)
        self._cold_steps = 1

    def log(self, minutes: float, found: dict[str, float]) -> None:
        """Write and print a measurement."""
        line = json.dumps({"minutes": round(self.given.before + minutes, 2), "step": self.steps, **found})
        print(line, flush=True)
        with (self.given.out / "log.jsonl").open("a") as file:
            print(line, file=file)


def _most_pages(progress: float) -> int:
    return max(most for share, most in STAGES if share <= progress)


def train(given: Options) -> None:
    """Train for as long as is given."""
    training = Training(given)
    judge = Judge(given.judged, training.device)
    next(training.batches)  # the time begins when the workers are at work
    begin, saved, judged = time.monotonic(), 0.0, 0.0
    while (spent := time.monotonic() - begin) < 60 * given.minutes:
        found = training.step((given.before + spent / 60) / given.of)
        if spent - judged > _JUDGE_S:
            found |= judge.judge(training.model)
            judged = spent
        if found:
            training.log(spent / 60, found)
        if spent - saved > _SAVE_S:
            training.save()
            saved = spent
    training.save()
    training.log(given.minutes, judge.judge(training.model))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--before", type=float, default=0)
    parser.add_argument("--of", type=float, default=27)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--fonts", type=Path, help="a folder of more fonts to learn from")
    parser.add_argument("--tokens", type=int, default=65536, help="per step, about")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--judged", type=int, default=128, help="held-out requests of each kind")
    parser.add_argument("--seed", type=int, default=1)
    given = Options(**vars(parser.parse_args()))
    given.out.mkdir(parents=True, exist_ok=True)
    train(given)


if __name__ == "__main__":
    main()
