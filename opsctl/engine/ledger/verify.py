"""Finds entries of the ledger that were changed, lost or reordered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from opsctl.engine.ledger.chain import START, Chain, digest, is_keyed, run_mark
from opsctl.engine.ledger.ledger import Ledger
from opsctl.engine.ledger.personal import pseudonym
from opsctl.engine.ledger.store import EventRow, LogRow, RunRow, StepRow

Row = TypeVar("Row", RunRow, EventRow, StepRow)
ASKED = "asked to "
ROW = '"row":'


class Verified(Struct):
    """The result of verifying the ledger. `unkeyed` is the number of the log's last entry without a key, which anybody could have made;
    `keyed_since` is when the key was first used after it."""

    wrong: list[str] = []
    runs: int = 0
    events: int = 0
    unkeyed: int = 0
    keyed_since: datetime | None = None


class _Mark(Struct):
    """The fields of an event's detail that concern steps and the end of a run."""

    row: str | None = None
    result: str | None = None
    seq: int = 0
    steps: list[_Mark] = []


class _Copied(Struct):
    """The fields of a run's row that are repeated in its columns."""

    environment: str
    command: str
    opened: datetime
    config_digest: str
    parent: str | None = None


class _Log(Struct):
    """The log's entries by run: the number and row of each opening, and the heads in order."""

    opened: dict[str, tuple[int, str]] = {}
    heads: dict[str, list[str]] = {}
    closed: dict[str, str] = {}


_marks = msgspec.json.Decoder(_Mark)
_row = msgspec.json.Decoder(_Copied)


def verify(ledger: Ledger, seal: str | None = None) -> list[str]:
    """The defects found, one line each."""
    return examine(ledger, seal).wrong


def examine(ledger: Ledger, seal: str | None = None) -> Verified:
    """Verify the log and all runs. `seal` is a hash exported earlier, which the log must still contain."""
    found = Verified()
    with ledger.store.snapshot():
        log = _walk_log(ledger, found)
        events, steps = _by_run(ledger.store.all_events()), _by_run(ledger.store.all_steps())
        known = set()
        for row in ledger.store.all_runs():
            found.runs += 1
            known.add(row.id)
            found.wrong += _run(ledger.chain, row, log, events(row.id), steps(row.id), found)
        found.wrong += [
            f"run {run}: it is in the log, but its row is missing" for run in log.opened.keys() | log.heads.keys() if run not in known
        ]
        found.wrong += _texts(ledger)
        if seal and not ledger.store.in_log(seal):
            found.wrong.append("the exported hash is not in the log: entries were deleted from its end")
    found.wrong = sorted(set(found.wrong))
    return found


def _texts(ledger: Ledger) -> list[str]:
    """The digests of e-mail addresses that no present key made."""
    keys = ledger.keyring.derive_all("personal")
    texts = ledger.store.all_texts()
    wrong = [name for name, text in texts if not any(pseudonym(text, key) == name for key in keys)]
    return [f"{name}: its e-mail address was changed, or its key is missing" for name in wrong]


def _by_run(rows: Iterable[EventRow] | Iterable[StepRow]) -> Callable[[str], list[Any]]:
    """A function that returns the rows of a run. Runs must be asked for in the order of their ids."""
    groups: Iterator[tuple[str, Iterator[Any]]] = groupby(rows, key=itemgetter(0))
    ahead: list[tuple[str, list[Any]]] = []

    def of(run: str) -> list[Any]:
        while not ahead or ahead[0][0] < run:
            ahead.clear()
            name, group = next(groups, ("\U0010ffff", iter(())))
            ahead.append((name, list(group)))
        return ahead[0][1] if ahead[0][0] == run else []

    return of


def _walk_log(ledger: Ledger, found: Verified) -> _Log:
    log, previous, expected, keyed = _Log(), START, 1, False
    for line in ledger.store.all_log():
        if line.number != expected:
            found.wrong.append(f"the log: entry {expected} is missing")
        holds = ledger.chain.holds(line.hash, previous, line[:5])
        if not holds or (keyed and not is_keyed(line.hash)):
            found.wrong.append(f"the log: entry {line.number} ({line.what} {line.run}) {_why(holds, line.hash)}")
        if not keyed and not is_keyed(line.hash):
            found.unkeyed = line.number
        elif not keyed:
            keyed = True
            found.keyed_since = _parse_time(line.at) if found.unkeyed else None
        _add_to_log(log, line)
        previous, expected = line.hash, line.number + 1
    if expected > 1 and not keyed:
        found.wrong.append("the log: none of its entries has a key, although this version writes keyed entries")
    return log


def _add_to_log(log: _Log, line: LogRow) -> None:
    if line.what == "opened":
        log.opened[line.run] = (line.number, line.head)
    elif line.run:
        log.heads.setdefault(line.run, []).append(line.head)
        if line.what == "closed":
            log.closed[line.run] = line.head


def _why(holds: bool | None, hash: str) -> str:
    if holds is None:
        return f"can't be verified: the key {hash[:8]} is missing"
    return "was changed, or an entry before it is missing"


def _run(chain: Chain, row: RunRow, log: _Log, events: list[EventRow], steps: list[StepRow], found: Verified) -> list[str]:
    run, state = f"run {row.id}", [row.head, row.events, row.closed, row.result, row.wish]
    found.events += len(events)
    wrong = _events(chain, row, events, log.heads.get(row.id, []))
    if log.opened.get(row.id) != (row.number, digest([row.row])) or _copied(row.row) != [*row[1:5], row.config_digest]:
        wrong.append(f"{run}: its row was changed, or its opening is missing in the log")
    if row.closed and log.closed.get(row.id) != row.head:
        wrong.append(f"{run}: its events don't match the closing in the log")
    if row.mark != run_mark(chain, row.id, state):
        holds = chain.holds(row.mark, START, [row.id, *state]) if is_keyed(row.mark) else False
        if not holds:
            wrong.append(f"{run}: its state {_why(holds, row.mark)}")
    if not _vouched(events, steps):
        marks = _step_marks(events)
        differing = sorted({s.seq for s in steps if marks.pop(s.seq, None) != digest(s)} | marks.keys())
        wrong += [f"{run}: step {seq} is missing, or differs from its events" for seq in differing]
    return wrong


def _vouched(events: list[EventRow], steps: list[StepRow]) -> bool:
    """Whether the newest event of each step contains the digest of its row, and the number of steps is unchanged.

    A search for the text is fast and safe: in quoted foreign text the quotes are escaped.
    """
    newest = {event.seq: event.detail for event in events if event.seq is not None and ROW in event.detail}
    opened = events[0].detail if events else ""
    whole = opened.count(ROW) == len(steps)
    return whole and all(f'{ROW}"{digest(step)}"' in newest.get(step.seq, opened) for step in steps)


def _events(chain: Chain, row: RunRow, events: list[EventRow], logged: list[str]) -> list[str]:
    wrong, previous, expected, hashes = [], START, 0, set()
    ended: tuple[Any, Any, Any] = (None, None, None)
    for event in events:
        if event.number != expected:
            wrong.append(f"run {row.id}: event {expected} is missing")
        if not (holds := chain.holds(event.hash, previous, event[:6])):
            wrong.append(f"run {row.id}: event {event.number} ({event.what}) {_why(holds, event.hash)}")
        if is_keyed(previous) and not is_keyed(event.hash):
            wrong.append(f"run {row.id}: event {event.number} ({event.what}) has no key")
        if event.seq is None:
            ended = _run_end(event, ended)
        hashes.add(event.hash)
        previous, expected = event.hash, event.number + 1
    if previous != row.head or expected != row.events or not hashes.issuperset(logged):
        wrong.append(f"run {row.id}: its last events are missing")
    if ended != (row.closed, row.result, row.wish):
        wrong.append(f"run {row.id}: the end or the stop request in its row differs from its events")
    return wrong


def _run_end(event: EventRow, before: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """When a run was closed, its result and its stop request, after one more event."""
    closed, result, wish = before
    if event.what == "resumed":
        return None, None, None
    if event.what == "closed":
        return event.at, _read(event.detail).result, None if wish == "pause" else wish
    if event.what.startswith(ASKED):
        return closed, result, event.what.removeprefix(ASKED)
    return before


def _step_marks(events: list[EventRow]) -> dict[int, str]:
    """The digest of each step's row, from the newest event that contains one."""
    marks: dict[int, str] = {}
    for event in events:
        if event.number == 0:
            marks |= {step.seq: step.row for step in _read(event.detail).steps if step.row}
    wanted = set(marks)
    for event in reversed(events):
        if event.seq in wanted and (row := _read(event.detail).row):
            marks[event.seq] = row
            wanted.remove(event.seq)
    return marks


def _copied(text: str) -> list[Any]:
    """The fields of a run's row that are repeated in its columns, in their order; empty for a damaged row."""
    try:
        run = _row.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return []
    return [run.parent, run.environment, run.command, run.opened.isoformat(), run.config_digest]


def _read(detail: str) -> _Mark:
    try:
        return _marks.decode(detail)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return _Mark()


def _parse_time(at: str) -> datetime | None:
    try:
        return datetime.fromisoformat(at)
    except ValueError:
        return None


def head(ledger: Ledger) -> str:
    """The log's last hash. Kept elsewhere, it reveals deleted entries."""
    last = ledger.store.last_log()
    return last.hash if last else START
