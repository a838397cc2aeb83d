"""The progress reports of the engine: `render` draws them, tests collect them."""

from __future__ import annotations

from opsctl.engine.ledger.rows import Step


class Reporter:
    """Receives the progress of a run, and does nothing with it. Called from several threads."""

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
