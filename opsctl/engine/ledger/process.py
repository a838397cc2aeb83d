"""Which process this is, told so that neither a recycled pid nor a jump of the wall clock can fool a lock."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path


@functools.cache
def boot() -> str:
    """An id of this machine's present boot; empty where the system has none."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def uptime() -> float:
    """Seconds on a clock that all processes share, that counts sleep, and that nobody can set."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def started(pid: int) -> str:
    """When process `pid` began, in the system's own ticks; empty when there is no such process, it has died, or no telling."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def alive(pid: int, began: str) -> bool:
    """Whether that very process still runs."""
    if began:
        return started(pid) == began
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
