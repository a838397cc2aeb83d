"""A million session keys unlinked by EndCachedSessions, beside one Lua loop and beside `--scan | xargs unlink`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from opsctl.changes.sessions import EndCachedSessions
from tests.bench import world
from tests.bench.bounds import KEYS
from tests.bench.memory import grown
from tests.bench.sides import Failed, by_turns, command
from tests.bench.systems import applied, context
from tests.bench.table import Row, ratio

SESSIONS, OTHERS = 1_000_000, 100_000
LIFETIME = 600
REPEATS = 3
CLI = 'valkey-cli -h "$REDIS_HOST" -p "$REDIS_PORT"'
SHELL = f"{CLI} --scan --pattern 'session:*' | xargs {CLI} unlink"
FILL = """
for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do redis.call('SET', ARGV[3] .. n % 10000 .. ':' .. n, '{"role": "user"}', 'EX', ARGV[4]) end
"""
LOOP = """
local cursor, done = '0', 0
repeat
  local page, old = redis.call('SCAN', cursor, 'MATCH', 'session:*', 'COUNT', 1000), {}
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local left = redis.call('PTTL', key)
    if left < tonumber(ARGV[1]) then old[#old + 1] = key end
  end
  if #old > 0 then done = done + redis.call('UNLINK', unpack(old)) end
until cursor == '0'
return done
"""
"""What the server takes for the work itself, every other client waiting meanwhile. Without PTTL it would end sessions begun since, too."""
WITHOUT_AGE = LOOP.replace("redis.call('PTTL', key)", "0")
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
            for prefix, count, seconds in (("session:", SESSIONS, LIFETIME), ("cache:", OTHERS, 86_400)):
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
        change = EndCachedSessions(users=None, cutoff=datetime.now(UTC))
        with context(self.folder) as systems:
            systems.write.redis.infos()
            taken, growth = grown(lambda: applied(change, systems))
        self.growth.append(growth)
        self.look()
        return taken

    def shell(self) -> float:
        """What a person would type instead of FLUSHALL."""
        taken = command("sh", "-ec", SHELL)()
        self.look()
        return taken

    def loop(self, script: str = LOOP) -> float:
        """One script that does the same on the server."""
        with world.keys(self.folder) as client:
            began = time.perf_counter()
            client.eval(script, 0, str(LIFETIME * 1000))
            taken = time.perf_counter() - began
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
    """The ratios, what became of the other keys, and this process's growth."""
    bench = Bench(folder)
    ours, loop, shell = by_turns([bench.ours, bench.loop, bench.shell], REPEATS, before=bench.fresh)
    bench.fresh()
    plain = bench.loop(WITHOUT_AGE)
    return [
        ratio(KEYS, ours, loop),
        ratio(f"{KEYS}, by a client", ours, shell),
        Row(f"{KEYS}: other keys lost", bench.lost),
        Row(f"{KEYS}: memory", max(bench.growth)),
        ratio("", ours, plain, what=f"{KEYS}; the Lua loop that takes no look at ages"),
    ]
