"""A hundred thousand of SES's notifications counted by CountNotifications, some of them delivered ten times more."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from opsctl.changes.bounces import CountNotifications
from opsctl.contract import Done
from opsctl.sandbox.aws import notifications
from opsctl.sandbox.databases import DATABASE
from tests.bench.memory import grown
from tests.bench.sides import Failed, by_turns
from tests.bench.systems import Beats, both
from tests.bench.table import Row
from tests.bench.world import superuser

NOTIFICATIONS = 100_000
AGAIN, TIMES = 500, 10
"""How many of them are delivered again, and how often."""
REPEATS = 3
BOUND_MS = 5_000.0
FLAT_MB = 16.0
COUNTED = "SELECT count(*), (SELECT sum(bounce_count) FROM users), (SELECT count(*) FROM users WHERE email_status = 'bounced')"


def lines(addresses: list[str]) -> Iterator[str]:
    """Every notification as SNS wraps it: one in ten permanent, the others transient; the repeated ones follow at the end."""
    now = time.time()
    again = []
    for number in range(NOTIFICATIONS):
        kind = ("Permanent", "General") if number % 10 == 0 else ("Transient", "MailboxFull")
        told = notifications.bounce(*kind, [addresses[number % len(addresses)]], now)
        told["bounce"]["feedbackId"] = f"0100017f-{number:012}-000000"
        line = json.dumps(told)
        if number % (NOTIFICATIONS // AGAIN) == 0:
            again.append(line)
        yield line
    for _ in range(TIMES):
        yield from again


class Bench:
    """The change on a fresh table, and what was seen beside its time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "notifications.jsonl"
        with superuser(folder, DATABASE) as connection:
            self.addresses = [str(address) for (address,) in connection.execute("SELECT email FROM users ORDER BY id")]
        self.path.write_text("".join(f"{line}\n" for line in lines(self.addresses)))
        self.digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.growth: list[float] = []

    def fresh(self) -> None:
        """Nothing counted, nobody marked."""
        with superuser(self.folder, DATABASE) as connection:
            connection.execute("TRUNCATE ses_notifications")
            connection.execute("UPDATE users SET email_status = 'ok', bounce_count = 0")
            connection.execute("VACUUM ANALYZE users")

    def ours(self) -> float:
        """The change's `apply`, through the real adapter, connected before it is timed."""
        read, write = both(self.folder)
        write.beat = Beats()
        change = CountNotifications(
            source=str(self.path), digest=self.digest, size=self.path.stat().st_size, aside=str(self.folder / "aside.jsonl")
        )
        write.database.server_time()
        taken = []

        def work() -> None:
            began = time.perf_counter()
            change.apply(write, "bench-1")
            taken.append(time.perf_counter() - began)

        self.growth.append(grown(work))
        self.look()
        if not isinstance(found := change.check(read), Done):
            raise Failed(f"It isn't so afterwards: {found}")
        read.shut()
        write.shut()
        return taken[0]

    def look(self) -> None:
        """Each was counted once, whatever the table and the users say."""
        with superuser(self.folder, DATABASE) as connection:
            counted = connection.execute(f"{COUNTED} FROM ses_notifications").fetchone()
        permanent = range(0, NOTIFICATIONS, 10)
        marked = len({number % len(self.addresses) for number in permanent})
        if counted != (NOTIFICATIONS, NOTIFICATIONS - len(permanent), marked):
            raise Failed(f"Counted, added, marked: {counted}.")


def measure(folder: Path) -> list[Row]:
    """The time, what was counted wrongly, and this process's growth."""
    bench = Bench(folder)
    (taken,) = by_turns([bench.ours], REPEATS, before=bench.fresh)
    told = f"{AGAIN * TIMES:,} of them repeated, {taken / NOTIFICATIONS * 1e6:.0f} us each"
    return [
        Row(f"{NOTIFICATIONS:,} notifications counted once", taken * 1000, BOUND_MS, "ms", told),
        Row("... memory", max(bench.growth), FLAT_MB, "MB"),
    ]
