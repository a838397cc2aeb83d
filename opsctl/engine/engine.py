"""The engine: plans, guards, confirms, records, applies, resumes and undoes the changes of every command."""

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

PLAN_ANEW = "Check it, then make a new plan: -n --save FILE"


class Engine:
    """Plans and applies commands in one environment. `read` and `write` are the read-only and the writing systems; `operator` is user@host.

    `begun` is True once a run was driven, so that something may have been changed.
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
        """The plan of a command, made with read-only systems. With `recall`, a recent run of the same command counts as done."""
        self.read.verify_account()
        recall = recall and not (options.again or follows)
        # Taken before the first check, so that changes made by other runs from here on are found later.
        position = self.history.position() if recall else None
        planning = Planning(self.read, self.read.now(), follows, options.again)
        plan = plans.make(command, make(planning), planning)
        plan.position = position
        # The run history counts only where no state can be checked, and only if nothing else is to be changed.
        if recall and plan.pending and all(step.change.proven_by_history for step in plan.pending) and (found := self._recent_run(command)):
            plan.changes = plans.mark_recently_done(plan.changes, found)
        if not options.again and any(p.change.outcome_known_by == "nothing" for p in plan.pending):
            self._require_decided(command)
        return plan

    def plan_again(self, saved: Plan, options: Options) -> Plan:
        """The changes of a saved plan, checked again. Raises DriftError if a change that was done when reviewed is now pending."""
        found = self.plan(saved.command, lambda planning: [planned.change for planned in saved.changes], options, follows=saved.follows)
        for now, then in zip(found.changes, saved.changes, strict=True):
            if now.pending and not then.pending:
                raise DriftError(
                    f"{now.change.target}: it was {then.state} when the plan was reviewed; now it would be changed.", PLAN_ANEW
                )
            # The reviewed impact stays the limit.
            now.count, now.unit = then.count, then.unit
        return found

    def _recent_run(self, command: str, *, besides: str = "", since: int | None = None) -> CompletedRun | None:
        """The recent run of the same command, unless a check shows that its changes no longer hold."""
        found = self.history.recent_run(command, besides=besides, since=since)
        for step in found.steps if found else []:
            checkable = step.state == "applied" and step.change.proven_by_history and step.change.outcome_known_by == "state"
            if checkable and not isinstance(step.change.check(self.read), Done):
                return None
        return found

    def _require_decided(self, command: str, *, besides: str = "", change: Change | None = None) -> None:
        """Raise OutcomeUnknown if an earlier run began the same blind change and its outcome is unknown: it would be sent twice."""
        if found := self.history.undecided_step(command, besides=besides, change=change):
            run, step = found
            raise OutcomeUnknown(
                f"Run {run} began this change and its outcome is unknown: {step.change.summary}. It was not sent again.",
                f"Find out, then: opsctl runs settle {run} {step.seq} --done|--not-done --reason WHY; to send it anyway: --again",
            )

    def _recall(self, run: Run, steps: list[Step], step: Step) -> Done | None:
        """Done if another run has applied the same change since this run was planned, or shortly before. Called under the step's lock."""
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
        """The outcome of a dry run. Its error is the one of the first guard that refuses the plan."""
        error: OpsctlError | None = None
        try:
            self.guard(plan, options)
        except OpsctlError as caught:
            error = caught
        return Outcome(
            run=None,
            environment=plan.environment,
            command=plan.command,
            typed=options.typed(plan.command),
            dry_run=True,
            result="refused" if error else outcome.would(plan.changes),
            changes=[outcome.step_as_json(step) for step in plan.changes],
            plan=plan,
            error=error,
            untouched=True,
        )

    def guard(self, plan: Plan, options: Options) -> None:
        """Raise the error of the first guard that refuses the plan."""
        guards.reject_drift(plan)
        guards.check_limits(plan, self.read, options)

    def perform(self, plan: Plan, options: Options, parent: tuple[str, int] | None = None, agreed: bool = False) -> Outcome:
        """Guard, confirm and apply a plan. `parent` is the playbook's run and the number of its step, if there is one."""
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
        now, caller, typed = self.ledger.now(), self.read.caller, options.typed(command)
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
            details={**(details or {}), **({"typed": typed} if typed != command else {})},
        )

    def _drive(self, run: Run, options: Options, steps: list[Step] | None = None) -> Outcome:
        """Drive a run under its lock, and close it with its result. Without `steps` the run is resumed."""
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
        """Record the result of a run and return it. If it can't be recorded and the run has `touched` something, the result is unknown."""
        try:
            self.ledger.close(run.id, word, {"why": redact_record(error.what)} if error else {})
        except LedgerFailed as cause:
            if not touched:
                raise error or cause from cause
            if not isinstance(error, OutcomeUnknown):
                what = f"{error.what} " if error and error.what != cause.what else ""
                error = Unrecorded(
                    f"{what}Run {run.id} has changed something, and its result can't be recorded. {cause.what}",
                    retry_after([cause.next], run.id),
                )
            return "unknown", error
        return word, error

    def _reset_unverified(self, run: Run, steps: list[Step]) -> list[int]:
        """Set steps that were found done or were skipped, and that depend on a step which isn't done, to pending: they are checked again.

        Returns the numbers of the steps that the plan had found done: their changes were not approved.
        """
        again = [step for step in order.remaining(steps) if step.state in ENDED]
        for step in again:
            self.ledger.put(run.id, step, "pending", {"why": "checked again, because an earlier step isn't done"})
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
        """Resume a run from where it stopped. Raises Refused for a run that was cancelled."""
        self.same_place(run)
        if run.result in ("changed", "unchanged"):
            return self._outcome(run, run.result, self.ledger.steps(run.id))
        return self._drive(run, options)

    def remaining(self, run: Run) -> Plan:
        """The plan of what resuming a run would change."""
        self.same_place(run)
        left = [step.change for step in order.remaining(self.ledger.steps(run.id))]
        return self.plan(run.command, lambda planning: left, Options(again=True))

    def same_place(self, run: Run, *, allow_cancelled: bool = False) -> None:
        """Raise Refused unless `run` belongs to this environment and account and, without `allow_cancelled`, was not cancelled."""
        self.read.verify_account()
        if run.environment != self.environment.name or run.account != self.read.caller.account:
            raise Refused(
                f"Run {run.id} belongs to {run.environment} (account {run.account}).",
                f"Use --env {run.environment}.",
            )
        self.ledger.require_usable(run.id)
        if run.wish == "cancel" and not allow_cancelled:
            raise Refused(f"Run {run.id} was cancelled and can't be resumed.", f"Start a new run: opsctl {run.command}")

    def undo_plan(self, run: Run) -> tuple[Plan, list[str]]:
        """The plan that undoes a run's changes, newest first, and the reasons why the other changes can't be undone."""
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
        """A run and, for a playbook, the runs of its steps."""
        return [run, *reversed(self.ledger.children(run.id))]

    def _steps_with_effect(self, run: Run) -> list[Step]:
        """The steps of a run that changed something, or may have."""
        return [step for step in self.ledger.steps(run.id) if step.may_have_effect]

    def settle(self, run: Run, seq: int, *, happened: bool, reason: str) -> Step:
        """Record whether a blind step happened. Raises Refused if the step's outcome is known, or if resuming can find it out."""
        step = next((s for s in self.ledger.steps(run.id) if s.seq == seq), None)
        if step is None or step.state not in ("unknown", "begun", "made"):
            state = f"is {step.state}" if step else "doesn't exist"
            raise Refused(
                f"Step {seq} of run {run.id} {state}; only a step with an unknown outcome can be settled.", f"opsctl runs show {run.id}"
            )
        if step.change.outcome_known_by == "state":
            what = f"Step {seq} of run {run.id} need not be settled: resuming the run checks whether it happened."
            raise Refused(what, Retry(run=run.id))
        step.why = f"settled by {self.operator}: {reason}"
        if not happened:
            step.begun = None
        self.ledger.put(run.id, step, "applied" if happened else "pending", {"settled": happened, "reason": reason, "by": self.operator})
        return step


def _skip_drifted(changes: list[Step], owners: list[str]) -> None:
    """In a plan that undoes runs, skip targets that somebody else has changed since, and all other changes of the same run.

    The changes of one run belong together (a service's count and its bounds, a secret's labels). Other runs of a playbook are undone.
    """
    ahead: dict[str, int] = {}
    moved: dict[str, str] = {}
    for planned, owner in zip(changes, owners, strict=True):
        target = planned.change.target
        if planned.state == "moved" and target in ahead:
            # Changed again by a later run, which is undone first.
            planned.state, planned.why, planned.after = "pending", "", ahead[target]
        elif planned.state == "moved":
            moved.setdefault(owner, target)
            planned.state, planned.why = "skipped", f"{target}: somebody else has changed it since then: {planned.why}"
        if planned.pending:
            ahead.setdefault(target, planned.seq)
    for planned, owner in zip(changes, owners, strict=True):
        if planned.pending and owner in moved:
            planned.state, planned.why, planned.count = (
                "skipped",
                f"{planned.change.target}: it belongs together with {moved[owner]}, which is skipped",
                0,
            )
