"""What is going to happen later, kept as a list instead of a thread: whoever reads first makes it happen."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[float], None]


class EventLog:
    """Actions with a due time (epoch seconds). `settle` runs those that are due, in order, each with its own due time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Action]] = []

    def now(self) -> float:
        """The world's time in epoch seconds, to the millisecond as AWS gives it."""
        return round(self._clock(), 3)

    def at(self, due: float, action: Action) -> None:
        """Run `action` at the first `settle` at or after `due`."""
        heapq.heappush(self._waiting, (due, next(self._order), action))

    def settle(self) -> None:
        """Run everything that is due by now, also what becomes due while doing so."""
        now = self._clock()
        while self._waiting and self._waiting[0][0] <= now:
            due, _, action = heapq.heappop(self._waiting)
            action(due)

    def clear(self) -> None:
        """Forget everything that hasn't happened."""
        self._waiting.clear()
