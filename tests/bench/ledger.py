"""What a step costs beside its effect: a thousand changes in memory through the whole engine, beside bare SQLite rows."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

from opsctl.engine.options import Options
from opsctl.testing.rig import Rig, Set
from tests.bench.house import FOLDER
from tests.bench.sides import Failed, by_turns
from tests.bench.table import Row, ratio

STEPS = 1_000
REPEATS = 5
EVENTS = "SELECT * FROM events WHERE seq IS NOT NULL ORDER BY number"
"""What a run commits, a row at a time: each of a step's states."""


class Bench:
    """Both sides on the disk of the project's folder, each time on a fresh file."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.texts = [f"{number:0300}" for number in range(3 * STEPS)]

    def fresh(self) -> None:
        """An empty folder."""
        shutil.rmtree(self.place)
        self.place.mkdir()

    def ours(self) -> float:
        """The engine, from an approved plan to the outcome."""
        rig = Rig(self.place, durable=True)
        plan = rig.plan(*(Set(name=f"number-{n}") for n in range(STEPS)))
        began = time.perf_counter()
        outcome = rig.engine.perform(plan, Options(yes=True))
        taken = time.perf_counter() - began
        if outcome.result != "changed" or len(rig.world.applied) != STEPS:
            raise Failed(f"The steps weren't all made: {outcome.result}.")
        rig.ledger.shut()
        with sqlite3.connect(self.place / "ledger.db") as db:
            self.texts = ["".join(map(str, row)) for row in db.execute(EVENTS)]
        db.close()
        return taken

    def bare(self) -> float:
        """As many rows of as many bytes, each a transaction that is on the disk before the next one begins."""
        db = sqlite3.connect(self.place / "bare.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        began = time.perf_counter()
        for text in self.texts:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO events (text) VALUES (?)", [text])
            db.execute("COMMIT")
        taken = time.perf_counter() - began
        db.close()
        return taken


def measure(folder: Path) -> list[Row]:
    """The time of all steps, and of their bare rows."""
    place = Path(tempfile.mkdtemp(prefix="ledger", dir=FOLDER))
    try:
        bench = Bench(place)
        return [ratio("a step", *by_turns([bench.ours, bench.bare], REPEATS, before=bench.fresh))]
    finally:
        shutil.rmtree(place)
