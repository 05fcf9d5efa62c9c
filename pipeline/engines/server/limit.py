"""How many requests one server is given at a time: as many as keep it busy, and no more."""

from __future__ import annotations

_FIRST = 16.0
_ENOUGH_WAITING = 16
"""Requests that wait in a server's own queue with which its steps are always full."""
_CUT_EVERY_S = 1.0


class Limit:
    """A limit that grows while a server keeps up, and is cut when it refuses or its queue is long.

    It doubles with every round of replies until the first cut, and grows by one a round afterwards.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._allowed = min(_FIRST, self._most)
        self._doubles = True
        self._is_queue_long = False
        self._last_cut_s = float("-inf")

    @property
    def allowed(self) -> int:
        """Requests that may be under way."""
        return int(self._allowed)

    def answered(self, under_way: int) -> None:
        """Note a reply; `under_way`: how many requests there were when it came."""
        # A limit that is not reached says nothing about what the server can do.
        if self._is_queue_long or under_way < self.allowed:
            return
        self._allowed = min(self._most, self._allowed + (1.0 if self._doubles else 1.0 / self._allowed))

    def refused(self, now_s: float) -> None:
        """Note that the server had no room for a request."""
        self._cut(now_s, 0.5)

    def queued(self, waiting: int, now_s: float) -> None:
        """Note how many requests, of all clients, wait in the server's queue."""
        self._is_queue_long = waiting > _ENOUGH_WAITING
        if waiting > 2 * _ENOUGH_WAITING:
            self._cut(now_s, 0.8)

    def _cut(self, now_s: float, share: float) -> None:
        self._doubles = False
        # The many that are refused together are one sign.
        if now_s - self._last_cut_s >= _CUT_EVERY_S:
            self._allowed = max(1.0, self._allowed * share)
            self._last_cut_s = now_s
