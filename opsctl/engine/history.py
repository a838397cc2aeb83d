"""What the ledger remembers of our own doing, for the rules that no system's state can serve."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from opsctl.protocols import Acknowledgement

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.contract import Change
    from opsctl.engine.ledger.rows import Run, Step
    from opsctl.engine.ledger.sqlite import Ledger


class Remembered(NamedTuple):
    """A run of ours, and what it did."""

    run: Run
    steps: list[Step]

    @property
    def why(self) -> str:
        """Why there is nothing to do."""
        return f"done by run {self.run.id} moments ago; --again asks for another"

    def same(self, change: Change) -> Change | None:
        """The very same change, as that run made it or found it made."""
        identity = change.identity
        return next((s.change for s in self.steps if s.state in ("applied", "done") and s.change.identity == identity), None)


class LedgerMemory:
    """One environment's memory; the ledger is opened when something is first asked."""

    def __init__(self, ledger: Callable[[], Ledger], environment: Environment) -> None:
        self._open, self._environment = ledger, environment

    @property
    def _ledger(self) -> Ledger:
        return self._open()

    def last_rotation(self, secret: str) -> tuple[str, str] | None:
        """The version before and after our last proven rotation of `secret`; the log's order counts, since a clock may jump back."""
        sql = (
            "SELECT json_extract(s.change, '$.before'), json_extract(s.change, '$.after') FROM steps s JOIN runs r ON r.id = s.run"
            " JOIN log l ON l.run = s.run AND l.what = 'opened'"
            " WHERE s.kind = 'move-secret-stage' AND s.target = ? AND s.state = 'applied' AND r.environment = ?"
            " AND json_extract(r.row, '$.command') LIKE 'secrets rotate %' ORDER BY l.number DESC LIMIT 1"
        )
        rows = self._ledger.query(sql, f"secret/{secret}/AWSCURRENT", self._environment.name)
        return (str(rows[0][0]), str(rows[0][1])) if rows else None

    def compromised(self, secret: str) -> set[str]:
        """The versions of `secret` that a rotation of ours has replaced, or may have, because others know their value.

        What was merely found so replaced nothing.
        """
        sql = (
            "SELECT DISTINCT json_extract(s.change, '$.before') FROM steps s JOIN runs r ON r.id = s.run WHERE s.kind = 'move-secret-stage'"
            " AND s.target LIKE ? AND (s.state IN ('begun', 'made', 'applied', 'unknown')"
            " OR s.state = 'moved' AND s.begun IS NOT NULL) AND r.environment = ?"
            " AND json_extract(s.change, '$.compromised') AND json_extract(s.change, '$.before') IS NOT json_extract(s.change, '$.after')"
        )
        return {str(version) for (version,) in self._ledger.query(sql, f"secret/{secret}/AWS%", self._environment.name)}

    def driving(self, target: str, version: str) -> str | None:
        """The run, driven by a living process, whose change of `target` makes or made `version`; None where there is none."""
        sql = "SELECT run FROM steps WHERE target = ? AND json_extract(change, '$.version') = ?"
        driven = self._ledger.locks.driven()
        return next((str(run) for (run,) in self._ledger.query(sql, self._ledger.hidden(target), version) if run in driven), None)

    def begun(self, token: str, target: str) -> datetime | None:
        """When the run that `token` belongs to began its own change of `target`; None where it made none."""
        run = token.rpartition("-")[0]
        return next((step.begun for step in self._ledger.steps(run) if step.change.target == target), None)

    def acknowledged(self, alarm: str, transition: datetime) -> Acknowledgement | None:
        """Who of us looks after an alarm since this transition of it, as long as it wasn't taken back."""
        sql = (
            "SELECT json_extract(s.change, '$.acknowledged'), json_extract(r.row, '$.operator'), s.ended, r.id"
            " FROM steps s JOIN runs r ON r.id = s.run WHERE s.kind = 'set-acknowledgement' AND s.target = ? AND s.state = 'applied'"
            " AND r.environment = ? AND json_extract(s.change, '$.transition') = ? ORDER BY s.ended DESC LIMIT 1"
        )
        written = msgspec.to_builtins(transition)
        rows = self._ledger.query(sql, self._ledger.hidden(f"alarm/{alarm}"), self._environment.name, written)
        if not rows or not rows[0][0]:
            return None
        _, by, at, run = rows[0]
        return Acknowledgement(self._ledger.reveal(by), datetime.fromisoformat(at), run)

    def met(self, kind: str, *, everybody: bool) -> bool:
        """Whether a run of ours under this very configuration has found something of what a kind of change ends.

        That tells a place where nothing is any more from one where opsctl looks for the wrong thing.
        """
        sql = (
            "SELECT 1 FROM steps s JOIN runs r ON r.id = s.run WHERE s.kind = ? AND json_extract(s.change, '$.users') IS NULL = ?"
            " AND (s.count > 0 OR json_extract(s.evidence, '$.unlinked') > 0)"
            " AND r.environment = ? AND json_extract(r.row, '$.config_digest') = ? LIMIT 1"
        )
        return bool(self._ledger.query(sql, kind, everybody, self._environment.name, self._environment.digest))

    def position(self) -> int:
        """How far the ledger's log has come: what is opened or closed from now on has a higher number, whatever the clock says."""
        return int(self._ledger.query("SELECT ifnull(max(number), 0) FROM log")[0][0])

    def recently(self, command: str, *, besides: str = "", since: int | None = None) -> Remembered | None:
        """The newest run of the same command that made all it was to, if it is recent and nothing that it rests on was changed later.

        A run that ended after the log's position `since` is recent; another one by its age. `besides` is the run that asks.
        """
        made = (
            "EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND state = 'applied')"
            " AND NOT EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND state NOT IN ('applied', 'done'))"
        )
        where = f"environment = ? AND command = ? AND id <> ? AND {made}"
        for run in self._ledger.runs(where, self._environment.name, self._ledger.hidden(command), besides, limit=1):
            steps, ended = self._ledger.steps(run.id), self._closed(run)
            if (since is None or ended <= since) and self._age(run, ended) > self._environment.settings.limits.recently:
                return None
            rests = {t for s in steps for t in (s.change.target, *s.change.holds, *s.change.uses)}
            return None if self._disturbed(run, ended, rests) else Remembered(run, steps)
        return None

    def _closed(self, run: Run) -> int:
        """A run's newest place in the log; that of one which is still driven is yet to come."""
        if run.closed is None and run.id in self._ledger.locks.driven():
            return self.position() + 1
        return int(self._ledger.query("SELECT ifnull(max(number), 0) FROM log WHERE run = ?", run.id)[0][0])

    def _age(self, run: Run, ended: int) -> timedelta:
        """How long ago a run ended: as far as the clock has gone forward since, by one entry of the log after another.

        A clock that was set back makes nothing older or younger by that; it only counts on from there.
        """
        before, now, age = run.closed or self._ledger.events(run.id)[-1].at, self._ledger.now(), timedelta()
        if now - before > (recently := self._environment.settings.limits.recently):
            return now - before
        later = self._ledger.query("SELECT at FROM log WHERE number > ? ORDER BY number", ended)
        for at in (*(datetime.fromisoformat(stamp) for (stamp,) in later), now):
            age += max(at - before, timedelta())
            before = at
            if age > recently:
                break
        return age

    def _disturbed(self, run: Run, ended: int, targets: set[str]) -> bool:
        """Whether another run has since changed, or begun to change, anything that this one changed or rests on.

        Of one that was opened after this one ended, every effect is later; of one that overlapped it, the clock tells.
        """
        sql = (
            "SELECT DISTINCT s.run FROM runs r JOIN steps s ON s.run = r.id WHERE r.id <> ? AND r.environment = ? AND s.begun IS NOT NULL"
            " AND ((SELECT number FROM log WHERE run = r.id AND what = 'opened') > ? OR s.ended > ?"
            " AND (r.closed IS NULL OR (SELECT max(number) FROM log WHERE run = r.id) > ?))"
        )
        closed = run.closed.isoformat() if run.closed else "~"
        later = self._ledger.query(sql, run.id, self._environment.name, ended, closed, ended)
        changed = (s.change for (id,) in later for s in self._ledger.steps(id) if s.begun)
        return any(not targets.isdisjoint({change.target, *change.holds}) for change in changed)

    def taken_back(self, runs: list[str]) -> list[tuple[str, Step]]:
        """The undos of `runs`, each with the steps by which it put something back that wasn't made again by an undo of its own."""
        found = []
        for run in runs:
            where = "environment = ? AND command = ?"
            for undo in self._ledger.runs(where, self._environment.name, self._ledger.hidden(f"runs undo {run}")):
                made = [step for step in self._ledger.steps(undo.id) if step.state == "applied"]
                again = self.taken_back([undo.id]) if made else []
                found += [(undo.id, step) for step in made if not any(takes_back(later, step) for _, later in again)]
        return found

    def unsettled(self, command: str, *, besides: str = "", change: Change | None = None) -> tuple[str, Step] | None:
        """The run and the step of ours that began the same command's blind change, of which nobody has found out whether it happened.

        Asked while planning, one that a living process still drives isn't meant: its lock speaks for it. Whoever holds the lock of
        `change` has no such neighbour, so that every run but the one that asks, `besides`, is meant.
        """
        begun = "EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND state IN ('begun', 'unknown'))"
        where = f"environment = ? AND command = ? AND id <> ? AND (result IS NULL OR result NOT IN ('changed', 'unchanged')) AND {begun}"
        driven = self._ledger.locks.driven() if change is None else set()
        for run in self._ledger.runs(where, self._environment.name, self._ledger.hidden(command), besides):
            for step in self._ledger.steps(run.id) if run.id not in driven else []:
                same = change is None or step.change.identity == change.identity
                if same and step.change.telling == "blind" and step.state in ("begun", "unknown"):
                    return run.id, step
        return None


def takes_back(back: Step, step: Step) -> bool:
    """Whether a step of an undo put back what `step` had made by then."""
    return back.change == step.back and back.begun is not None and (step.begun is None or step.begun <= back.begun)
