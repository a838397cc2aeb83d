"""What the engine tells while it works; render draws it, tests collect it."""

from __future__ import annotations

from typing import Protocol

from opsctl.engine.ledger.rows import Step


class Reporter(Protocol):
    """Told of every turn of a run; called from several threads."""

    def step_started(self, step: Step) -> None:
        """A step is taken up."""

    def step_waiting(self, step: Step, text: str) -> None:
        """What a step waits for."""

    def step_progress(self, step: Step, done: int, total: int | None, unit: str) -> None:
        """How far a step's batches came."""

    def step_ended(self, step: Step) -> None:
        """A step has reached its `state`."""

    def close(self) -> None:
        """Nothing goes on for now."""

    def message(self, line: str) -> None:
        """Anything else that a person should know."""


class NullReporter:
    """Watches and tells nobody."""

    def step_started(self, step: Step) -> None:
        """Say nothing."""

    def step_waiting(self, step: Step, text: str) -> None:
        """Say nothing."""

    def step_progress(self, step: Step, done: int, total: int | None, unit: str) -> None:
        """Say nothing."""

    def step_ended(self, step: Step) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Say nothing."""

    def message(self, line: str) -> None:
        """Say nothing."""
