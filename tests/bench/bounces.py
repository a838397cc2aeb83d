"""A hundred thousand of SES's notifications counted by CountNotifications, beside json.loads and COPY of the same file."""

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
from tests.bench.bounds import NOTIFICATIONS
from tests.bench.memory import grown
from tests.bench.sides import Failed, by_turns
from tests.bench.systems import applied, context
from tests.bench.table import Row, ratio
from tests.bench.world import superuser

COUNT = 100_000
AGAIN, TIMES = 500, 10
"""How many of them are delivered again, and how often."""
REPEATS = 3
COPY = "COPY bench_copy (feedback_id, recipient, domain, kind, type, subtype, at) FROM STDIN"
COUNTED = "SELECT count(*), (SELECT sum(bounce_count) FROM users), (SELECT count(*) FROM users WHERE email_status = 'bounced')"


def lines(addresses: list[str]) -> Iterator[str]:
    """Every notification as SNS wraps it: one in ten permanent, the others transient; the repeated ones follow at the end."""
    now = time.time()
    again = []
    for number in range(COUNT):
        kind = ("Permanent", "General") if number % 10 == 0 else ("Transient", "MailboxFull")
        told = notifications.bounce(*kind, [addresses[number % len(addresses)]], now)
        told["bounce"]["feedbackId"] = f"0100017f-{number:012}-000000"
        line = json.dumps(told)
        if number % (COUNT // AGAIN) == 0:
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
        change = CountNotifications(
            source=str(self.path), digest=self.digest, size=self.path.stat().st_size, aside=str(self.folder / "aside.jsonl")
        )
        with context(self.folder) as systems:
            systems.write.database.server_time()
            taken, growth = grown(lambda: applied(change, systems))
            self.growth.append(growth)
            self.look()
            if not isinstance(found := change.check(systems.read), Done):
                raise Failed(f"It isn't so afterwards: {found}")
        return taken

    def bare(self) -> float:
        """The file's lines as JSON, and each row once copied into a table with the same indexes."""
        with superuser(self.folder, DATABASE) as connection:
            connection.execute("DROP TABLE IF EXISTS bench_copy")
            connection.execute("CREATE TABLE bench_copy (LIKE ses_notifications INCLUDING ALL)")
            had = set()
            began = time.perf_counter()
            with self.path.open() as lines, connection.cursor() as cursor, cursor.copy(COPY) as copy:
                for line in lines:
                    told = json.loads(line)
                    bounce = told["bounce"]
                    recipient = bounce["bouncedRecipients"][0]["emailAddress"]
                    domain = recipient.partition("@")[2]
                    if (bounce["feedbackId"], recipient) in had:
                        continue
                    had.add((bounce["feedbackId"], recipient))
                    kinds = (bounce["bounceType"], bounce["bounceSubType"])
                    copy.write_row((bounce["feedbackId"], recipient, domain, "bounce", *kinds, bounce["timestamp"]))
            taken = time.perf_counter() - began
            connection.execute("DROP TABLE bench_copy")
        return taken

    def look(self) -> None:
        """Each was counted once, whatever the table and the users say."""
        with superuser(self.folder, DATABASE) as connection:
            counted = connection.execute(f"{COUNTED} FROM ses_notifications").fetchone()
        permanent = range(0, COUNT, 10)
        marked = len({number % len(self.addresses) for number in permanent})
        if counted != (COUNT, COUNT - len(permanent), marked):
            raise Failed(f"Counted, added, marked: {counted}.")


def measure(folder: Path) -> list[Row]:
    """The ratio, what was counted wrongly, and this process's growth."""
    bench = Bench(folder)
    taken = by_turns([bench.ours, bench.bare], REPEATS, before=bench.fresh)
    return [ratio(NOTIFICATIONS, *taken), Row(f"{NOTIFICATIONS}: memory", max(bench.growth))]
