"""`opsctl status` beside the slowest of its sources asked by itself, in the same form: a process each, its start included."""

from __future__ import annotations

from pathlib import Path

from opsctl.commands.status import SOURCES
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule
from tests.bench.sides import by_turns, command
from tests.bench.table import Row, ratio

REPEATS = 9
HEALTH = Rule("api", "GET /health", "slow", 0.5, 0, 0)
"""What answers late in the second row: the API and its staging."""


def measure(folder: Path) -> list[Row]:
    """Once as the sandbox answers, where asking is mostly this machine's own work, and once with a source that takes half a second."""
    rows = [_row("status", sorted(SOURCES))]
    lifecycle.set_fault(folder, HEALTH)
    try:
        return [*rows, _row("status, a source 0.5 s late", ["API"])]
    finally:
        lifecycle.clear_faults(folder)


def _row(bound: str, names: list[str]) -> Row:
    whole, *alone = by_turns([command("opsctl", "status"), *(command("opsctl", "status", "--only", name) for name in names)], REPEATS)
    return ratio(bound, whole, max(alone))
