"""The order of a run's steps: a step waits for the earlier steps that it depends on, and never begins if one of them failed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from opsctl.contract import Change
from opsctl.engine.ledger.rows import ENDED, Step
from opsctl.errors import (
    Incomplete,
    InputRequired,
    Interrupted,
    LedgerFailed,
    LockHeld,
    OpsctlError,
    OutcomeUnknown,
    Retry,
    Unrecorded,
    WrongPlace,
    retry_after,
)

STOPS_ALL = (Interrupted, LedgerFailed, LockHeld, Unrecorded, WrongPlace)
"""Errors that end the run even if their step is independent. On LockHeld, the other run does the same work or undoes it."""


def stops_all(step: Step, error: OpsctlError) -> bool:
    """Whether the error of a step ends the whole run."""
    return not step.change.independent or error.bars or isinstance(error, STOPS_ALL)


def shares_target(later: Change, earlier: Change) -> bool:
    """Whether a change has a target of an earlier change, or declares such a target in `depends_on`."""
    return not {earlier.target, *earlier.extra_locks}.isdisjoint({later.target, *later.depends_on})


def depends_on(later: Change, earlier: Change) -> bool:
    """Whether a change must wait until an earlier change of its plan is done."""
    return not earlier.independent or shares_target(later, earlier)


class Halted(Interrupted):
    """Raised in a step that stops because another step or the operator stopped the run."""


class Order:
    """Hands the steps of one run to its workers and keeps the errors. Thread-safe.

    A worker reports its failure before it asks for the next step, so no step begins after a step that it depends on has failed.
    """

    def __init__(self) -> None:
        self.halt = threading.Event()
        self.unproven: list[Step] = []
        self._mutex = threading.Lock()
        self._failed: list[tuple[Step, OpsctlError]] = []
        self._blocked: list[Step] = []

    def next(self, queue: Iterator[Step]) -> Step | None:
        """The next step of `queue` that may begin; None if there is none or the run is stopping."""
        with self._mutex:
            for step in queue if not self.halt.is_set() else ():
                if not self._is_blocked(step):
                    return step
                self._blocked.append(step)
        return None

    def _is_blocked(self, step: Step) -> bool:
        failed = [*(each for each, _ in self._failed), *self._blocked]
        if any(depends_on(step.change, each.change) for each in failed if each.seq < step.seq):
            return True
        return any(shares_target(step.change, each.change) for each in self.unproven if each.seq < step.seq)

    def fail(self, step: Step, error: OpsctlError) -> None:
        """Keep the error of a step. The whole run stops, unless the step is independent."""
        with self._mutex:
            self._failed.append((step, error))
            if stops_all(step, error):
                self.halt.set()

    def raise_errors(self, steps: list[Step]) -> None:
        """Raise the error that the run ends with, if a step failed or isn't verified."""
        errors = [(step, error) for step, error in self._failed if not isinstance(error, Halted)] or self._failed
        if errors:
            raise _combined_error(errors, len(steps))
        if self.unproven:
            names = ", ".join(s.change.target for s in self.unproven)
            raise OutcomeUnknown(f"Applied and not yet verified: {names}.", Retry())


def _combined_error(errors: list[tuple[Step, OpsctlError]], steps: int) -> OpsctlError:
    """The one error of a run: the error that stopped it, or a summary of the independent steps that failed."""
    stops = [error for step, error in errors if stops_all(step, error)]
    if len(stops) == len(errors) or steps == 1 or isinstance(stops[0] if stops else None, STOPS_ALL):
        return stops[0] if stops else errors[0][1]
    left = " ".join(f"Not done: {_error_line(step, error)}" for step, error in errors)
    on = "" if stops else " The other steps were applied."
    kind: type[OpsctlError] = Incomplete
    if any(isinstance(error, OutcomeUnknown) for _, error in errors):
        kind = OutcomeUnknown
    elif all(isinstance(error, InputRequired) for _, error in errors):
        kind = InputRequired
    return kind(f"{left}{on}", retry_after(error.next for _, error in errors))


def _error_line(step: Step, error: OpsctlError) -> str:
    target = step.change.target
    return error.what if error.what.startswith(target) else f"{target}: {error.what}"


def remaining(steps: Iterable[Step]) -> list[Step]:
    """The steps that resuming a run drives: those that haven't ended, and steps found done or skipped that depend on one of those."""
    found: list[Step] = []
    for step in steps:
        looked = step.state in ("done", "skipped")
        if step.state not in ENDED or (looked and any(depends_on(step.change, each.change) for each in found)):
            found.append(step)
    return found
