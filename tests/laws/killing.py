"""Kills a command at its Nth boundary, for real: after each event that is committed to the ledger, after each effect and before its
record, and between the batches of one.

What a process does between two boundaries leaves no trace, so that these are all the places where it can die.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opsctl.changes import all_kinds
from opsctl.engine.ledger.sqlite import SqliteStore
from opsctl.engine.runner import Runner

EVENTS = "SELECT count(*) FROM events"


def dying(passed: Path, at: int = 0, *, at_effect: bool = False) -> Callable[[], None]:
    """What makes a child write each boundary to `passed`, and kill itself at number `at` (0: never), or right after its first effect."""

    def arm() -> None:
        file = os.open(passed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # Services roll out side by side: each boundary takes its own number, however many threads pass one at once.
        numbers = itertools.count(1)

        def boundary(name: str) -> None:
            number = next(numbers)
            os.write(file, f"{name}\n".encode())
            if number == at or (at_effect and name.startswith("apply")):
                os.kill(os.getpid(), signal.SIGKILL)

        _watch_commits(boundary)
        _watch_effects(boundary)

    return arm


def _watch_commits(boundary: Callable[[str], None]) -> None:
    transaction = SqliteStore.transaction

    @contextlib.contextmanager
    def committed(self: SqliteStore, *, durable: bool = True) -> Iterator[None]:
        with transaction(self, durable=durable):
            before = self.query(EVENTS)
            yield
            written = self.query(EVENTS) != before
        if written:
            boundary("commit")

    SqliteStore.transaction = committed  # type: ignore[method-assign]


def _watch_effects(boundary: Callable[[str], None]) -> None:
    for kind in all_kinds():
        _watch(kind, "apply", boundary)
    _watch(Runner, "_progress", boundary)


def _watch(owner: Any, name: str, boundary: Callable[[str], None]) -> None:
    method = getattr(owner, name)

    def watched(self: Any, *args: Any, **how: Any) -> Any:
        found = method(self, *args, **how)
        boundary(f"{name} {type(self).__name__}")
        return found

    setattr(owner, name, watched)
