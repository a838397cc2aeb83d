"""What the engine tells while it works; render draws it, tests collect it."""

from __future__ import annotations

from typing import Protocol

from opsctl.engine.ledger.rows import Step


class Reporter(Protocol):
    """Told of every turn of a run; called from several threads."""

    def begins(self, step: Step) -> None:
        """A step is taken up."""

    def note(self, step: Step, text: str) -> None:
        """What a step waits for."""

    def beat(self, step: Step, done: int, total: int | None, unit: str) -> None:
        """How far a step's batches came."""

    def ends(self, step: Step) -> None:
        """A step has reached its `state`."""

    def rests(self) -> None:
        """Nothing goes on for now."""

    def says(self, line: str) -> None:
        """Anything else that a person should know."""


class NullReporter:
    """Watches and tells nobody."""

    def begins(self, step: Step) -> None:
        """Say nothing."""

    def note(self, step: Step, text: str) -> None:
        """Say nothing."""

    def beat(self, step: Step, done: int, total: int | None, unit: str) -> None:
        """Say nothing."""

    def ends(self, step: Step) -> None:
        """Say nothing."""

    def rests(self) -> None:
        """Say nothing."""

    def says(self, line: str) -> None:
        """Say nothing."""
