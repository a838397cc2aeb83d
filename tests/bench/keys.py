"""A million session keys unlinked by EndCachedSessions beside `--scan | xargs unlink`, with other keys that must stay."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from opsctl.changes.sessions import EndCachedSessions
from tests.bench import world
from tests.bench.memory import grown
from tests.bench.sides import Failed, by_turns, command
from tests.bench.systems import Beats, both
from tests.bench.table import Row, ratio

SESSIONS, OTHERS = 1_000_000, 100_000
REPEATS = 3
FLAT_MB = 16.0
CLI = 'valkey-cli -h "$REDIS_HOST" -p "$REDIS_PORT"'
SHELL = f"{CLI} --scan --pattern 'session:*' | xargs {CLI} unlink"
FILL = """
for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do redis.call('SET', ARGV[3] .. n % 10000 .. ':' .. n, '{"role": "user"}', 'EX', ARGV[4]) end
"""
STEP = 50_000
REWRITTEN_WITHIN = 60.0


class Bench:
    """The two sides, and what was seen beside their times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.growth: list[float] = []
        self.lost = 0

    def fresh(self) -> None:
        """The server emptied and filled anew."""
        with world.keys(self.folder) as client:
            client.flushall()
            for prefix, count, seconds in (("session:", SESSIONS, 600), ("cache:", OTHERS, 86_400)):
                for first in range(1, count, STEP):
                    client.eval(FILL, 0, str(first), str(first + STEP - 1), prefix, str(seconds))
            if client.dbsize() != SESSIONS + OTHERS:
                raise Failed("The keys weren't all made.")
            # Filling it set off a rewrite of its append-only file, which would weigh on whichever side comes next.
            deadline = time.monotonic() + REWRITTEN_WITHIN
            while client.info("persistence")["aof_rewrite_in_progress"]:
                if time.monotonic() > deadline:
                    raise Failed("The server still rewrites its append-only file.")
                time.sleep(0.05)

    def ours(self) -> float:
        """The change's `apply`, through the real adapter, connected before it is timed."""
        read, write = both(self.folder)
        write.beat = Beats()
        change = EndCachedSessions(users=None, cutoff=datetime.now(UTC))
        write.redis.server_time_ms()
        taken = []

        def work() -> None:
            began = time.perf_counter()
            change.apply(write, "bench-1")
            taken.append(time.perf_counter() - began)

        self.growth.append(grown(work))
        self.look()
        read.shut()
        write.shut()
        return taken[0]

    def shell(self) -> float:
        """What a person would type instead of FLUSHALL."""
        taken = command("sh", "-ec", SHELL)()
        self.look()
        return taken

    def look(self) -> None:
        """Every other key is still there, and no session."""
        with world.keys(self.folder) as client:
            left = client.dbsize()
            others = sum(1 for _ in client.scan_iter("cache:*", count=10_000))
        self.lost += OTHERS - others
        if left != others:
            raise Failed(f"{left - others} sessions are left.")


def measure(folder: Path) -> list[Row]:
    """The ratio, what became of the other keys, and this process's growth."""
    bench = Bench(folder)
    taken = by_turns([bench.ours, bench.shell], REPEATS, before=bench.fresh)
    return [
        ratio(f"{SESSIONS:,} session keys unlinked", *taken, 0.4, ("in steps", "scan | xargs unlink")),
        Row("... others lost", bench.lost, 0, "keys", f"{OTHERS:,} others"),
        Row("... memory", max(bench.growth), FLAT_MB, "MB"),
    ]
