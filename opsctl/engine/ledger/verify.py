"""Find whatever was changed, lost or reordered in the ledger."""

from __future__ import annotations

from typing import Any

from opsctl.engine.ledger.chain import START, link
from opsctl.engine.ledger.rows import ENDED
from opsctl.engine.ledger.sqlite import Ledger


def verify(ledger: Ledger, seal: str | None = None) -> list[str]:
    """Walk both chains; return what is wrong, one line each. `seal` is a head kept elsewhere, which the log must still hold."""
    heads: dict[str, str] = {}
    wrong = [*_log(ledger, heads)]
    for run, head, count, row, state in ledger.query("SELECT id, head, events, row, closed FROM runs ORDER BY id"):
        wrong += _run(ledger, run, head, count)
        if heads.get(f"opened {run}") != link(START, [row]):
            wrong.append(f"run {run}: its row was changed, or its opening is missing from the log")
        if state and heads.get(f"closed {run}") != head:
            wrong.append(f"run {run}: events after or before its closing don't match the log")
    known = {run for (run,) in ledger.query("SELECT id FROM runs")}
    wrong += [f"run {name.split()[1]}: it is in the log and its row is missing" for name in heads if name.split()[1] not in known]
    if seal and not ledger.query("SELECT 1 FROM log WHERE hash = ?", seal):
        wrong.append("the sealed head is not in the log: its tail was cut")
    return sorted(set(wrong))


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
    states: dict[int, Any] = {}
    sql = "SELECT number, at, what, seq, detail, hash FROM events WHERE run = ? ORDER BY number"
    for number, at, what, seq, detail, digest in ledger.query(sql, run):
        if number != expected:
            wrong.append(f"run {run}: event {expected} is missing")
        if digest != link(previous, [run, number, at, what, seq, detail]):
            wrong.append(f"run {run}: event {number} ({what}) was changed, or one before it is missing")
        if seq is not None:
            states[seq] = what
        previous, expected = digest, number + 1
    if previous != head or expected != count:
        wrong.append(f"run {run}: its last events are missing")
    for seq, state in ledger.query("SELECT seq, state FROM steps WHERE run = ?", run):
        if (seq in states and states[seq] != state) or (seq not in states and state not in {"pending", *ENDED}):
            wrong.append(f"run {run}: step {seq} says {state}, its events say {states.get(seq, 'nothing')}")
    return wrong


def head(ledger: Ledger) -> str:
    """The newest hash of the log: keep it elsewhere, and a cut tail will show."""
    rows = ledger.query("SELECT hash FROM log ORDER BY number DESC LIMIT 1")
    return str(rows[0][0]) if rows else START
