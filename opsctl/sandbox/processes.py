"""Starts, finds and stops the sandbox's processes, detached and logged.

Pids are reused; pid and start time together are unique. Without `/proc` (macOS), `ps` is used.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opsctl.errors import ExternalError

PROC = Path("/proc")
FOLDER = "OPSCTL_SANDBOX_FOLDER"
"""The variable that identifies a sandbox's processes."""
_has_proc = (PROC / "self" / "stat").exists()

# Kept only so that a child which ends while its starter still lives is reaped and does not stay a zombie.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Process:
    """One process: its id, and when it started in the system's own notation (ticks since boot, or `ps`' text)."""

    pid: int
    started: str


def start_time(pid: int) -> str | None:
    """When a process started, or None where there is none (a zombie counts as none, once all its threads have ended)."""
    if pid <= 0:
        return None
    for child in list(_children):
        if child.poll() is not None:
            _children.remove(child)
    if _has_proc:
        return _start_time_from_proc(pid)
    answer = _ps("-o", "stat=,lstart=", "-p", str(pid)).strip()
    state, _, started = answer.partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _start_time_from_proc(pid: int) -> str | None:
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        threads = len(os.listdir(PROC / str(pid) / "task"))
    except OSError:
        return None
    # proc(5): the state is field 3, the start time field 22; the command name before them may hold anything. A killed
    # process is a zombie while its last threads still end, and holds its ports until then.
    return None if fields[0] in "ZX" and threads <= 1 else fields[19]


def is_alive(process: Process | None) -> bool:
    """Whether this process, and not another one with its pid, is still running."""
    return process is not None and start_time(process.pid) == process.started


def belongs(pid: int, folder: Path) -> bool:
    """Whether a process was started for the sandbox in `folder`, by its environment; true where that can't be read."""
    if not _has_proc:
        return True
    try:
        return os.fsencode(f"{FOLDER}={folder}") in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def find(programs: Sequence[str], phrase: str, folder: Path) -> list[Process]:
    """Every live process of one of these programs (first letters of its name), started for a folder, with this phrase in its arguments."""
    found = []
    for pid, arguments in _command_lines():
        named = bool(arguments) and Path(arguments[0]).name.lower().startswith(tuple(programs))
        if named and pid != os.getpid() and f" {phrase} " in f" {' '.join(arguments)} " and belongs(pid, folder):
            started = start_time(pid)
            if started is not None:
                found.append(Process(pid, started))
    return found


def find_working_in(directory: Path, title: str) -> list[Process]:
    """The running processes in this working directory whose title starts so; none where that can't be read."""
    found = []
    for pid, arguments in _command_lines() if _has_proc else ():
        if arguments and arguments[0].startswith(title):
            with contextlib.suppress(OSError):
                started = start_time(pid) if os.readlink(PROC / str(pid) / "cwd") == str(directory) else None
                if started is not None:
                    found.append(Process(pid, started))
    return found


def _command_lines() -> list[tuple[int, list[str]]]:
    if not _has_proc:
        rows = [line.split() for line in _ps("-axww", "-o", "pid=,command=").splitlines()]
        return [(int(row[0]), row[1:]) for row in rows if row]
    lines = []
    for entry in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            lines.append((int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")))
    return lines


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout


def spawn(
    command: Sequence[str | Path],
    directory: Path,
    log: Path,
    environment: Mapping[str, str],
    user: int | None = None,
) -> Process:
    """Start a process in its own session, its output appended to `log` (0600) in the sandbox's folder; `user` is a uid (and gid) to become.

    Raises ExternalError when the command can't be run.
    """
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "ab") as output:
        try:
            child = subprocess.Popen(
                [str(argument) for argument in command],
                cwd=directory,
                env={**environment, FOLDER: str(log.parent)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        except OSError as cause:
            raise ExternalError(f"{command[0]} can't be run: {cause.strerror}.", next="opsctl sandbox up") from cause
    _children.append(child)
    # A child that has already ended has no start time; it is then simply not alive.
    return Process(child.pid, start_time(child.pid) or "ended")


def wait_until(done: Callable[[], bool], seconds: float, interval: float = 0.02) -> bool:
    """Poll `done` until it is true or `seconds` have passed; returns its last result."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def comes_up(process: Process, answers: Callable[[], bool], seconds: float) -> bool:
    """Wait until a started process answers; False when it ends first, or `seconds` pass."""
    return wait_until(lambda: answers() or not is_alive(process), seconds) and is_alive(process)


def stop(processes: Sequence[Process], gently: signal.Signals = signal.SIGTERM, patience: float = 8.0) -> None:
    """Terminate processes, kill the rest after `patience` seconds, and wait for them."""
    for number, seconds in ((gently, patience), (signal.SIGKILL, 10.0)):
        send(processes, number)
        if wait_until(lambda: not any(map(is_alive, processes)), seconds):
            return


def send(processes: Sequence[Process], number: signal.Signals) -> None:
    """Signal the processes that are still running."""
    for process in processes:
        if is_alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of a program: what it needs of ours, without names of real systems or secrets, plus `extra`."""
    names = {"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
    families = ("LC_", "PYTHON", "DYLD_")
    kept = {name: value for name, value in os.environ.items() if name in names or name.startswith(families)}
    return kept | extra
