"""Five million sessions deleted by EndDatabaseSessions beside one plain DELETE on an equal table, a second client at work in both."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import sql

from opsctl.changes.sessions import EndDatabaseSessions
from opsctl.contract import Pending
from opsctl.sandbox.seed import OWNER
from opsctl.sandbox.world_file import facts
from tests.bench.bounds import SESSIONS
from tests.bench.house import HOUSE
from tests.bench.memory import grown
from tests.bench.sides import Failed, by_turns
from tests.bench.systems import applied, context
from tests.bench.table import Row, ratio
from tests.bench.world import superuser

COUNT = 5_000_000
REPEATS = 3
FULL, WORK = "bench_full", "bench_work"
FILL = """
INSERT INTO refresh_sessions (user_id, token_hash, created_at, expires_at)
SELECT 1 + (n::bigint * 7919) %% 10000, 'bench-' || n, now() - interval '1 day', now() + interval '29 days' FROM generate_series(1, %s) AS n
"""


class Bench:
    """The two sides, and what was seen beside their times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waits: dict[str, list[float]] = {"ours": [], "plain": [], "quiet": []}
        self.growth: list[float] = []
        self.left: list[int] = []

    def fresh(self) -> None:
        """A new copy of the full database, with its pages in the server's memory."""
        named(self.folder, "DROP DATABASE IF EXISTS {} WITH (FORCE)", WORK)
        named(self.folder, "CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy", WORK, FULL, OWNER)
        with superuser(self.folder, WORK) as connection:
            connection.execute("SELECT count(*) FROM refresh_sessions")

    def ours(self) -> float:
        """The change's `apply`, through the real adapter; before it is timed, it has connected and found its cutoff."""
        with context(self.folder, WORK) as systems:
            change = EndDatabaseSessions(users=None, cutoff=systems.write.database.server_time())
            with client(self.waits["ours"]):
                taken, growth = grown(lambda: applied(change, systems))
            found = change.check(systems.read)
        self.growth.append(growth)
        self.left.append(found.count if isinstance(found, Pending) else 0)
        return taken

    def plain(self) -> float:
        """The runbook's one statement (2.3)."""
        user = facts(self.folder)["pg_user"]
        with superuser(self.folder, WORK) as connection, client(self.waits["plain"]):
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(user)))
            return timed(lambda: connection.execute("DELETE FROM refresh_sessions"))

    def quiet(self) -> None:
        """What the second client waits when nobody deletes: the machine's own noise."""
        self.fresh()
        with client(self.waits["quiet"]):
            time.sleep(3)


def measure(folder: Path) -> list[Row]:
    """The ratio, the worst wait of the second client, and this process's growth."""
    fill(folder)
    bench = Bench(folder)
    bench.quiet()
    taken = by_turns([bench.ours, bench.plain], REPEATS, before=bench.fresh)
    for name in (WORK, FULL):
        named(folder, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
    ours, plain, quiet = (statistics.median(bench.waits[side]) for side in ("ours", "plain", "quiet"))
    return [
        ratio(SESSIONS, *taken),
        Row(f"{SESSIONS}: another client's worst wait", ours, f"{ours:.1f} ms", f"one DELETE: {plain:.0f} ms; nobody: {quiet:.1f} ms"),
        Row(f"{SESSIONS}: memory", max(bench.growth)),
        Row("", max(bench.left), what="old sessions refreshed meanwhile, left to the next pass", unit="sessions"),
    ]


def fill(folder: Path) -> None:
    """Make the full database from the seeded one: rows and indexes, frozen and analysed, so that a copy has nothing left to do."""
    named(folder, "DROP DATABASE IF EXISTS {} WITH (FORCE)", FULL)
    named(folder, "CREATE DATABASE {} TEMPLATE safawinet_seed OWNER {}", FULL, OWNER)
    with superuser(folder, FULL) as connection:
        connection.execute("TRUNCATE refresh_sessions RESTART IDENTITY")
        connection.execute("ALTER TABLE refresh_sessions DROP CONSTRAINT refresh_sessions_token_hash_key")
        connection.execute("DROP INDEX refresh_sessions_user_id")
        connection.execute(FILL, [COUNT])
        connection.execute("ALTER TABLE refresh_sessions ADD CONSTRAINT refresh_sessions_token_hash_key UNIQUE (token_hash)")
        connection.execute("CREATE INDEX refresh_sessions_user_id ON refresh_sessions (user_id)")
        connection.execute("VACUUM (FREEZE, ANALYZE) refresh_sessions")
        connection.execute("CHECKPOINT")


@contextmanager
def client(waits: list[float]) -> Iterator[None]:
    """Keep the second client at work for the length of a block, and append its worst wait."""
    words = [sys.executable, "-m", "tests.bench.client", WORK]
    with subprocess.Popen(words, cwd=HOUSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise Failed("The second client didn't begin.")
        try:
            yield
        finally:
            process.stdin.close()
            told: dict[str, Any] = json.loads(process.stdout.readline() or "{}")
    waits.append(told["worst"])


def timed(work: Any) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def named(folder: Path, statement: str, *names: str) -> None:
    """Run a statement about whole databases."""
    with superuser(folder) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
