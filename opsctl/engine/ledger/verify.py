"""Find whatever was changed, lost or reordered in the ledger."""

from __future__ import annotations

from typing import Any

import msgspec

from opsctl.engine.ledger.chain import START, link
from opsctl.engine.ledger.rows import Run
from opsctl.engine.ledger.schema import STEP
from opsctl.engine.ledger.sqlite import Ledger


def verify(ledger: Ledger, seal: str | None = None) -> list[str]:
    """Walk both chains; return what is wrong, one line each. `seal` is a head kept elsewhere, which the log must still hold."""
    heads: dict[str, str] = {}
    wrong = [*_log(ledger, heads)]
    columns = "id, head, events, row, closed, parent, environment, command, opened"
    for run, head, count, row, closed, *copied in ledger.query(f"SELECT {columns} FROM runs ORDER BY id"):
        wrong += _run(ledger, run, head, count)
        if heads.get(f"opened {run}") != link(START, [row]) or _copied(row) != copied:
            wrong.append(f"run {run}: its row was changed, or its opening is missing from the log")
        if closed and heads.get(f"closed {run}") != head:
            wrong.append(f"run {run}: events after or before its closing don't match the log")
    known = {run for (run,) in ledger.query("SELECT id FROM runs")}
    wrong += [f"run {name.split()[1]}: it is in the log and its row is missing" for name in heads if name.split()[1] not in known]
    if seal and not ledger.query("SELECT 1 FROM log WHERE hash = ?", seal):
        wrong.append("the sealed head is not in the log: its tail was cut")
    return sorted(set(wrong))


def _copied(row: str) -> list[Any]:
    """What a run's other columns repeat of its row."""
    try:
        run = msgspec.json.decode(row, type=Run)
    except msgspec.MsgspecError:
        return []
    return [run.parent, run.environment, run.command, run.opened.isoformat()]


def _log(ledger: Ledger, heads: dict[str, str]) -> list[str]:
    wrong, previous, expected = [], START, 1
    for number, at, run, what, head, digest in ledger.query("SELECT number, at, run, what, head, hash FROM log ORDER BY number"):
        if number != expected:
            wrong.append(f"the log: entry {expected} is missing")
        if digest != link(previous, [number, at, run, what, head]):
            wrong.append(f"the log: entry {number} ({what} {run}) was changed, or one before it is missing")
        heads[f"{what} {run}"] = head
        previous, expected = digest, number + 1
    return wrong


def _run(ledger: Ledger, run: str, head: str, count: int) -> list[str]:
    wrong, previous, expected = [], START, 0
    marks: dict[int, str] = {}
    ended: list[Any] = [None, None]
    sql = "SELECT number, at, what, seq, detail, hash FROM events WHERE run = ? ORDER BY number"
    for number, at, what, seq, detail, digest in ledger.query(sql, run):
        if number != expected:
            wrong.append(f"run {run}: event {expected} is missing")
        if digest != link(previous, [run, number, at, what, seq, detail]):
            wrong.append(f"run {run}: event {number} ({what}) was changed, or one before it is missing")
        ended = _ended(what, at, detail, ended)
        marks |= _marks(seq, detail)
        previous, expected = digest, number + 1
    if previous != head or expected != count:
        wrong.append(f"run {run}: its last events are missing")
    if [tuple(ended)] != ledger.query("SELECT closed, result FROM runs WHERE id = ?", run):
        wrong.append(f"run {run}: its row says another end than its events")
    steps = {row[1]: link(START, list(row)) for row in ledger.query(f"SELECT {', '.join(STEP)} FROM steps WHERE run = ?", run)}
    differing = sorted(seq for seq in marks.keys() | steps.keys() if marks.get(seq) != steps.get(seq))
    return wrong + [f"run {run}: step {seq} is missing, or not as its events left it" for seq in differing]


def _ended(what: str, at: str, detail: str, before: list[Any]) -> list[Any]:
    """When a run ended and how, after one more event."""
    if what == "resumed":
        return [None, None]
    return [at, _decoded(detail).get("result")] if what == "closed" else before


def _marks(seq: int | None, detail: str) -> dict[int, str]:
    """The digests of steps' rows that an event carries."""
    told = _decoded(detail)
    steps = [{"seq": seq, **told}] if seq is not None else told.get("steps", [])
    return {step["seq"]: step["row"] for step in steps if "row" in step}


def _decoded(detail: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(detail, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def head(ledger: Ledger) -> str:
    """The newest hash of the log: keep it elsewhere, and a cut tail will show."""
    rows = ledger.query("SELECT hash FROM log ORDER BY number DESC LIMIT 1")
    return str(rows[0][0]) if rows else START
