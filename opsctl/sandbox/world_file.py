"""The file that remembers a sandbox: `world.json` in its folder, mode 0600, always replaced whole."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from opsctl import files
from opsctl.errors import ExternalError, LockHeld
from opsctl.sandbox import ownership
from opsctl.sandbox.processes import Process

VERSION = 1


@dataclass
class WorldFile:
    """What `world.json` holds. `ready` is false from the first step of filling a world until the last one.

    `tempo` scales pretended waits; `users` and `sessions` are counts; `ports` and `processes` go by part; `facts` are
    flat strings, secrets among them.
    """

    tempo: float = 1.0
    users: int = 10_000
    sessions: int = 50_000
    ready: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict, repr=False)

    def process(self, part: str) -> Process | None:
        """The process last started for a part, alive or not."""
        return self.processes.get(part)


def path(folder: Path) -> Path:
    """Where a sandbox's file lies."""
    return folder / "world.json"


def load(folder: Path) -> WorldFile | None:
    """The world of this folder, or None where there is none or its file is broken."""
    try:
        held = json.loads(files.read(path(folder), links=False))
        if held.pop("version") != VERSION:
            return None
        held["processes"] = {part: Process(**process) for part, process in held["processes"].items()}
        return WorldFile(**held)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def save(folder: Path, world: WorldFile) -> None:
    """Replace the file atomically; a reader sees the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".world-")
    with open(handle, "w") as file:
        json.dump({"version": VERSION, **asdict(world)}, file, indent=1)
    os.replace(name, path(folder))


def facts(folder: Path) -> dict[str, str]:
    """The facts of a world that is up.

    Raises ExternalError when no world was started in this folder.
    """
    folder = folder.resolve()
    world = load(folder) if ownership.is_marked(folder) else None
    if world is None or not world.ready:
        raise ExternalError(f"No sandbox is running in {folder}.", next="opsctl sandbox up")
    return world.facts


@contextlib.contextmanager
def locked(folder: Path, seconds: float = 90.0) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process that holds it.

    Raises LockHeld when another opsctl keeps it for longer than `seconds`, ExternalError when the folder isn't usable.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as cause:
        what = f"The folder {folder} can't be used for the sandbox: {cause.strerror}."
        raise ExternalError(what, next="Set OPSCTL_SANDBOX to a folder of your own, then: opsctl sandbox up") from cause
    with open(handle, "r+") as lock:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise LockHeld(
                    f"Another opsctl has been starting or stopping the sandbox in {folder} for {seconds:.0f} s.",
                    next="opsctl sandbox status",
                )
            time.sleep(0.05)
        yield


def free_port(wanted: int = 0) -> int:
    """`wanted` when nobody listens on it on 127.0.0.1, else any free one. Someone may still take it before its use."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), listener(port) as probe:
            return int(probe.getsockname()[1])
    raise ExternalError("There is no free port on 127.0.0.1.", next="Stop some programs, then: opsctl sandbox up")


@contextlib.contextmanager
def listener(port: int) -> Iterator[socket.socket]:
    """Listen on a port of 127.0.0.1 for a while; raises OSError when it is taken."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        yield listening
