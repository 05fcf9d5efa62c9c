"""Divide work into shares of equal cost."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def balance(costs: Sequence[float], count: int) -> list[int]:
    """Return a shard for each cost: the largest first, each to the shard with the least so far.

    At most 4/3 of the best possible largest shard (Graham, 1969), and far closer with many small costs.
    """
    loads = [(0.0, shard) for shard in range(count)]
    chosen = [0] * len(costs)
    # By cost, then by place: the same inputs are divided the same way each time.
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, shard = heapq.heappop(loads)
        heapq.heappush(loads, (load + costs[index], shard))
        chosen[index] = shard
    return chosen
