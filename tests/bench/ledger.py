"""What a step costs beside its effect: a thousand changes in memory through the whole engine, every write durable."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import msgspec

from opsctl import config
from opsctl.adapters.host.prompt import Person
from opsctl.adapters.host.secret_sources import Values
from opsctl.contract import Change, Done, Evidence, Finding, Never, Pending, Telling
from opsctl.engine.engine import Engine
from opsctl.engine.history import LedgerMemory
from opsctl.engine.ledger.sqlite import Ledger
from opsctl.engine.options import Options
from opsctl.engine.reporter import Silent
from opsctl.systems import Systems
from tests.bench.house import FOLDER
from tests.bench.sides import Failed
from tests.bench.table import Row

STEPS = 1_000
REPEATS = 7
BOUND_MS = 1.5


class SetBoolean(Change, frozen=True, kw_only=True):
    """A number is in the set: nothing to wait for, so that all that is measured is the engine's own."""

    telling: ClassVar[Telling] = "probe"
    made: ClassVar[set[int]] = set()

    number: int

    @property
    def target(self) -> str:
        return f"number/{self.number}"

    @property
    def summary(self) -> str:
        return f"add {self.number}"

    def check(self, read: Systems) -> Finding:
        return Done("it is there") if self.number in self.made else Pending(1, "numbers")

    def apply(self, write: Systems, token: str) -> Evidence:
        self.made.add(self.number)
        return {"number": self.number}

    def inverse(self) -> Never:
        return Never("it is only counted")


def measure(folder: Path) -> list[Row]:
    """Milliseconds a step, on the disk of the project's folder, and what that disk takes for one sync."""
    place = Path(tempfile.mkdtemp(prefix="ledger", dir=FOLDER))
    try:
        syncs, steps = [], []
        for number in range(REPEATS):
            syncs.append(_sync(place))
            steps.append(_steps(place / f"{number}.db"))
    finally:
        shutil.rmtree(place)
    step, sync = statistics.median(steps) * 1000, statistics.median(syncs) * 1000
    told = {
        "ours": f"{STEPS:,} steps: {step * STEPS / 1000:.2f} s (best {min(steps) * STEPS:.2f} s)",
        "other": f"one fdatasync: {sync:.3f} ms",
    }
    return [Row("the ledger, a step", step, BOUND_MS, "ms", **told)]


def _steps(path: Path) -> float:
    environment = config.load("sandbox")
    ledger = Ledger(path, msgspec.json.Decoder(SetBoolean).decode)
    memory = LedgerMemory(lambda: ledger, environment)
    sets = [Systems(environment, writing=w, person=Person(), values=Values(), memory=memory) for w in (False, True)]
    engine = Engine(environment, ledger, *sets, Silent(), "bench", tempo=0)
    SetBoolean.made.clear()
    options = Options(yes=True)
    plan = engine.plan("bench", lambda systems: [SetBoolean(number=n) for n in range(STEPS)], options)
    began = time.perf_counter()
    outcome = engine.perform(plan, options)
    taken = time.perf_counter() - began
    if outcome.result != "changed" or ledger.query("PRAGMA synchronous") != [(2,)]:
        raise Failed(f"The steps weren't all made, or not durably: {outcome.result}.")
    ledger.shut()
    return taken / STEPS


def _sync(place: Path, times: int = 200) -> float:
    """The mean of a 4 KB write's fdatasync, in seconds: a busy machine shows in its long ones."""
    file = os.open(place / "sync", os.O_CREAT | os.O_RDWR | os.O_TRUNC)
    taken = []
    try:
        for _ in range(times):
            os.write(file, b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(file)
    return statistics.fmean(taken)
