"""The identity of this process, safe against reused pids and changes of the wall clock."""

from __future__ import annotations

import functools
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


@functools.cache
def boot() -> str:
    """The id of this machine's present boot; empty if the system has none."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


@functools.cache
def host() -> str:
    """A name of this machine that stays the same across reboots."""
    path = Path("/etc/machine-id")
    with suppress(OSError):
        return f"{os.uname().nodename} {path.read_text().strip()}"
    return os.uname().nodename


def namespace() -> str:
    """The id of this process's pid namespace, such as a container's; empty if the system has none."""
    return _self(os.getpid()).namespace


def number() -> int:
    """The pid of this process in /proc, which differs from os.getpid() if /proc belongs to another namespace."""
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
    """Seconds on a clock that all processes share, that includes sleep, and that can't be set."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def started(pid: int) -> str:
    """The start time of process `pid` in clock ticks; empty if the process has ended or can't be read."""
    own = _self(os.getpid())
    return own.started if pid == own.number else _started(pid)


def _started(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def alive(pid: int, began: str) -> bool:
    """Whether the process with this pid and start time is still running."""
    if began:
        return started(pid) == began
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
