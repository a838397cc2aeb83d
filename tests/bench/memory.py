"""How much this process grows while it works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def grown(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns, and by how many megabytes its peak stands above what was held before (Linux counts resident pages)."""
    PEAK.write_text("5")
    before = _megabytes("VmRSS")
    result = work()
    return result, _megabytes("VmHWM") - before


def _megabytes(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
