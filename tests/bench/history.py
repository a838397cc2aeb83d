"""Commands over a ledger of 20,000 runs, beside the same over a ledger of one run."""

from __future__ import annotations

import sqlite3
import sys
from datetime import datetime, timedelta
from pathlib import Path

from opsctl.changes import find_kind
from opsctl.engine.ledger.ledger import open_ledger
from opsctl.engine.ledger.rows import run_id
from tests.bench.bounds import HISTORY
from tests.bench.sides import Failed, Side, by_turns, command
from tests.bench.table import Row, ratio

RUNS = 20_000
REPEATS = 7
SCALE = "service scale api 3"
READ = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('log', 'runs', 'steps', 'events')").fetchall():
    db.execute(f"SELECT * FROM {table}").fetchall()
"""


def measure(folder: Path) -> list[Row]:
    """Each command by turns over the two, and `runs verify` beside a script that reads the same rows."""
    one, many = folder / "one", folder / "many"
    for place in (one, many):
        place.mkdir()
        _in(place, *SCALE.split(), "--yes")()
        _in(place, "service", "scale", "api", "2", "--yes")()
    newest = _fill(many / "opsctl" / "ledger.db")
    oldest = sqlite3.connect(one / "opsctl" / "ledger.db").execute("SELECT id FROM runs LIMIT 1").fetchone()[0]
    pairs = {
        "runs list": [_in(place, "runs", "list") for place in (many, one)],
        "runs show": [_in(many, "runs", "show", newest), _in(one, "runs", "show", oldest)],
        "service scale -n": [_in(place, *SCALE.split(), "-n", may_return=(0, 3)) for place in (many, one)],
        "runs verify": [_in(many, "runs", "verify"), command(sys.executable, "-c", READ, str(many / "opsctl" / "ledger.db"))],
    }
    return [ratio(f"{name}, {HISTORY}", *by_turns(sides, REPEATS)) for name, sides in pairs.items()]


def _in(state: Path, *words: str, may_return: tuple[int, ...] = (0,)) -> Side:
    return command("env", f"XDG_STATE_HOME={state}", "opsctl", *words, may_return=may_return)


def _fill(path: Path) -> str:
    """Write the ledger's newest run again and again, an hour apart and through the ledger itself; returns the last one's id."""
    # It need not outlive the power.
    ledger = open_ledger(path, find_kind, lambda: now, durable=False)
    (run,) = ledger.runs(limit=1)
    steps = ledger.steps(run.id)
    first: datetime = run.opened
    now = first
    for number in range(1, RUNS):
        now = first - timedelta(hours=RUNS - number)
        run.id, run.opened = run_id(now), now
        ledger.open(run, steps)
        for step in steps:
            for state in ("begun", "made", "applied"):
                ledger.put(run.id, step, state, {})
        ledger.close(run.id, "changed", {})
    if len(ledger.runs()) < RUNS:
        raise Failed("The runs weren't all written.")
    ledger.shut()
    return run.id
