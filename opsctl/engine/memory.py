"""What the ledger remembers of our own doing, for the rules that no system's state can serve."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from opsctl import fingerprints
from opsctl.systems import Acknowledgement

if TYPE_CHECKING:
    from opsctl.changes.base import Change
    from opsctl.config import Environment
    from opsctl.engine.ledger.rows import Run, Step
    from opsctl.engine.ledger.sqlite import Ledger


class Remembered(NamedTuple):
    """A run of ours, and what it did."""

    run: Run
    steps: list[Step]

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

    def fingerprint(self, value: bytes) -> str:
        """What names a value without telling it, keyed per ledger and environment."""
        return fingerprints.of(self._ledger.key(self._environment.name), value)

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

    def recently(self, command: str) -> Remembered | None:
        """Our own run of the same command, done and proven within the configured `recently`, if nothing it rests on changed since."""
        since = self._ledger.now() - self._environment.settings.limits.recently
        made = "EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND state = 'applied')"
        where = f"environment = ? AND command = ? AND result IN ('changed', 'unchanged') AND closed >= ? AND closed <= ? AND {made}"
        values = (self._environment.name, self._ledger.hidden(command), since.isoformat(), self._ledger.now().isoformat())
        for run in self._ledger.runs(where, *values, limit=1):
            steps = self._ledger.steps(run.id)
            rests = {t for s in steps for t in (s.change.target, *s.change.holds, *s.change.uses)}
            return None if self._disturbed(run, rests) else Remembered(run, steps)
        return None

    def _disturbed(self, run: Run, targets: set[str]) -> bool:
        """Whether another run has since changed, or begun to change, anything that this one changed or rests on."""
        sql = (
            "SELECT DISTINCT s.run FROM runs r JOIN steps s ON s.run = r.id WHERE r.id <> ? AND r.environment = ?"
            " AND (r.closed IS NULL OR r.closed > ?) AND s.begun IS NOT NULL AND s.ended > ?"
        )
        closed = run.closed.isoformat() if run.closed else ""
        later = self._ledger.query(sql, run.id, self._environment.name, closed, closed)
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

    def unsettled(self, command: str) -> tuple[str, Step] | None:
        """The run and the step of ours that began the same command's blind change, of which nobody has found out whether it happened.

        One that a living process still drives isn't meant: its lock speaks for it.
        """
        begun = "EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND state IN ('begun', 'unknown'))"
        where = f"environment = ? AND command = ? AND (result IS NULL OR result NOT IN ('changed', 'unchanged')) AND {begun}"
        driven = self._ledger.locks.driven()
        for run in self._ledger.runs(where, self._environment.name, self._ledger.hidden(command)):
            for step in self._ledger.steps(run.id) if run.id not in driven else []:
                if step.change.telling == "blind" and step.state in ("begun", "unknown"):
                    return run.id, step
        return None


def takes_back(back: Step, step: Step) -> bool:
    """Whether a step of an undo put back what `step` had made by then."""
    return back.change == step.back and back.begun is not None and (step.begun is None or step.begun <= back.begun)
