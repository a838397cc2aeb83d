"""The history of our own runs, read from the ledger: for rules that no system's state can answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from opsctl.protocols import Kind, PastChange

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.contract import Change
    from opsctl.engine.ledger.ledger import Ledger, PastStep
    from opsctl.engine.ledger.rows import Run, Step


class CompletedRun(NamedTuple):
    """A run that completed, and its steps."""

    run: Run
    steps: list[Step]

    @property
    def why(self) -> str:
        """Why there is nothing to do: shown in the plan."""
        return f"done recently by run {self.run.id}; to repeat it: --again"

    def same_change(self, change: Change) -> Change | None:
        """The same change in that run, if it was applied there or was already done."""
        identity = change.identity
        return next((s.change for s in self.steps if s.state in ("applied", "done") and s.change.identity == identity), None)


class LedgerHistory:
    """The run history of one environment. The ledger is opened on first use."""

    def __init__(self, ledger: Callable[[], Ledger], environment: Environment) -> None:
        self._open, self._environment = ledger, environment

    @property
    def _ledger(self) -> Ledger:
        return self._open()

    def past(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on a target, those of the newest run first, in the order of the log."""
        yield from self._past(kind, self._ledger.steps_on(_change(kind), self._environment.name, target))

    def past_below(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on the targets below `target`, those of the newest run first."""
        yield from self._past(kind, self._ledger.steps_below(_change(kind), self._environment.name, target))

    def past_impacts(self, kind: type[Kind]) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind that were planned with the present configuration and have an impact or evidence."""
        for step in self._ledger.steps_with_impact(_change(kind), self._environment.name, self._environment.digest):
            yield from self._past(kind, [step])

    def past_active(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on a target in runs that a process is driving now."""
        steps = [past for run in sorted(self._ledger.locks.active_runs()) for past in self._ledger.past_steps(run)]
        yield from self._past(kind, [past for past in steps if past.step.change.target == target])

    def _past(self, kind: type[Kind], steps: Iterable[PastStep]) -> Iterator[PastChange[Kind]]:
        steps = list(steps)
        runs = self._ledger.runs_by_id({past.run for past in steps})
        for id, step, ended in steps:
            if (run := runs.get(id)) and isinstance(step.change, kind):
                values = (step.state, step.count, step.begun, ended, step.evidence or {})
                yield PastChange(id, run.operator, run.command, step.change, *values)

    def begun(self, token: str, target: str) -> datetime | None:
        """When the run of `token` began its change of `target`; None if it has none."""
        run = token.rpartition("-")[0]
        return next((step.begun for step in self._ledger.steps(run) if step.change.target == target), None)

    def position(self) -> int:
        """The number of the log's last entry. Runs that are opened or closed later have a higher one."""
        return self._ledger.position()

    def recent_run(self, command: str, *, besides: str = "", since: int | None = None) -> CompletedRun | None:
        """The newest complete run of the command, if it is recent and no other run has changed its targets since.

        Recent means ended after the log's position `since`, or younger than `limits.recently`. `besides` is the id of the asking run.
        """
        run = self._ledger.newest_complete(self._environment.name, command, besides)
        if run is None:
            return None
        steps, ended = self._ledger.steps(run.id), self._closed(run)
        if (since is None or ended <= since) and self._age(run, ended) > self._environment.settings.limits.recently:
            return None
        rests = {t for s in steps for t in (s.change.target, *s.change.extra_locks, *s.change.depends_on)}
        return None if self._changed_since(run, ended, rests) else CompletedRun(run, steps)

    def _closed(self, run: Run) -> int:
        """The position in the log at which a run ended; for a run that is still active, the next one."""
        if run.closed is None and run.id in self._ledger.locks.active_runs():
            return self.position() + 1
        return self._ledger.last_position(run.id)

    def _age(self, run: Run, ended: int) -> timedelta:
        """The time since a run ended: the sum of the clock's forward steps between the entries of the log.

        A clock that is set back does not change the age; counting continues from the new time.
        """
        before, now, age = run.closed or self._ledger.events(run.id)[-1].at, self._ledger.now(), timedelta()
        if now - before > (recently := self._environment.settings.limits.recently):
            return now - before
        for at in (*self._ledger.times_after(ended), now):
            age += max(at - before, timedelta())
            before = at
            if age > recently:
                break
        return age

    def _changed_since(self, run: Run, ended: int, targets: set[str]) -> bool:
        """Whether another run has changed one of the targets, or begun to, since this run ended.

        All effects of a run that was opened later are later. For an overlapping run the times of its steps decide.
        """
        for row in self._ledger.rows_later_than(ended):
            if row.id == run.id or row.environment != self._environment.name:
                continue
            steps = [past for past in self._ledger.past_steps(row.id) if past.step.begun]
            if (row.number or 0) <= ended and not any(_ended_after(past, run) for past in steps):
                continue
            if any(not targets.isdisjoint({past.step.change.target, *past.step.change.extra_locks}) for past in steps):
                return True
        return False

    def undone_steps(self, runs: list[str]) -> list[tuple[str, Step]]:
        """The steps that undid something of `runs` and were not undone themselves, each with the id of its run."""
        found = []
        for run in runs:
            for undo in self._ledger.runs_of_command(self._environment.name, f"runs undo {run}"):
                made = [step for step in self._ledger.steps(undo.id) if step.state == "applied"]
                again = self.undone_steps([undo.id]) if made else []
                found += [(undo.id, step) for step in made if not any(is_undo_of(later, step) for _, later in again)]
        return found

    def undecided_step(self, command: str, *, besides: str = "", change: Change | None = None) -> tuple[str, Step] | None:
        """The run and the step that began a blind change of the command and whose outcome is unknown.

        Without `change` (while planning), runs that are still active don't count: their locks protect them. With `change` the caller holds
        its lock, so all runs but `besides`, the asking one, count.
        """
        active = self._ledger.locks.active_runs() if change is None else set()
        for run in self._ledger.undecided_runs(self._environment.name, command, besides):
            for step in self._ledger.steps(run.id) if run.id not in active else []:
                same = change is None or step.change.identity == change.identity
                if same and step.change.outcome_known_by == "nothing" and step.state in ("begun", "unknown"):
                    return run.id, step
        return None


def _change(kind: type[Any]) -> type[Change]:
    """`kind` with its type: the protocol knows only that it is a type."""
    return kind


def _ended_after(past: PastStep, run: Run) -> bool:
    """Whether a step of another run ended after `run` was closed."""
    return run.closed is not None and past.ended is not None and past.ended > run.closed


def is_undo_of(back: Step, step: Step) -> bool:
    """Whether `back`, a step of an undo, undid what `step` had done by then."""
    return back.change == step.undo_change and back.begun is not None and (step.begun is None or step.begun <= back.begun)
