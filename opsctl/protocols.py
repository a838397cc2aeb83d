"""The protocols that commands and changes are handed: the history of our own runs, a progress callback and a fingerprint function.

They name no adapter and no engine, so that every layer may use them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol

Fingerprint = Callable[[bytes], str]
"""Names a value without revealing it, keyed by ledger and environment."""


class Acknowledgement(NamedTuple):
    """Who acknowledged an alarm's transition, when, and in which run."""

    by: str
    at: datetime
    run: str


class RunHistory(Protocol):
    """What a command may ask of the ledger: which of our own changes stand."""

    def last_rotation(self, secret: str) -> tuple[str, str] | None:
        """The version before and after our last proven rotation of `secret`."""
        ...

    def compromised(self, secret: str) -> set[str]:
        """The versions of `secret` that a rotation of ours has replaced because others know their value."""
        ...

    def driving(self, target: str, version: str) -> str | None:
        """The run, driven by a living process, whose change of `target` makes or made `version`; None where there is none."""
        ...

    def begun(self, token: str, target: str) -> datetime | None:
        """When the run that `token` belongs to began its own change of `target`; None where it made none."""
        ...

    def acknowledged(self, alarm: str, transition: datetime) -> Acknowledgement | None:
        """Who of us looks after an alarm since this transition of it, as long as it wasn't taken back."""
        ...

    def met(self, kind: str, *, everybody: bool) -> bool:
        """Whether a run of ours under this very configuration has found something of what a kind of change ends."""
        ...


class ProgressCallback(Protocol):
    """Called between batches: shows the progress; raises Interrupted when somebody wants a stop.

    This attempt has made `done` of `unit`, and that stands as its part if the attempt ends here. Without `effect` the number counts tries,
    which change nothing.
    """

    def __call__(self, done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None: ...


def no_progress(done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None:
    """Do nothing: nobody watches."""
