"""The protocols that commands and changes are handed: the history of our own runs, a progress callback and a fingerprint function.

They name no adapter and no engine, so that every layer may use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

Fingerprint = Callable[[bytes], str]
"""Names a value without revealing it, keyed by ledger and environment."""


Kind = TypeVar("Kind")


class PastChange(NamedTuple, Generic[Kind]):
    """A change that a run of ours planned, and what became of it; `impact` is how much it was to affect."""

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
        """Whether it was made, or may have been, by us."""
        return self.state in ("begun", "made", "applied", "unknown") or (self.state == "moved" and self.begun is not None)


class RunHistory(Protocol):
    """What a change may ask of the ledger about changes of its own kind in this environment."""

    def past(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on a target, those of the newest run first."""
        ...

    def past_below(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on whatever lies in a target, those of the newest run first."""
        ...

    def past_impacts(self, kind: type[Kind]) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind, planned under this very configuration, that have an impact or evidence."""
        ...

    def past_active(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on a target in runs that a living process drives."""
        ...

    def begun(self, token: str, target: str) -> datetime | None:
        """When the run that `token` belongs to began its own change of `target`; None where it made none."""
        ...


class ProgressCallback(Protocol):
    """Called between batches: shows the progress; raises Interrupted when somebody wants a stop.

    This attempt has made `done` of `unit`, and that stands as its part if the attempt ends here. Without `effect` the number counts tries,
    which change nothing.
    """

    def __call__(self, done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None: ...


def no_progress(done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None:
    """Do nothing: nobody watches."""
