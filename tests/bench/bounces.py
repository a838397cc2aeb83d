"""A hundred thousand of SES's notifications counted by CountNotifications, beside json.loads and COPY of the same file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

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
COPY_LINES = r"COPY bench_copy FROM STDIN (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')"
COPY_ROWS = "COPY bench_copy (feedback_id, recipient, domain, kind, type, subtype, at) FROM STDIN"
BLOCK = 1 << 18
OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
"""The sandbox's application leaves a transaction open, beside which no vacuum removes what was replaced."""
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
            connection.execute(OTHERS)
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
        """Each line read by json.loads, then the file copied as it is into a column of JSON."""
        return self._copied("CREATE TABLE bench_copy (told jsonb NOT NULL)", self._as_it_is)

    def rows(self) -> float:
        """Each line read by json.loads, and its row copied once into a table with our columns and indexes."""
        return self._copied("CREATE TABLE bench_copy (LIKE ses_notifications INCLUDING ALL)", self._row_by_row)

    def _copied(self, table: str, work: Callable[[psycopg.Cursor[TupleRow]], None]) -> float:
        with superuser(self.folder, DATABASE) as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS bench_copy")
            cursor.execute(table.encode())
            began = time.perf_counter()
            work(cursor)
            taken = time.perf_counter() - began
            cursor.execute("DROP TABLE bench_copy")
        return taken

    def _as_it_is(self, cursor: psycopg.Cursor[TupleRow]) -> None:
        with self.path.open() as lines:
            for line in lines:
                json.loads(line)
        with self.path.open("rb") as file, cursor.copy(COPY_LINES) as copy:
            while block := file.read(BLOCK):
                copy.write(block)

    def _row_by_row(self, cursor: psycopg.Cursor[TupleRow]) -> None:
        had = set()
        with self.path.open() as lines, cursor.copy(COPY_ROWS) as copy:
            for line in lines:
                bounce = json.loads(line)["bounce"]
                recipient = bounce["bouncedRecipients"][0]["emailAddress"]
                key = (bounce["feedbackId"], recipient)
                if key not in had:
                    had.add(key)
                    domain = recipient.partition("@")[2]
                    copy.write_row((*key, domain, "bounce", bounce["bounceType"], bounce["bounceSubType"], bounce["timestamp"]))

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
    ours, bare, rows = by_turns([bench.ours, bench.bare, bench.rows], REPEATS, before=bench.fresh)
    return [
        ratio(NOTIFICATIONS, ours, bare),
        Row(f"{NOTIFICATIONS}: memory", max(bench.growth)),
        ratio("", ours, rows, what=f"{NOTIFICATIONS} and their users updated; the rows alone by COPY, each once"),
    ]
