"""The progress reports of the engine: `render` draws them, tests collect them."""

from __future__ import annotations

from typing import Protocol

from opsctl.engine.ledger.rows import Step


class Reporter(Protocol):
    """Receives the progress of a run. Called from several threads."""

    def step_started(self, step: Step) -> None:
        """A step was started."""

    def step_waiting(self, step: Step, text: str) -> None:
        """A step is waiting; `text` says for what."""

    def step_progress(self, step: Step, done: int, total: int | None, unit: str) -> None:
        """A step's batches have done `done` of `total` units."""

    def step_ended(self, step: Step) -> None:
        """A step has ended in its `state`."""

    def close(self) -> None:
        """No step is running: remove the live progress line."""

    def message(self, line: str) -> None:
        """Show one line of text."""


class NullReporter:
    """Reports nothing."""

    def step_started(self, step: Step) -> None:
        """Do nothing."""

    def step_waiting(self, step: Step, text: str) -> None:
        """Do nothing."""

    def step_progress(self, step: Step, done: int, total: int | None, unit: str) -> None:
        """Do nothing."""

    def step_ended(self, step: Step) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def message(self, line: str) -> None:
        """Do nothing."""
