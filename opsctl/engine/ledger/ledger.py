"""The ledger: runs, their steps and their events, kept in a store, chained, and read back whatever release wrote them.

State in `steps` and `runs` is what the newest event says; the events are the truth and form the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from opsctl.contract import Change
from opsctl.engine.ledger.chain import START, Chain, digest, run_mark
from opsctl.engine.ledger.codec import UPGRADE, Codec, Find, UnknownChange, builtins, encoded, tags
from opsctl.engine.ledger.keys import Keyring
from opsctl.engine.ledger.locks import Locks
from opsctl.engine.ledger.personal import DIGEST, Pseudonyms
from opsctl.engine.ledger.rows import Event, Lease, Result, Run, State, Step, run_id
from opsctl.engine.ledger.sqlite import SqliteStore, Tell
from opsctl.engine.ledger.store import EventRow, LogRow, RunRow, RunState, StepRow, Store
from opsctl.errors import ConfigurationError, LedgerFailed, Refused

DAMAGED = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
"""The errors that reading a damaged row raises."""


class PastStep(NamedTuple):
    """A step of some run, by the kind of its change."""

    run: str
    step: Step
    ended: datetime | None


def open_ledger(
    path: Path,
    find: Find,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    *,
    tell: Tell | None = None,
    without: bool = False,
    warn: Tell = lambda told: None,
    durable: bool = True,
) -> Ledger:
    """Open the ledger in a file. `find` returns the kind of change of a tag; `warn` is called for each damaged row that is skipped.

    `tell`, `without` and `durable`: see SqliteStore.
    """
    store = SqliteStore(path, Keyring(path.parent), tell=tell, without=without, durable=durable)
    return Ledger(store, store.keyring, find, now, warn)


class Ledger:
    """Runs, their steps and events, and the locks; used by several threads of one process at once.

    Raises LedgerFailed for whatever the store refuses.
    """

    def __init__(self, store: Store, keyring: Keyring, find: Find, now: Callable[[], datetime], warn: Tell) -> None:
        self.store, self.keyring, self.now, self._warn = store, keyring, now, warn
        self.chain, self._codec = Chain(keyring), Codec(find)
        self._warned: set[str] = set()
        self.pseudonyms = Pseudonyms(store, keyring.current.derive("personal"), self._stamp)
        self.locks = Locks(store, self.pseudonyms, self._stamp)

    def key(self, environment: str) -> bytes:
        """The key of an environment's fingerprints."""
        return self.keyring.current.derive(f"fingerprint {environment}")

    def shut(self) -> None:
        """Close the store."""
        self.store.close()

    def purge(self, before: datetime) -> int:
        """Delete personal data last used before `before`, except what resumable runs need. The chain stays valid. Returns how many."""
        return self.store.forget(
            before.isoformat(), lambda: {digest for text in self.store.needed_texts() for digest in DIGEST.findall(text)}
        )

    def require_usable(self, run: str) -> None:
        """Raise Refused if a change of the run or of its steps' runs can't be read, or its personal data was purged."""
        for id in (run, *(child.id for child in self.store.children(run))):
            for row in self.store.steps(id):
                change = self.pseudonyms.reveal(row.change)
                if DIGEST.search(change):
                    raise Refused(f"The personal data of run {run} was purged, so the run can't be used.", "Run the command again.")
                if isinstance(found := self._codec.read(change, row.kind, row.target), UnknownChange):
                    raise Refused(f"Step {row.seq} of run {id} can't be used: {found.why}.", UPGRADE)

    def _stamp(self) -> str:
        return self.now().isoformat()

    # Writing

    def open(self, run: Run, steps: list[Step]) -> None:
        """Add a run with its steps and its first event. If the id exists already, the run gets a new one."""
        with self.store.transaction():
            while self.store.run_state(run.id):
                run.id = run_id(run.opened)
            row = self.pseudonyms.serialize(run)
            number = self._log(run.id, "opened", digest([row]))
            command = self.pseudonyms.lookup_key(run.command)
            state = self._vouched(run.id, START, 0, None, None, None)
            opened = run.opened.isoformat()
            self.store.add_run(RunRow(run.id, run.parent, run.environment, command, opened, number, run.config_digest, row, *state))
            rows = [self._step_row(run.id, step) for step in steps]
            self.store.add_steps(rows)
            entries = [{**_step_entry(step), "row": digest(row)} for step, row in zip(steps, rows, strict=True)]
            self._event(run.id, "opened", None, {"command": run.command, "steps": entries})

    def _step_row(self, run: str, step: Step) -> StepRow:
        hide, kind = self.pseudonyms.pseudonymize, str(step.change.__struct_config__.tag)
        change, at = hide(encoded(step.change).decode()), _iso_or_none(step.at)
        return StepRow(
            run, step.seq, kind, hide(step.change.target), change, step.state, hide(step.why), at, step.count, step.unit, None, None, None
        )

    def put(self, run: str, step: Step, state: State, detail: dict[str, Any], lease: Lease | None = None) -> None:
        """Record that a step reached `state`. With a lease, raises LockHeld if the lock was lost."""
        with self.store.transaction():
            if lease:
                self.locks.require_held(lease)
            before = self.store.step(run, step.seq)
            if before is None:
                raise LedgerFailed(f"Step {step.seq} of run {run} is not in the ledger.", "Check the ledger: opsctl runs verify")
            row = before._replace(
                state=state,
                why=self.pseudonyms.pseudonymize(step.why),
                at=_iso_or_none(step.at),
                begun=_iso_or_none(step.begun),
                ended=self._stamp(),
                evidence=None if step.evidence is None else self.pseudonyms.serialize(step.evidence),
            )
            self.store.update_step(row)
            self._event(run, state, step.seq, {**detail, "row": digest(row)})
        step.state = state

    def event(self, run: str, what: str, detail: dict[str, Any], seq: int | None = None) -> None:
        """Append one event to a run."""
        with self.store.transaction():
            self._event(run, what, seq, detail)

    def _event(self, run: str, what: str, seq: int | None, detail: dict[str, Any], **changes: str | None) -> None:
        """Append an event and update the run's state. If the run is closed or its state changes, add its new head to the log."""
        state = self.store.run_state(run)
        if state is None:
            raise LedgerFailed(f"Run {run} is not in the ledger.", "Check the ledger: opsctl runs verify")
        text, stamp = self.pseudonyms.serialize(detail), self._stamp()
        head = self.chain.link(state.head, [run, state.events, stamp, what, seq, text])
        self.store.add_event(EventRow(run, state.events, stamp, what, seq, text, head))
        if "closed" in changes:
            changes["closed"] = stamp if changes["closed"] else None
        now = {"closed": state.closed, "result": state.result, "wish": state.wish, **changes}
        self.store.set_run_state(run, self._vouched(run, head, state.events + 1, **now))
        if state.closed or now["closed"]:
            self._log(run, "closed", head)
        elif changes:
            self._log(run, "asked", head)

    def _vouched(self, run: str, head: str, events: int, closed: str | None, result: str | None, wish: str | None) -> RunState:
        return RunState(head, events, closed, result, wish, run_mark(self.chain, run, [head, events, closed, result, wish]))

    def _log(self, run: str, what: str, head: str) -> int:
        last = self.store.last_log()
        number, previous = (last.number, last.hash) if last else (0, START)
        entry = [number + 1, self._stamp(), run, what, head]
        self.store.add_log(LogRow._make((*entry, self.chain.link(previous, entry))))
        return number + 1

    def close(self, run: str, result: Result, detail: dict[str, Any]) -> None:
        """End a run, or a stretch of one that will be resumed: `waiting`, `partial`, `unknown` and `failed` may go on later."""
        with self.store.transaction():
            state = self.store.run_state(run)
            wish = "cancel" if state and state.wish == "cancel" else None
            self._event(run, "closed", None, {"result": result, **detail}, closed="now", result=result, wish=wish)

    def reopen(self, run: str, detail: dict[str, Any]) -> None:
        """Take a run up again."""
        with self.store.transaction():
            self._event(run, "resumed", None, detail, closed=None, result=None, wish=None)

    def request_stop(self, run: str, wish: str) -> None:
        """Ask the process that drives a run to pause or to cancel it."""
        with self.store.transaction():
            self._event(run, f"asked to {wish}", None, {}, wish=wish)

    # Reading

    def stop_requested(self, run: str) -> str | None:
        """The stop request for a run or for its parent."""
        return self.store.stop_requested(run)

    def run(self, run: str) -> Run:
        """The run with this id or unique prefix. Raises ConfigurationError if there is none or several."""
        found = self.store.run_ids(run) if run else []
        exact = [id for id in found if id == run] or found
        if len(exact) != 1:
            what = f"Several runs begin with {run!r}" if found else f"There is no run {run!r} in this ledger"
            raise ConfigurationError(f"{what}.", "opsctl runs list")
        rows = self._runs(self.store.run_rows(exact))
        if not rows:
            raise LedgerFailed(f"The row of run {exact[0]} is damaged.", "opsctl runs verify; then restore a backup of the ledger")
        return rows[0]

    def active(self, limit: int) -> list[Run]:
        """The newest runs that haven't ended: active ones and interrupted ones."""
        driven = [row for row in self.store.run_rows(self.locks.active_runs()) if row.parent is None]
        found = {row.id: row for row in (*driven, *self.store.unended_runs(limit))}
        return self._runs(sorted(found.values(), key=lambda row: row.number or 0, reverse=True)[:limit])

    def runs(self, limit: int = -1) -> list[Run]:
        """The runs without a parent, the newest first by the log's order, at most `limit`."""
        return self._runs(self.store.newest_runs(limit))

    def runs_by_id(self, ids: Collection[str]) -> dict[str, Run]:
        """The runs with these ids."""
        return {run.id: run for run in self._runs(self.store.run_rows(ids))}

    def children(self, run: str) -> list[Run]:
        """The runs of a playbook's steps, the newest first."""
        return self._runs(self.store.children(run))

    def runs_of_command(self, environment: str, command: str) -> list[Run]:
        """The runs of a command, the newest first."""
        return self._runs(self.store.runs_of_command(environment, self.pseudonyms.lookup_key(command)))

    def undecided_runs(self, environment: str, command: str, besides: str) -> list[Run]:
        """The runs of a command, but `besides`, with a step whose outcome is unknown."""
        return self._runs(self.store.undecided_runs(environment, self.pseudonyms.lookup_key(command), besides))

    def newest_complete(self, environment: str, command: str, besides: str) -> Run | None:
        """The newest run of a command, but `besides`, that changed something and completed all its steps."""
        row = self.store.newest_complete(environment, self.pseudonyms.lookup_key(command), besides)
        return next(iter(self._runs([row] if row else [])), None)

    def _runs(self, rows: Iterable[RunRow]) -> list[Run]:
        """The runs of the rows. A damaged row is skipped, with one warning."""
        found, rows = [], list(rows)
        for row, text in zip(rows, self.pseudonyms.reveal_all(row.row for row in rows), strict=True):
            try:
                found.append(_run(row, text))
            except DAMAGED as cause:
                self._damaged(f"The row of run {row.id} is damaged and is skipped: {cause}.")
        return found

    def _damaged(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self._warn(f"{what} To check the ledger: opsctl runs verify")

    def steps(self, run: str) -> list[Step]:
        """A run's steps in order, each with its change decoded; one that can't be read is an UnknownChange."""
        return [past.step for past in self._steps(self.store.steps(run))]

    def _steps(self, rows: list[StepRow]) -> Iterator[PastStep]:
        reveal = self.pseudonyms.reveal_all
        columns = (reveal(row.change for row in rows), reveal(row.why for row in rows), reveal(row.evidence or "" for row in rows))
        for row, change, why, evidence in zip(rows, *columns, strict=True):
            try:
                step = self._step(row, change, why, evidence)
                yield PastStep(row.run, step, _moment(row.ended))
            except DAMAGED as cause:
                self._damaged(f"Step {row.seq} of run {row.run} is damaged: {cause}.")
                broken = UnknownChange(stored_kind=row.kind, stored_target=row.target, raw=change, why=f"its row is damaged ({cause})")
                yield PastStep(row.run, Step(seq=row.seq, change=broken, state="unknown", why=why), None)

    def _step(self, row: StepRow, change: str, why: str, evidence: str) -> Step:
        return Step(
            seq=row.seq,
            change=self._codec.read(change, row.kind, row.target),
            state=row.state,  # type: ignore[arg-type]
            why=why,
            at=_moment(row.at),
            count=row.count,
            unit=row.unit,
            begun=_moment(row.begun),
            evidence=msgspec.json.decode(evidence) if evidence else None,
        )

    def steps_on(self, kind: type[Change], environment: str, target: str) -> Iterator[PastStep]:
        """The steps of a kind on a target, those of the newest run first."""
        yield from self._of(kind, self.store.steps_on(tags(kind), environment, self.pseudonyms.lookup_key(target)))

    def steps_below(self, kind: type[Change], environment: str, target: str) -> Iterator[PastStep]:
        """The steps of a kind on the targets below `target`, those of the newest run first."""
        yield from self._of(kind, self.store.steps_below(tags(kind), environment, self.pseudonyms.lookup_key(target)))

    def steps_with_impact(self, kind: type[Change], environment: str, config_digest: str) -> Iterator[PastStep]:
        """The steps of a kind that were planned with a configuration and have an impact or evidence."""
        for row in self.store.steps_with_impact(tags(kind), environment, config_digest):
            yield from self._of(kind, [row])

    def _of(self, kind: type[Change], rows: list[StepRow]) -> Iterator[PastStep]:
        return (past for past in self._steps(rows) if isinstance(past.step.change, kind))

    def events(self, run: str) -> list[Event]:
        """The events of a run in order. A damaged event has no detail."""
        rows = self.store.events(run)
        details = self.pseudonyms.reveal_all(row.detail for row in rows)
        return [self._read_event(row, detail) for row, detail in zip(rows, details, strict=True)]

    def _read_event(self, row: EventRow, detail: str) -> Event:
        try:
            content = msgspec.json.decode(detail, type=dict[str, Any])
            at = datetime.fromisoformat(row.at)
        except DAMAGED as cause:
            self._damaged(f"Event {row.number} of run {row.run} is damaged: {cause}.")
            content, at = {"damaged": str(cause)}, datetime.fromtimestamp(0, UTC)
        return Event(run=row.run, number=row.number, at=at, what=row.what, seq=row.seq, detail=content, hash=row.hash)

    def position(self) -> int:
        """The number of the log's last entry."""
        last = self.store.last_log()
        return last.number if last else 0

    def last_position(self, run: str) -> int:
        """The number of the log's last entry for a run."""
        return self.store.last_log_number(run)

    def times_after(self, position: int) -> list[datetime]:
        """The times of the log's entries after a position, in order."""
        return [datetime.fromisoformat(at) for at in self.store.log_times_after(position)]

    def rows_later_than(self, position: int) -> list[RunRow]:
        """The rows of the runs that the log names after a position, and of those that aren't closed."""
        return self.store.run_rows(self.store.runs_later_than(position))

    def past_steps(self, run: str) -> list[PastStep]:
        """A run's steps, each with its end time."""
        return list(self._steps(self.store.steps(run)))


def _run(row: RunRow, text: str) -> Run:
    run = msgspec.json.decode(text, type=Run)
    run.closed = _moment(row.closed)
    run.result, run.wish, run.head, run.events = row.result, row.wish, row.head, row.events  # type: ignore[assignment]
    return run


def _step_entry(step: Step) -> dict[str, Any]:
    return {"seq": step.seq, "change": builtins(step.change), "state": step.state, "count": step.count, "unit": step.unit}


def _moment(at: str | None) -> datetime | None:
    return datetime.fromisoformat(at) if at else None


def _iso_or_none(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
