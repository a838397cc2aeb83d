"""Which process this is, told so that neither a recycled pid nor a jump of the wall clock can fool a lock."""

from __future__ import annotations

import functools
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


@functools.cache
def boot() -> str:
    """An id of this machine's present boot; empty where the system has none."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


@functools.cache
def host() -> str:
    """A name of this machine that outlives its boots."""
    path = Path("/etc/machine-id")
    with suppress(OSError):
        return f"{os.uname().nodename} {path.read_text().strip()}"
    return os.uname().nodename


def namespace() -> str:
    """An id of the space in which this process' number is its own, such as a container's; empty where the system has none."""
    return _self(os.getpid()).namespace


def number() -> int:
    """This process' number, as /proc names it: where /proc is another space's, it differs from the one that the system tells."""
    return _self(os.getpid()).number


class _Self(NamedTuple):
    namespace: str
    number: int
    started: str


@functools.cache
def _self(pid: int) -> _Self:
    """What never changes while process `pid`, this one, runs. Read once, and again in a fork."""
    namespace, number = "", pid
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    with suppress(OSError, ValueError):
        number = int(os.readlink("/proc/self"))
    return _Self(namespace, number, _started(number))


def uptime() -> float:
    """Seconds on a clock that all processes share, that counts sleep, and that nobody can set."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def started(pid: int) -> str:
    """When process `pid` began, in the system's own ticks; empty when there is no such process, it has died, or no telling."""
    own = _self(os.getpid())
    return own.started if pid == own.number else _started(pid)


def _started(pid: int) -> str:
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
