"""Drives the steps of a run: records the intent before each effect, applies the change, and verifies it.

A step goes pending -> begun (the intent is recorded) -> made (the call was accepted) -> applied (its check says Done). Resuming does the
same: what a begun step did is found out by its check, by its token, or by the operator.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from opsctl.contract import Done, Drifted, Failed, Finding, InProgress, Pending, Skipped
from opsctl.engine import guards
from opsctl.engine.ledger.rows import ENDED, Lease, Run, State, Step
from opsctl.engine.order import Halted, Order
from opsctl.engine.reporter import Reporter
from opsctl.errors import (
    CheckFailed,
    CredentialsInvalid,
    Denied,
    DriftError,
    ExternalError,
    InputRequired,
    Interrupted,
    LedgerFailed,
    LockHeld,
    OpsctlError,
    OutcomeUnknown,
    PartialFailure,
    Refused,
    Retry,
    Unrecorded,
    retry_after,
)
from opsctl.redaction import redact_record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from opsctl.engine.ledger.ledger import Ledger
    from opsctl.systems import Systems

STOP_CHECK_SECONDS = 1.0
MAX_ATTEMPTS = 5
"""How many times one process makes a call that gets no answer, if its token or its check makes that safe."""
MAX_EMPTY_PASSES = 3
"""How many passes in a row may change nothing. One or two are explained by other processes or an estimated count."""
LATE_EFFECT_MARGIN = 0.25
"""After a call without an answer, wait longer by this fraction of the time that the call took."""
SHORTEST_PAUSE = 0.01

NextAction = Literal["ended", "look again", "wait"]


class Runner:
    """Drives one run in this process. `monotonic` returns seconds.

    `unreviewed` are the numbers of the steps that were done when the plan was reviewed: they are checked again, and never applied. `recall`
    is called under a step's lock before it is begun, and returns Done if another run has just applied the same change.
    """

    def __init__(
        self,
        ledger: Ledger,
        run: Run,
        read: Systems,
        write: Systems,
        reporter: Reporter,
        *,
        wait: bool = True,
        timeout: timedelta | None = None,
        limit: int | None = None,
        unreviewed: Collection[int] = (),
        recall: Callable[[Step], Done | None] = lambda step: None,
        monotonic: Callable[[], float] = time.monotonic,
        tempo: float = 1.0,
    ) -> None:
        self.ledger, self.run, self.read, self.write, self.reporter = ledger, run, read, write, reporter
        self.wait, self.timeout, self.monotonic, self.tempo = wait, timeout, monotonic, tempo
        self.unreviewed, self.recall = frozenset(unreviewed), recall
        self.limit = read.config.limits.max_affected if limit is None else limit
        self.order = Order()
        self._unanswered: Counter[int] = Counter()
        self._empty_passes: Counter[int] = Counter()
        self._may_take_effect_until: dict[int, float] = {}
        self._batches: dict[int, str] = {}
        self._stop_request: tuple[float, str | None] = (0.0, None)

    def run_steps(self, steps: list[Step]) -> None:
        """Drive every step that hasn't ended; consecutive steps of one kind in parallel, as far as the kind allows.

        After a step has failed, only steps that don't depend on it are driven. Raises the error of the run; the ledger records how far each
        step came.
        """
        for kind, group in groupby(steps, key=lambda s: type(s.change)):
            todo = [s for s in group if s.state not in ENDED]
            if todo and not self.order.halt.is_set():
                self._side_by_side(todo, kind.max_parallel)
        self.order.raise_errors(steps)

    def _side_by_side(self, steps: list[Step], width: int) -> None:
        queue, workers = iter(steps), min(width, len(steps))
        with ThreadPoolExecutor(workers, thread_name_prefix="step") as pool:
            futures: list[Future[None]] = [pool.submit(self._work, queue) for _ in range(workers)]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                self.order.halt.set()
                self.write.person.leave()
                raise Interrupted("Interrupted. The steps that had begun were completed.", Retry()) from None

    def _work(self, queue: Iterator[Step]) -> None:
        """Drive one step after another until none is left or the run is stopping."""
        while step := self.order.next(queue):
            try:
                self._drive(step)
            except OpsctlError as error:
                self.order.fail(step, error)
            except BaseException:
                self.order.halt.set()
                raise

    def _drive(self, step: Step) -> None:
        self._check_stop(anew=True)
        self.reporter.step_started(step)
        if step.change.outcome_known_by == "nothing" and step.state in ("begun", "unknown"):
            self._end(step, "unknown", "it was begun, and no system can say whether it happened")
            raise self._unknown(step)
        try:
            with self._locked(step) as lease:
                self._until_done(step, lease)
        except LedgerFailed as cause:
            raise self._unrecorded(step, cause) from cause

    def _unrecorded(self, step: Step, cause: LedgerFailed) -> OpsctlError:
        """The error for a step when the ledger fails. `step.state` is the last recorded state."""
        if step.state not in ("begun", "made"):
            return cause
        what = f"{step.change.target}: it was begun, and its outcome can't be recorded. {cause.what}"
        return Unrecorded(what, retry_after([cause.next]))

    @contextmanager
    def _locked(self, step: Step) -> Iterator[Lease]:
        deadline = self.monotonic() + self.read.config.limits.lock_wait.total_seconds()
        while True:
            try:
                change = step.change
                lease = self.ledger.locks.acquire(change.target, self.run.id, self.run.operator, self.run.command, change.extra_locks)
                break
            except LockHeld as held:
                if self.monotonic() >= deadline:
                    raise
                self.reporter.step_waiting(step, held.what)
                self.order.halt.wait(0.2)
                self._check_stop()
        try:
            yield lease
        finally:
            self.ledger.locks.release(lease)

    def _until_done(self, step: Step, lease: Lease) -> None:
        limit = step.change.timeout if self.timeout is None else self.timeout.total_seconds()
        deadline, late = self.monotonic() + limit, False
        while True:
            found = self._check(step)
            if late and isinstance(found, Pending | InProgress):
                raise self._timed_out(step, found, limit)
            action = self._advance(step, lease, found)
            if action == "ended":
                return
            if action == "wait":
                if not self.wait:
                    self.order.unproven.append(step)
                    return
                left = max(deadline - self.monotonic(), 0)
                self.order.halt.wait(max(min(step.change.poll * self.tempo, left), SHORTEST_PAUSE))
            if action == "wait" or step.change.converging:
                # A change that was just applied is checked once before the run stops, so that its outcome is known.
                self._check_stop()
            late = self.monotonic() >= deadline

    def _timed_out(self, step: Step, found: Pending | InProgress, limit: float) -> OutcomeUnknown:
        what = f"{step.change.target} is not verified after {limit:.0f} s; the change may still complete"
        if isinstance(found, Pending) and step.change.converging:
            what = f"{step.change.target}: {found.count:,} {found.unit} are left after {limit:.0f} s"
        return OutcomeUnknown(f"{what}.", Retry())

    def _advance(self, step: Step, lease: Lease, found: Finding) -> NextAction:
        """Act on the finding of a check."""
        match found:
            case Done(why, at):
                step.at = at
                self._end(step, "applied" if step.begun else "done", why, lease)
                return "ended"
            case Skipped(why):
                self._end(step, "skipped", why, lease)
                return "ended"
            case Drifted(why):
                raise self._drifted(step, why, lease)
            case Failed(why) if step.begun:
                self._end(step, "failed", why, lease)
                raise ExternalError(f"{step.change.target}: {why.rstrip('.')}.", f"opsctl runs show {self.run.id}")
            case Pending() | Failed() if not self._within_read_lag(step):
                return self._apply_unless_recalled(step, lease, found)
            case InProgress(note):
                self.reporter.step_waiting(step, note)
                if step.state == "begun":
                    self._record(step, "made", {"note": note}, lease)
            case _ if step.state == "begun":
                self.reporter.step_waiting(step, "the call got no answer; waiting until it can no longer take effect")
            case _:
                self.reporter.step_waiting(step, "applied; waiting until the change is visible")
        return "wait"

    def _apply_unless_recalled(self, step: Step, lease: Lease, found: Pending | Failed) -> NextAction:
        if step.begun is None and (made := self.recall(step)):
            return self._advance(step, lease, made)
        if self._empty_passes[step.seq] >= MAX_EMPTY_PASSES:
            raise self._no_progress(step, found, lease)
        self._apply(step, lease, found)
        if step.state == "made" and not self._empty_passes[step.seq]:
            return "look again"
        return "ended" if step.state == "applied" else "wait"

    def _drifted(self, step: Step, why: str, lease: Lease) -> OpsctlError:
        """Record that somebody else changed the target, before this change or after it. A change that was applied can still be undone."""
        state = step.state
        if step.begun is None:
            self._end(step, "moved", why, lease)
            return DriftError(f"{step.change.target}: {why}. Stopped before this change.", "Check it, then make a new plan.")
        effect = "the change was applied" if state in ("made", "applied", "moved") else "the change was begun, and may have been applied"
        what = f"{effect}; since then somebody else has changed the target: {why.rstrip('.')}"
        self._end(step, "moved", what, lease)
        undo = f"opsctl runs undo {self.run.id}"
        return CheckFailed(f"{step.change.target}: {what}.", f"Check the target. To undo what is still as this run left it: {undo}")

    def _no_progress(self, step: Step, found: Pending | Failed, lease: Lease) -> CheckFailed:
        """End a converging change whose passes change nothing although something matches."""
        why = f"{found.count:,} {found.unit} match, but {MAX_EMPTY_PASSES} passes changed none of them"
        self._end(step, "failed", why, lease)
        return CheckFailed(
            f"{step.change.target}: {why}.",
            Retry("Check which rows or keys the writing login may see and change"),
        )

    def _check(self, step: Step) -> Finding:
        """Check a step. Once the change was applied, a system that is down is queried again until the deadline."""
        try:
            return step.change.check(self.read)
        except ExternalError as cause:
            if step.state == "made" and not isinstance(cause, CredentialsInvalid | Denied):
                return InProgress(f"could not be queried: {cause.what}")
            if step.begun:
                raise self._unknown(step, cause) from cause
            raise

    def _within_read_lag(self, step: Step) -> bool:
        if step.state == "made":
            return not step.change.converging
        if step.begun is None:
            return False
        since = abs(self.read.now() - step.begun).total_seconds()
        return since < step.change.read_lag or self._under_way(step, since)

    def _under_way(self, step: Step, since: float) -> bool:
        """Whether a call that got no answer may still take effect. With a token it doesn't matter: repeating has no second effect."""
        if step.state not in ("begun", "unknown") or step.change.outcome_known_by == "idempotency_key" or not step.change.under_way:
            return False
        return since < step.change.under_way * self.tempo or self.monotonic() < self._may_take_effect_until.get(step.seq, 0)

    def _apply(self, step: Step, lease: Lease, found: Pending | Failed) -> None:
        """Record the intent, make the one effecting call, and record its outcome."""
        try:
            guards.require_reviewed(step, found, self.limit, self.unreviewed)
        except Refused as error:
            # A change beyond the approved impact ends the whole run, even if its kind is independent.
            error.bars = True
            raise
        before: State = step.state
        if parts := _earlier_effects(step, found):
            step.evidence = {"parts": parts}
        step.begun = self.read.now()
        self._batches.pop(step.seq, None)
        self._record(step, "begun", {"attempt": self._token(step)}, lease)
        started = self.monotonic()
        try:
            answer = step.change.apply(self.write, self._token(step), partial(self._progress, step))
        except (InputRequired, Refused, Interrupted) as stop:
            self._stopped(step, before, stop, lease)
            raise
        except (PartialFailure, ExternalError, CheckFailed) as no:
            # Nothing was changed, so a later change of the target is somebody else's.
            in_part = self._keep_partial_effect(step, no)
            if not in_part and isinstance(no, ExternalError) and before == "pending" and not step.partial_effects:
                step.begun = None
            self._end(step, "failed", no.what, lease)
            raise
        except OutcomeUnknown as cause:
            ended = self.monotonic()
            self._may_take_effect_until[step.seq] = ended + (ended - started) * LATE_EFFECT_MARGIN
            if self._keep_partial_effect(step, cause):
                self._record(step, "begun", {"evidence": step.evidence}, lease)
            if step.change.outcome_known_by == "nothing":
                self._end(step, "unknown", cause.what, lease)
                raise self._unknown(step, cause) from cause
            self._unanswered[step.seq] += 1
            if self._unanswered[step.seq] == MAX_ATTEMPTS:
                raise self._unknown(step, cause) from cause
            self.reporter.step_waiting(step, f"{cause.what} Checking whether it happened.")
            return
        self._empty_passes[step.seq] = self._empty_passes[step.seq] + 1 if step.change.converging and not any(answer.values()) else 0
        step.evidence = {**answer, **({"parts": parts} if parts else {})}
        self._accepted(step, lease)

    def _keep_partial_effect(self, step: Step, error: OpsctlError) -> bool:
        """Keep what the attempt changed before the error, from the error or the last batch. Returns whether it changed anything."""
        made = list(error.parts) if isinstance(error, PartialFailure) else []
        if batches := self._batches.pop(step.seq, ""):
            made.append(batches)
            error.what = f"{batches} were done, then: {error.what}"
        if made:
            step.evidence = {"parts": [*step.partial_effects, *made]}
        return bool(made)

    def _stopped(self, step: Step, before: State, stop: OpsctlError, lease: Lease) -> None:
        """Record a stop. Resuming continues with the rest; an attempt that changed nothing leaves the step as it was."""
        if self._keep_partial_effect(step, stop):
            self._record(step, "pending", {"not made": stop.what, "evidence": step.evidence}, lease)
        elif not isinstance(stop, Interrupted):
            step.begun = None if before == "pending" and not step.partial_effects else step.begun
            self._record(step, before, {"not made": stop.what}, lease)

    def _accepted(self, step: Step, lease: Lease) -> None:
        if step.change.outcome_known_by == "state":
            return self._record(step, "made", {"evidence": step.evidence}, lease)
        if at := (step.evidence or {}).get("at"):
            step.at = datetime.fromisoformat(at)
        return self._end(step, "applied", str((step.evidence or {}).get("why", "accepted")), lease)

    def _token(self, step: Step) -> str:
        return f"{self.run.id}-{step.seq}"

    def _record(self, step: Step, state: State, detail: dict[str, Any], lease: Lease | None = None) -> None:
        words = {name: redact_record(value) if isinstance(value, str) else value for name, value in detail.items()}
        self.ledger.put(self.run.id, step, state, words, lease)

    def _end(self, step: Step, state: State, why: str, lease: Lease | None = None) -> None:
        step.why = redact_record(why)
        self._record(step, state, {"why": why, "evidence": step.evidence}, lease)
        self.reporter.step_ended(step)

    def _unknown(self, step: Step, cause: OpsctlError | None = None) -> OutcomeUnknown:
        reason = f"{cause.what} " if cause else ""
        progress = "It was applied, but not verified" if step.state == "made" else "It was begun, and its outcome is unknown"
        settle = f"opsctl runs settle {self.run.id} {step.seq} --done|--not-done --reason WHY"
        first = cause.next if isinstance(cause, CredentialsInvalid | Denied) else ""
        blind = step.change.outcome_known_by == "nothing"
        return OutcomeUnknown(
            f"{step.change.target}: {reason}{progress}.",
            f"Find out whether it happened, then: {settle}" if blind else retry_after([first]),
        )

    def _check_stop(self, *, anew: bool = False) -> None:
        """Raise Halted or Interrupted if a stop was requested. The ledger is read once a second, and with `anew` always."""
        if self.order.halt.is_set():
            raise Halted("Stopped.", Retry())
        looked, request = self._stop_request
        if anew or self.monotonic() - looked >= STOP_CHECK_SECONDS:
            self._stop_request = (self.monotonic(), request := self.ledger.stop_requested(self.run.id))
        if request:
            self.order.halt.set()
            word = {"pause": "paused", "cancel": "cancelled"}[request]
            undo = "" if self.run.parent else f"To undo what it did: opsctl runs undo {self.run.id}"
            raise Interrupted(f"Run {self.run.id} was {word} by request.", Retry() if request == "pause" else undo)

    def _progress(self, step: Step, done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None:
        self.reporter.step_progress(step, done, total, unit)
        if done and effect:
            self._batches[step.seq] = f"{done:,} {unit}"
        self._check_stop()


def _earlier_effects(step: Step, found: Pending | Failed) -> list[str]:
    """The effects of earlier attempts at a step: from their evidence or, without any, from how much less is left to do."""
    parts = step.partial_effects
    evidence = ", ".join(f"{name} {value}" for name, value in (step.evidence or {}).items() if name != "parts")
    if step.state == "made" and evidence:
        parts.append(evidence)
    elif step.state == "begun" and (fewer := step.count - found.count) > 0:
        parts.append(f"{fewer:,} {found.unit} fewer than reviewed, after a call without an answer")
    return parts
