"""A limiter that never meets a 429: at most `rate` requests in any window, counted where the other side counts them.

A slot is taken before a request is sent and is free again one window after its answer, so that it covers the moment at which the other
side counted it, whenever that was. A holder that died gives its slot back by a lease. Requests are spaced evenly.

Slots lie in a sorted set of the environment's Redis, on Redis' own clock, so that every opsctl on every machine shares them; without a
Redis that answers, in this process. The first few requests of a process, an eightieth of the rate that is kept back for them, are counted
here alone: so a look at one contact costs no connection.

A reading system counts there too, or else three plans of 100,000 contacts made at once would starve the leases that HubSpot has to
answer. That key is opsctl's own note of what it has sent, says nothing of any system and is gone a minute later; its connection can do
nothing else (`limiter_redis`).
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

WINDOW_SECONDS = 10.0
LEASE_SECONDS = 40.0
"""Longer than any request may take."""
MARGIN_SECONDS = 0.005
"""Added to a window, since two clocks don't run alike."""
LONGEST_PAUSE = 1.0
SHORTEST_PAUSE = 0.001


class Slots(Protocol):
    """Where slots are counted."""

    def take(self, name: str, limit: int, window: float) -> tuple[bool, float]:
        """Take a slot: True, and the seconds until its request may be sent; or False, and the seconds until asking again is of use."""
        ...

    def hold(self, name: str, seconds: float) -> None:
        """Keep a slot for `seconds` from now, whether it was taken before or not."""
        ...


class LocalSlots:
    """The slots of this process. Safe between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._next = 0.0

    def take(self, name: str, limit: int, window: float) -> tuple[bool, float]:
        """As `Slots.take`."""
        with self._lock:
            now = self._clock()
            self._until = {held: until for held, until in self._until.items() if until > now}
            if len(self._until) >= limit:
                return False, min(self._until.values()) - now
            at = max(now, self._next)
            self._until[name] = at + LEASE_SECONDS
            self._next = at + window / limit
            return True, at - now

    def hold(self, name: str, seconds: float) -> None:
        """As `Slots.hold`."""
        with self._lock:
            self._until[name] = self._clock() + seconds


class Limiter:
    """One limit of one app. `shared` finds the common slots, or None where there are none. Safe between threads.

    `learn` tells what the other side itself says of its limit; until then it is `rate` in ten seconds.
    """

    def __init__(
        self,
        rate: int,
        shared: Callable[[], Slots | None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._configured = self.rate = rate
        self.window = WINDOW_SECONDS
        self._find_shared = shared
        self._clock, self._pause = clock, pause
        self._lock = threading.Lock()
        self._alone: dict[str, float | None] = {}
        self._slots: Slots | None = None

    @property
    def reserve(self) -> int:
        """How many requests of a process are sent before it asks for slots; they are kept back from the rate."""
        return self.rate // 80

    def learn(self, rate: int, window: float) -> None:
        """Take over the other side's own figures: the lower rate of theirs and ours, and the window in seconds (0: no limit)."""
        self.rate = min(rate, self._configured) if rate > 0 else self._configured
        self.window = window

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot, and hold it while the block sends one request and reads its answer."""
        if self.window <= 0:
            yield
            return
        name = uuid.uuid4().hex
        alone = not self._join(name)
        if not alone:
            self._wait(name)
        try:
            yield
        finally:
            self._release(name, alone=alone)

    def _join(self, name: str) -> bool:
        """Whether slots have to be asked; not for the first few requests, which are told to the slots when those are first asked."""
        with self._lock:
            if self._slots is not None:
                return True
            if len(self._alone) < self.reserve:
                self._alone[name] = None
                return False
            self._slots = slots = self._find_shared() or LocalSlots(self._clock)
            told = dict(self._alone)
        for each, answered in told.items():
            left = LEASE_SECONDS if answered is None else answered + self.window + MARGIN_SECONDS - self._clock()
            if left > 0:
                self._hold(slots, each, left)
        return True

    def _wait(self, name: str) -> None:
        while (slots := self._slots) is not None:
            try:
                taken, wait = slots.take(name, max(1, self.rate - self.reserve), self.window)
            except SlotsLost:
                self._lose(slots)
                continue
            if taken:
                self._pause(wait)
                return
            self._pause(min(max(wait, SHORTEST_PAUSE), LONGEST_PAUSE))

    def _release(self, name: str, *, alone: bool) -> None:
        with self._lock:
            if alone:
                self._alone[name] = self._clock()
            # Those that were asked may have been lost, or first been asked, since.
            slots = self._slots
        if slots is not None:
            self._hold(slots, name, self.window + MARGIN_SECONDS)

    def _hold(self, slots: Slots, name: str, seconds: float) -> None:
        try:
            slots.hold(name, seconds)
        except SlotsLost:
            self._lose(slots)

    def _lose(self, slots: Slots) -> None:
        """From now on count in this process: a Redis that is down must keep nobody from revoking a pairing."""
        with self._lock:
            if self._slots is slots:
                self._slots = LocalSlots(self._clock)


class SlotsLost(Exception):
    """Raised by shared slots that don't answer."""


_limiters: dict[str, Limiter] = {}
_registry = threading.Lock()


def limiter(name: str, rate: int, shared: Callable[[], Slots | None]) -> Limiter:
    """The limiter of this process for `name`: one for its reading and its writing systems together."""
    with _registry:
        if name not in _limiters:
            _limiters[name] = Limiter(rate, shared)
        return _limiters[name]
