"""What the model is told while it learns, besides the reply: what is where, and where to look."""

from __future__ import annotations

import pages
import torch
from network import IMAGE, Pixtral, rotated, turns_1d
from torch import Tensor, nn
from torch.nn import functional

NUMBERED = 2
"""Layers after which a patch is to know the number of its page."""
LOOKS = 3
"""The layer in which the first head is to look where the next token of the reply is written."""
_EMPTY = 0.05
"""What an empty patch counts: most are, and that is easily said."""


class Helper(nn.Module):
    """Judges what the layers know on the way to the reply. Only to learn with: it is thrown away."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._names, self._characters = 1 + len(pages.NAMES), 1 + len(pages.CHARACTERS)
        self.name = nn.Linear(dim, self._names)
        self.characters = nn.Linear(dim, 2 * len(pages.CODE) * self._characters)
        self.number = nn.Linear(dim, 2 * 10)
        self.about_name = nn.Linear(dim, self._names)
        self.about_page = nn.Linear(dim, 2 * 11)
        self.about_code = nn.Linear(dim, len(pages.CODE) * self._characters)

    def seen(self, patches: Tensor, seen: Tensor) -> Tensor:
        """Return the loss of what patches (images, patches, dim) show, against pages.seen."""
        seen, length = seen.long(), len(pages.CODE)
        rare = torch.ones(self._characters, device=patches.device)
        rare[0] = _EMPTY
        name = _entropy(self.name(patches), seen[..., 0], rare[: self._names])
        scores = self.characters(patches).unflatten(-1, (2 * length, -1))
        own = _entropy(scores[..., :length, :], seen[..., 1 : 1 + length], rare)
        held = seen[..., 0] > 0
        code = _entropy(scores[held][..., length:, :], seen[held][..., 1 + length :])
        return name + own + code

    def known(
        self, model: Pixtral, states: list[Tensor], tokens: Tensor, seen: Tensor, numbers: Tensor,
        wants: Tensor, marks: Tensor, about: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return the losses of the page that patches are on, of what the question names, and of looking."""
        held = seen[..., 0] > 0
        patches = states[NUMBERED][tokens == IMAGE].unflatten(0, held.shape)[held]
        of_image = numbers.long()[:, None].expand(-1, held.shape[1], -1)[held]
        number = _entropy(self.number(patches).unflatten(-1, (2, -1)), of_image)
        place = _replies(wants)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        asking, asked = states[LOOKS][rows, place], wants[rows, place] > 0
        named = self._named(asking[asked], about.long()[:, None].expand(-1, place.shape[1], -1)[asked])
        looks = looked(model, states[LOOKS], rows, place)
        right = (wants[rows, place][..., None] & marks[:, None]) > 0
        missed = looks.logsumexp(-1) - looks.masked_fill(~right, -torch.inf).logsumexp(-1)
        return number, named, missed[asked].mean()

    def _named(self, asking: Tensor, about: Tensor) -> Tensor:
        name = _entropy(self.about_name(asking), about[:, 0])
        page = _entropy(self.about_page(asking).unflatten(-1, (2, -1)), about[:, 1:3])
        return (
            name + page + _entropy(self.about_code(asking).unflatten(-1, (len(pages.CODE), -1)), about[:, 3:])
        )


def looked(model: Pixtral, state: Tensor, rows: Tensor, place: Tensor) -> Tensor:
    """Return how strongly the first head of LOOKS is drawn to each token, (requests, reply, tokens)."""
    layer, shape = model.layers[LOOKS], model.shape
    attention, state = layer.attention, layer.attention_norm(state)
    turns = turns_1d(shape, state.shape[1], state.device)
    q = functional.linear(state, attention.wq.weight[: shape.head_dim])[:, None]
    k = functional.linear(state, attention.wk.weight[: shape.head_dim])[:, None]
    q, k = rotated(q, turns)[:, 0], rotated(k, turns)[:, 0]
    scores = (q[rows, place] @ k.transpose(1, 2)).float() / shape.head_dim**0.5
    later = torch.arange(state.shape[1], device=state.device) > place[..., None]
    return scores.masked_fill(later, -torch.inf)


def _replies(wants: Tensor) -> Tensor:
    """Return the places of the tokens before each of a reply, (requests, longest reply)."""
    most = int((wants > 0).sum(1).max())
    begin = (wants > 0).int().argmax(1)
    return (begin[:, None] + torch.arange(most, device=wants.device)).clamp(max=wants.shape[1] - 1)


def _entropy(scores: Tensor, right: Tensor, weights: Tensor | None = None) -> Tensor:
    return functional.cross_entropy(scores.float().flatten(0, -2), right.flatten(), weights)
