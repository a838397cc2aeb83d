"""The engine: plan, guard, confirm, record, apply, resume and undo, once, for every command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

import opsctl
from opsctl.config import Environment
from opsctl.contract import Change, Done, Irreversible, Planning
from opsctl.engine import guards, order, outcome
from opsctl.engine import plan as plans
from opsctl.engine.history import CompletedRun, LedgerHistory, is_undo_of
from opsctl.engine.ledger.ledger import Ledger
from opsctl.engine.ledger.rows import ENDED, Result, Run, Step, run_id
from opsctl.engine.options import Options
from opsctl.engine.outcome import Outcome
from opsctl.engine.plan import Plan
from opsctl.engine.reporter import Reporter
from opsctl.engine.runner import Runner
from opsctl.errors import DriftError, LedgerFailed, OpsctlError, OutcomeUnknown, Refused, Retry, Unrecorded, retry_after
from opsctl.redaction import redact_record
from opsctl.systems import Systems

Make = Callable[[Planning], Iterable[Change]]

PLAN_ANEW = "Look again, then plan anew: -n --save FILE"


class Engine:
    """Drives commands in one environment. `read` and `write` are its two sets of systems; `operator` is who and where.

    `begun` says whether a run was driven, so that something may have been changed.
    """

    def __init__(
        self,
        environment: Environment,
        ledger: Ledger,
        read: Systems,
        write: Systems,
        reporter: Reporter,
        operator: str,
        tempo: float = 1.0,
    ) -> None:
        self.environment, self.ledger, self.read, self.write = environment, ledger, read, write
        self.reporter, self.operator, self.tempo = reporter, operator, tempo
        self.history = LedgerHistory(lambda: ledger, environment)
        self.begun = False

    def plan(self, command: str, make: Make, options: Options, follows: datetime | None = None, *, recall: bool = True) -> Plan:
        """Find out what a command would change; nothing can be written on the way. With `recall`, our memory may say that it is done."""
        self.read.verify_account()
        recall = recall and not (options.again or follows)
        # Before anything is looked at, so that what others do from here on is found later.
        position = self.history.position() if recall else None
        planning = Planning(self.read, self.read.now(), follows, options.again)
        plan = plans.make(command, make(planning), planning)
        plan.position = position
        # Memory speaks only for what no state can tell, and only where nothing else is to be changed too.
        if recall and plan.pending and all(step.change.proven_by_history for step in plan.pending) and (found := self._recent_run(command)):
            plan.changes = plans.mark_recently_done(plan.changes, found)
        if not options.again and any(p.change.outcome_known_by == "nothing" for p in plan.pending):
            self._require_decided(command)
        return plan

    def plan_again(self, saved: Plan, options: Options) -> Plan:
        """The very changes of a saved plan, as the world stands now; raises DriftError for one that had been so and is no more."""
        found = self.plan(saved.command, lambda planning: [planned.change for planned in saved.changes], options, follows=saved.follows)
        for now, then in zip(found.changes, saved.changes, strict=True):
            if now.pending and not then.pending:
                raise DriftError(f"{now.change.target}: it was {then.state} when it was reviewed, and is to be changed now.", PLAN_ANEW)
            # What was reviewed stays the bound of what is made.
            now.count, now.unit = then.count, then.unit
        return found

    def _recent_run(self, command: str, *, besides: str = "", since: int | None = None) -> CompletedRun | None:
        """Our recent run of the same command, unless the systems tell that somebody has changed since what it made."""
        found = self.history.recent_run(command, besides=besides, since=since)
        for step in found.steps if found else []:
            tells = step.state == "applied" and step.change.proven_by_history and step.change.outcome_known_by == "state"
            if tells and not isinstance(step.change.check(self.read), Done):
                return None
        return found

    def _require_decided(self, command: str, *, besides: str = "", change: Change | None = None) -> None:
        """Raise OutcomeUnknown while nobody knows whether the same blind change was made before: it would be sent a second time."""
        if found := self.history.undecided_step(command, besides=besides, change=change):
            run, step = found
            raise OutcomeUnknown(
                f"Run {run} began this before and nobody knows whether it happened: {step.change.summary}. It was not sent again.",
                f"Find out, then: opsctl runs settle {run} {step.seq} --done|--not-done --reason WHY; to send it all the same: --again",
            )

    def _recall(self, run: Run, steps: list[Step], step: Step) -> Done | None:
        """What memory says of a step under its lock: that another run has made the same since this one was planned, or just before."""
        if not (steps and step.change.proven_by_history and "position" in run.details):
            return None
        if step.change.outcome_known_by == "nothing":
            self._require_decided(run.command, besides=run.id, change=step.change)
        if any(each.may_have_effect for each in steps):
            return None
        found = self._recent_run(run.command, besides=run.id, since=run.details["position"])
        left = [each.change for each in steps if each.state not in ENDED]
        if found is None or not all(change.proven_by_history and found.same_change(change) for change in left):
            return None
        return Done(found.why, found.run.closed)

    def preview(self, plan: Plan, options: Options) -> Outcome:
        """A dry run's outcome; a guard that would stand against it is its error."""
        error: OpsctlError | None = None
        try:
            self.guard(plan, options)
        except OpsctlError as caught:
            error = caught
        return Outcome(
            run=None,
            environment=plan.environment,
            command=plan.command,
            dry_run=True,
            result="refused" if error else outcome.would(plan.changes),
            changes=[outcome.step_as_json(step) for step in plan.changes],
            plan=plan,
            error=error,
            untouched=True,
        )

    def guard(self, plan: Plan, options: Options) -> None:
        """Raise the first guard that stands against this plan."""
        guards.reject_drift(plan)
        guards.check_limits(plan, self.read, options)

    def perform(self, plan: Plan, options: Options, parent: tuple[str, int] | None = None, agreed: bool = False) -> Outcome:
        """Guard, confirm and apply a plan. `parent` is the playbook's run and item that it belongs to."""
        self.guard(plan, options)
        if plan.pending and not agreed:
            guards.require_approval(plan, self.read, options)
        details = {} if plan.position is None else {"position": plan.position}
        run = self.new_run(plan.command, options, parent=parent, details=details)
        steps = [msgspec.structs.replace(planned) for planned in plan.changes]
        self.ledger.open(run, steps)
        return self._drive(run, options, steps)

    def new_run(
        self,
        command: str,
        options: Options,
        *,
        kind: Any = "command",
        parent: tuple[str, int] | None = None,
        details: dict[str, Any] | None = None,
    ) -> Run:
        """A run that isn't in the ledger yet."""
        now, caller = self.ledger.now(), self.read.caller
        return Run(
            id=run_id(now),
            environment=self.environment.name,
            account=caller.account,
            caller=caller.arn,
            operator=self.operator,
            command=command,
            kind=kind,
            parent=parent[0] if parent else None,
            item=parent[1] if parent else None,
            reason=options.reason,
            incident=options.incident,
            opened=now,
            version=opsctl.__version__,
            config_digest=self.environment.digest,
            details=details or {},
        )

    def _drive(self, run: Run, options: Options, steps: list[Step] | None = None) -> Outcome:
        """Drive a run in the ledger, alone among processes, and close it with what came of it; without its new `steps` it is resumed."""
        self.begun = True
        with self.ledger.locks.hold(f"run/{run.id}", run.id, self.operator, run.command):
            unreviewed: list[int] = []
            if steps is None:
                self.ledger.reopen(run.id, {"operator": self.operator, "caller": self.read.caller.arn})
                steps = self.ledger.steps(run.id)
                unreviewed = self._reset_unverified(run, steps)
            error = self._run_steps(run, steps, options, unreviewed)
            word, error = self.close(run, outcome.result(steps, error), error, touched=any(step.may_have_effect for step in steps))
        return self._outcome(run, word, steps, error)

    def close(self, run: Run, word: Result, error: OpsctlError | None, *, touched: bool) -> tuple[Result, OpsctlError | None]:
        """Record how a run ended, and return that; where it can't be recorded and the run has `touched` something, it is unknown."""
        try:
            self.ledger.close(run.id, word, {"why": redact_record(error.what)} if error else {})
        except LedgerFailed as cause:
            if not touched:
                raise error or cause from cause
            if not isinstance(error, OutcomeUnknown):
                what = f"{error.what} " if error and error.what != cause.what else ""
                error = Unrecorded(
                    f"{what}The end of run {run.id}, which has changed something, can't be recorded. {cause.what}",
                    retry_after([cause.next], run.id),
                )
            return "unknown", error
        return word, error

    def _reset_unverified(self, run: Run, steps: list[Step]) -> list[int]:
        """Put back what was found done, or was skipped, behind a step that isn't done: by now it may be otherwise.

        Returns the numbers of those that the plan found so: nobody has agreed to make them.
        """
        again = [step for step in order.remaining(steps) if step.state in ENDED]
        for step in again:
            self.ledger.put(run.id, step, "pending", {"why": "looked at again, since an earlier step isn't done"})
        planned = self.ledger.events(run.id)[0].detail["steps"] if again else []
        return [step["seq"] for step in planned if step["state"] in ENDED]

    def _run_steps(self, run: Run, steps: list[Step], options: Options, unreviewed: list[int]) -> OpsctlError | None:
        runner = Runner(
            self.ledger,
            run,
            self.read,
            self.write,
            self.reporter,
            wait=not options.no_wait,
            timeout=options.timeout,
            limit=guards.limit(self.read, options),
            unreviewed=unreviewed,
            recall=partial(self._recall, run, [] if options.again else steps),
            tempo=self.tempo,
        )
        try:
            runner.run_steps(steps)
        except OpsctlError as error:
            if isinstance(error.next, Retry) and not error.next.run:
                error.next = error.next._replace(run=run.id)
            return error
        finally:
            self.reporter.close()
        return None

    def _outcome(self, run: Run, word: Result, steps: list[Step], error: OpsctlError | None = None) -> Outcome:
        return Outcome(
            run=run.id,
            environment=run.environment,
            command=run.command,
            result=word,
            changes=[outcome.step_as_json(s) for s in steps],
            error=error,
            untouched=not any(s.may_have_effect or s.begun for s in steps),
        )

    def resume(self, run: Run, options: Options) -> Outcome:
        """Take a command's run up again where the ledger says it stopped; raises Refused for one that was cancelled."""
        self.same_place(run)
        if run.result in ("changed", "unchanged"):
            return self._outcome(run, run.result, self.ledger.steps(run.id))
        return self._drive(run, options)

    def remaining(self, run: Run) -> Plan:
        """What taking a command's run up again would change."""
        self.same_place(run)
        left = [step.change for step in order.remaining(self.ledger.steps(run.id))]
        return self.plan(run.command, lambda planning: left, Options(again=True))

    def same_place(self, run: Run, *, allow_cancelled: bool = False) -> None:
        """Raise Refused unless `run` belongs to this environment and account and, if it isn't to be `allow_cancelled`, wasn't cancelled."""
        self.read.verify_account()
        if run.environment != self.environment.name or run.account != self.read.caller.account:
            raise Refused(
                f"Run {run.id} belongs to {run.environment} (account {run.account}).",
                f"Use --env {run.environment}.",
            )
        self.ledger.require_usable(run.id)
        if run.wish == "cancel" and not allow_cancelled:
            raise Refused(f"Run {run.id} was cancelled; it is not taken up again.", f"Start anew: opsctl {run.command}")

    def undo_plan(self, run: Run) -> tuple[Plan, list[str]]:
        """The plan that takes a run's changes back, newest first, and why each of the others has no way back."""
        steps, undos, owners, irreversible = [], [], [], []
        for owner, step in reversed([(each.id, step) for each in self._family(run) for step in self._steps_with_effect(each)]):
            undo = step.undo_change
            if isinstance(undo, Irreversible):
                irreversible.append(f"{step.change.target}: {step.change.summary}: {undo.why}")
            else:
                steps.append(step)
                undos.append(undo)
                owners.append(owner)
        plan = self.plan(f"runs undo {run.id}", lambda planning: undos, Options())
        before = self.history.undone_steps([*filter(None, [run.parent]), *(each.id for each in self._family(run))])
        for planned, step in zip(plan.changes, steps, strict=True):
            undone_by = next((run for run, done in before if is_undo_of(done, step)), None)
            # The target's present state is somebody else's, even if it looks like the one that this run left.
            if undone_by and planned.state in ("pending", "moved"):
                planned.state, planned.why, planned.count = "done", f"undone by run {undone_by}", 0
        _skip_drifted(plan.changes, owners)
        return plan, irreversible

    def _family(self, run: Run) -> list[Run]:
        """A run and, of a playbook, those of its steps."""
        return [run, *reversed(self.ledger.children(run.id))]

    def _steps_with_effect(self, run: Run) -> list[Step]:
        """Every step that a run made, made in part, or may have made: its way back finds out."""
        return [step for step in self.ledger.steps(run.id) if step.may_have_effect]

    def settle(self, run: Run, seq: int, *, happened: bool, reason: str) -> Step:
        """Record a person's word on what a blind step did; raises Refused for one whose outcome isn't unknown, or that resuming tells."""
        step = next((s for s in self.ledger.steps(run.id) if s.seq == seq), None)
        if step is None or step.state not in ("unknown", "begun", "made"):
            state = f"is {step.state}" if step else "doesn't exist"
            raise Refused(f"Step {seq} of run {run.id} {state}; only an unknown outcome is settled.", f"opsctl runs show {run.id}")
        if step.change.outcome_known_by == "state":
            what = f"Step {seq} of run {run.id} needs no person's word: its system tells whether it happened."
            raise Refused(what, Retry(run=run.id))
        step.why = f"settled by {self.operator}: {reason}"
        if not happened:
            step.begun = None
        self.ledger.put(run.id, step, "applied" if happened else "pending", {"settled": happened, "reason": reason, "by": self.operator})
        return step


def _skip_drifted(changes: list[Step], owners: list[str]) -> None:
    """Skip, in a plan that takes runs back, what somebody else has changed since, and the rest of the run that it belongs to.

    What one run made goes together: a service's count and its bounds, a secret's labels. Other runs of a playbook are taken back.
    """
    ahead: dict[str, int] = {}
    moved: dict[str, str] = {}
    for planned, owner in zip(changes, owners, strict=True):
        target = planned.change.target
        if planned.state == "moved" and target in ahead:
            # Changed again by a later run, which is taken back first.
            planned.state, planned.why, planned.after = "pending", "", ahead[target]
        elif planned.state == "moved":
            moved.setdefault(owner, target)
            planned.state, planned.why = "skipped", f"{target}: somebody else has changed it since: {planned.why}"
        if planned.pending:
            ahead.setdefault(target, planned.seq)
    for planned, owner in zip(changes, owners, strict=True):
        if planned.pending and owner in moved:
            planned.state, planned.why, planned.count = "skipped", f"{planned.change.target}: it goes with {moved[owner]}", 0
