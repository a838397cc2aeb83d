"""What the ledger remembers of our own doing, for the rules that no system's state can serve."""

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
    """A run of ours, and what it did."""

    run: Run
    steps: list[Step]

    @property
    def why(self) -> str:
        """Why there is nothing to do."""
        return f"done by run {self.run.id} moments ago; --again asks for another"

    def same_change(self, change: Change) -> Change | None:
        """The very same change, as that run made it or found it made."""
        identity = change.identity
        return next((s.change for s in self.steps if s.state in ("applied", "done") and s.change.identity == identity), None)


class LedgerHistory:
    """One environment's memory; the ledger is opened when something is first asked."""

    def __init__(self, ledger: Callable[[], Ledger], environment: Environment) -> None:
        self._open, self._environment = ledger, environment

    @property
    def _ledger(self) -> Ledger:
        return self._open()

    def past(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on a target, those of the newest run first; the log's order counts, since a clock may jump back."""
        yield from self._past(kind, self._ledger.steps_on(_change(kind), self._environment.name, target))

    def past_below(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on whatever lies in a target, those of the newest run first."""
        yield from self._past(kind, self._ledger.steps_below(_change(kind), self._environment.name, target))

    def past_impacts(self, kind: type[Kind]) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind, planned under this very configuration, that have an impact or evidence."""
        for step in self._ledger.steps_with_impact(_change(kind), self._environment.name, self._environment.digest):
            yield from self._past(kind, [step])

    def past_active(self, kind: type[Kind], target: str) -> Iterator[PastChange[Kind]]:
        """Yield the changes of a kind on a target in runs that a living process drives."""
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
        """When the run that `token` belongs to began its own change of `target`; None where it made none."""
        run = token.rpartition("-")[0]
        return next((step.begun for step in self._ledger.steps(run) if step.change.target == target), None)

    def position(self) -> int:
        """How far the ledger's log has come: what is opened or closed from now on has a higher number, whatever the clock says."""
        return self._ledger.position()

    def recent_run(self, command: str, *, besides: str = "", since: int | None = None) -> CompletedRun | None:
        """The newest run of the same command that made all it was to, if it is recent and nothing that it rests on was changed later.

        A run that ended after the log's position `since` is recent; another one by its age. `besides` is the run that asks.
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
        """A run's newest place in the log; that of one which is still driven is yet to come."""
        if run.closed is None and run.id in self._ledger.locks.active_runs():
            return self.position() + 1
        return self._ledger.last_position(run.id)

    def _age(self, run: Run, ended: int) -> timedelta:
        """How long ago a run ended: as far as the clock has gone forward since, by one entry of the log after another.

        A clock that was set back makes nothing older or younger by that; it only counts on from there.
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
        """Whether another run has since changed, or begun to change, anything that this one changed or rests on.

        Of one that was opened after this one ended, every effect is later; of one that overlapped it, the clock tells.
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
        """The undos of `runs`, each with the steps by which it put something back that wasn't made again by an undo of its own."""
        found = []
        for run in runs:
            for undo in self._ledger.runs_of_command(self._environment.name, f"runs undo {run}"):
                made = [step for step in self._ledger.steps(undo.id) if step.state == "applied"]
                again = self.undone_steps([undo.id]) if made else []
                found += [(undo.id, step) for step in made if not any(is_undo_of(later, step) for _, later in again)]
        return found

    def undecided_step(self, command: str, *, besides: str = "", change: Change | None = None) -> tuple[str, Step] | None:
        """The run and the step of ours that began the same command's blind change, of which nobody has found out whether it happened.

        Asked while planning, one that a living process still drives isn't meant: its lock speaks for it. Whoever holds the lock of
        `change` has no such neighbour, so that every run but the one that asks, `besides`, is meant.
        """
        active = self._ledger.locks.active_runs() if change is None else set()
        for run in self._ledger.undecided_runs(self._environment.name, command, besides):
            for step in self._ledger.steps(run.id) if run.id not in active else []:
                same = change is None or step.change.identity == change.identity
                if same and step.change.outcome_known_by == "nothing" and step.state in ("begun", "unknown"):
                    return run.id, step
        return None


def _change(kind: type[Any]) -> type[Change]:
    """A kind of change, of which the protocol knows only that it is a type."""
    return kind


def _ended_after(past: PastStep, run: Run) -> bool:
    """Whether a step of another run came to its end after `run` was closed."""
    return run.closed is not None and past.ended is not None and past.ended > run.closed


def is_undo_of(back: Step, step: Step) -> bool:
    """Whether a step of an undo put back what `step` had made by then."""
    return back.change == step.undo_change and back.begun is not None and (step.begun is None or step.begun <= back.begun)
