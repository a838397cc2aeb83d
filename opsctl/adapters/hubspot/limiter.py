"""A limiter that never meets a 429 of this machine's making: at most `rate` requests in any window, counted where all processes see it.

A slot is taken before a request is sent and is free again one window after its answer, so that it covers the moment at which HubSpot
counted the request, whenever that was. The slot of a holder that died ends by a lease. Requests are spaced evenly.

Slots are kept in a file of this user on this machine, under a lock, on the clock that all processes share. Another machine counts for
itself: what both send together may meet a 429, whose Retry-After is waited for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from opsctl import files
from opsctl.retry import Policy, TryAgain, retry

WINDOW_SECONDS = 10.0
LEASE_SECONDS = 40.0
"""Longer than any request may take."""
MARGIN_SECONDS = 0.005
"""Added to a window, since two clocks don't run alike."""
LONGEST_PAUSE = 1.0
SHORTEST_PAUSE = 0.001
LARGEST_FILE = 1 << 20
SUFFIX = ".slots"
UNUSED_SECONDS = 86_400
LOCKING = Policy(tries=10_000, deadline=2.0, first=0.001, longest=0.01)
"""How long the file's lock is waited for: it is held for less than a millisecond, unless its holder was stopped."""


class StoreUnavailable(Exception):
    """Raised by a store that can't be read, written or locked."""


class TokenStore(Protocol):
    """Where slots are counted."""

    def acquire(self, name: str, limit: int, window: float) -> tuple[bool, float]:
        """Take a slot: True, and the seconds until its request may be sent; or False, and the seconds until asking again is of use."""
        ...

    def extend(self, name: str, seconds: float) -> None:
        """Keep a slot for `seconds` from now, whether it was taken before or not."""
        ...


class TokenWindow(Struct):
    """The time until which each slot is taken, and the time before which no request is sent; both on the monotonic clock."""

    until: dict[str, float] = {}
    next: float = 0.0

    def acquire(self, now: float, name: str, limit: int, window: float) -> tuple[bool, float]:
        """Take a slot; see TokenStore.acquire. A time that no slot can have is of an earlier start of this machine, and is dropped."""
        latest = now + LEASE_SECONDS + 2 * max(window, WINDOW_SECONDS)
        self.until = {held: until for held, until in self.until.items() if now < until <= latest}
        if len(self.until) >= limit:
            return False, min(self.until.values()) - now
        at = max(now, self.next) if self.next <= latest else now
        self.until[name] = at + LEASE_SECONDS
        self.next = at + window / limit
        return True, at - now


class MemoryStore:
    """The slots of this process. Safe between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock, self._slots = clock, threading.Lock(), TokenWindow()

    def acquire(self, name: str, limit: int, window: float) -> tuple[bool, float]:
        """As `TokenStore.acquire`."""
        with self._lock:
            return self._slots.acquire(self._clock(), name, limit, window)

    def extend(self, name: str, seconds: float) -> None:
        """As `TokenStore.extend`."""
        with self._lock:
            self._slots.until[name] = self._clock() + seconds


class FileStore:
    """The slots of all processes of this user on this machine, in a file that only this user may read. Safe between threads."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()

    def acquire(self, name: str, limit: int, window: float) -> tuple[bool, float]:
        """As `TokenStore.acquire`."""
        with self._opened() as slots:
            return slots.acquire(self._clock(), name, limit, window)

    def extend(self, name: str, seconds: float) -> None:
        """As `TokenStore.extend`."""
        with self._opened() as slots:
            slots.until[name] = self._clock() + seconds

    @contextmanager
    def _opened(self) -> Iterator[TokenWindow]:
        """The file's slots under its lock; they are written back after the block."""
        with self._lock:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor = files.append_only(self._path, os.O_RDWR | os.O_CREAT)
                try:
                    _lock(descriptor)
                    slots = self._read(descriptor)
                    yield slots
                    content = msgspec.json.encode(slots) + b"\n"
                    os.pwrite(descriptor, content, 0)
                    os.ftruncate(descriptor, len(content))
                finally:
                    os.close(descriptor)
            except OSError as cause:
                raise StoreUnavailable(str(cause.strerror)) from cause

    def _read(self, descriptor: int) -> TokenWindow:
        """The slots in the file; a file that can't be read counts as a window that is full."""
        content = os.pread(descriptor, LARGEST_FILE, 0).partition(b"\n")[0]
        try:
            return msgspec.json.decode(content, type=TokenWindow) if content else TokenWindow()
        except (msgspec.MsgspecError, UnicodeError):
            return TokenWindow(next=self._clock() + WINDOW_SECONDS)


def _lock(descriptor: int) -> None:
    def once() -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            if cause.errno in (errno.EAGAIN, errno.EACCES):
                raise TryAgain(cause) from cause
            raise

    retry(once, LOCKING)


class Limiter:
    """One limit of one app, counted in `store`. Safe between threads.

    `learn` tells what HubSpot itself says of its limit; until then it is `rate` in ten seconds.
    """

    def __init__(
        self,
        rate: int,
        store: TokenStore | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._configured = self.rate = rate
        self.window = WINDOW_SECONDS
        self._clock, self._pause = clock, pause
        self._store = store or MemoryStore(clock)

    def learn(self, rate: int, window: float) -> None:
        """Take over HubSpot's own figures: the lower rate of theirs and ours, and the window in seconds (0: no limit)."""
        self.rate = min(rate, self._configured) if rate > 0 else self._configured
        self.window = window

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot, and hold it while the block sends one request and reads its answer."""
        if self.window <= 0:
            yield
            return
        name = uuid.uuid4().hex
        self._wait(name)
        try:
            yield
        finally:
            self._extend(name)

    def _wait(self, name: str) -> None:
        while True:
            store = self._store
            try:
                acquired, wait = store.acquire(name, max(1, self.rate), self.window)
            except StoreUnavailable:
                self._lose(store)
                continue
            if acquired:
                self._pause(wait)
                return
            self._pause(min(max(wait, SHORTEST_PAUSE), LONGEST_PAUSE))

    def _extend(self, name: str) -> None:
        store = self._store
        try:
            store.extend(name, self.window + MARGIN_SECONDS)
        except StoreUnavailable:
            self._lose(store)
            self._store.extend(name, self.window + MARGIN_SECONDS)

    def _lose(self, store: TokenStore) -> None:
        """From now on count in this process: a disk that is full must keep nobody from revoking a pairing."""
        if self._store is store:
            self._store = MemoryStore(self._clock)


_limiters: dict[tuple[Path, int], Limiter] = {}
_registry = threading.Lock()


def limiter(name: str, rate: int, folder: Path) -> Limiter:
    """The limiter of this process for `name`, whose slots are a file in `folder`; one for its reading and its writing systems together."""
    path = folder / f"{name}{SUFFIX}"
    with _registry:
        if (path, rate) not in _limiters:
            _remove_unused(folder)
            _limiters[path, rate] = Limiter(rate, FileStore(path))
        return _limiters[path, rate]


def _remove_unused(folder: Path) -> None:
    """Remove the files that nobody has used for a day, as each sandbox that has ended leaves one: their slots are free."""
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > UNUSED_SECONDS:
                path.unlink()
