"""The protocols that commands and changes use: the run history, a progress callback and a fingerprint function.

They import no adapter and no engine, so that every layer can use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

Fingerprint = Callable[[bytes], str]
"""Returns a keyed fingerprint that names a value without revealing it."""


Kind = TypeVar("Kind")


class PastChange(NamedTuple, Generic[Kind]):
    """A change of an earlier run, and its outcome. `impact` is the planned count."""

    run: str
    operator: str
    command: str
    change: Kind
    state: str
    impact: int
    begun: datetime | None
    ended: datetime | None
    evidence: dict[str, Any]

    @property
    def may_have_effect(self) -> bool:
        """Whether the run applied the change, or may have."""
        return self.state in ("begun", "made", "applied", "unknown") or (self.state == "moved" and self.begun is not None)


class RunHistory(Protocol):
    """The history of changes of one kind in this environment, read from the ledger."""

    def past(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on a target, those of the newest run first."""
        ...

    def past_below(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on the targets below `target`, those of the newest run first."""
        ...

    def past_impacts(self, kind: type[Kind]) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind that were planned with the present configuration and have an impact or evidence."""
        ...

    def past_active(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on a target in runs that a process is driving now."""
        ...

    def begun(self, token: str, target: str) -> datetime | None:
        """When the run of `token` began its change of `target`; None if it has none."""
        ...


class ProgressCallback(Protocol):
    """Called between batches. Shows the progress; raises Interrupted if a stop was requested.

    `done` of `unit` is what this attempt has changed so far; it is recorded if the attempt fails. Without `effect` it counts tries, which
    change nothing.
    """

    def __call__(self, done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None: ...


def no_progress(done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None:
    """Do nothing."""
