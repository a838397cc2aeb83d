"""A rate limiter for all processes of a user on a machine: at most `rate` requests in any window.

A slot is acquired before a request is sent, and is free one window after the answer, so that it covers the time at which HubSpot counted
the request. The slot of a process that died expires. Requests are spaced evenly.

Slots are stored in a file, under a lock, with the monotonic clock that all processes share. Another machine counts separately: both
together may get a 429, whose Retry-After is obeyed.
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
"""Longer than any request."""
MARGIN_SECONDS = 0.005
"""Added to a window, since two clocks differ."""
LONGEST_PAUSE = 1.0
SHORTEST_PAUSE = 0.001
LARGEST_FILE = 1 << 20
SUFFIX = ".slots"
UNUSED_SECONDS = 86_400
LOCKING = Policy(tries=10_000, deadline=2.0, first=0.001, longest=0.01)
"""The retry policy for the file's lock, which is held for less than a millisecond, unless the process was stopped."""


class StoreUnavailable(Exception):
    """Raised by a store that can't be read, written or locked."""


class TokenStore(Protocol):
    """A store of slots."""

    def acquire(self, name: str, limit: int, window: float) -> tuple[bool, float]:
        """Acquire a slot: True and the seconds until the request may be sent, or False and the seconds until the next try."""
        ...

    def extend(self, name: str, seconds: float) -> None:
        """Extend a slot to `seconds` from now."""
        ...


class TokenWindow(Struct):
    """The expiry of each slot, and the earliest time of the next request, on the monotonic clock."""

    until: dict[str, float] = {}
    next: float = 0.0

    def acquire(self, now: float, name: str, limit: int, window: float) -> tuple[bool, float]:
        """Acquire a slot; see TokenStore.acquire. Impossible times are from before a reboot and are dropped."""
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
        """The slots in the file; an unreadable file counts as a full window."""
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

    `learn` sets HubSpot's own limit; before, it is `rate` in ten seconds.
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
        """Set HubSpot's limit: the lower of both rates, and the window in seconds (0: no limit)."""
        self.rate = min(rate, self._configured) if rate > 0 else self._configured
        self.window = window

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot for the request in the block."""
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
        """Count in this process from now on: a full disk must not prevent revoking a pairing."""
        if self._store is store:
            self._store = MemoryStore(self._clock)


_limiters: dict[tuple[Path, int], Limiter] = {}
_registry = threading.Lock()


def limiter(name: str, rate: int, folder: Path) -> Limiter:
    """The limiter of this process for `name`, with its slots in a file in `folder`; shared by the read-only and the writing set."""
    path = folder / f"{name}{SUFFIX}"
    with _registry:
        if (path, rate) not in _limiters:
            _remove_unused(folder)
            _limiters[path, rate] = Limiter(rate, FileStore(path))
        return _limiters[path, rate]


def _remove_unused(folder: Path) -> None:
    """Remove files that were not used for a day, such as those of ended sandboxes."""
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > UNUSED_SECONDS:
                path.unlink()
