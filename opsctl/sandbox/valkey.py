"""The sandbox's Valkey: a real server with a password, on a loopback port and a unix socket.

What it holds outlives a killed server (an append-only file, never synced): a crash must not bring sessions back.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from opsctl.errors import ExternalError
from opsctl.sandbox import binaries, processes
from opsctl.sandbox import state_dirs as homes
from opsctl.sandbox.postgres import last_line
from opsctl.sandbox.processes import Process
from opsctl.sandbox.world_file import free_port

Client = redis.Redis

PART = "valkey"
ANSWER_SECONDS = 5.0
SOCKET = "valkey.sock"


def find(folder: Path) -> list[Process]:
    """The server of this folder, whoever started it."""
    configuration = homes.home(folder, PART) / "valkey.conf"
    return processes.find(("valkey-server", "redis-server"), str(configuration), folder)


def stop(folder: Path, patience: float = 8.0) -> None:
    """End the server; kill it after `patience` seconds."""
    processes.stop(find(folder), signal.SIGTERM, patience)


def start(folder: Path, wanted_port: int, password: str) -> tuple[Process, int]:
    """Start a server that isn't running, on the wanted port if it is free; returns it and its port once it answers.

    Raises ExternalError when it doesn't start.
    """
    directory = homes.make(folder, PART, SOCKET, os.geteuid())
    port = wanted_port
    for _ in range(3):
        port = free_port(port)
        process = _launch(folder, directory, port, password)
        if processes.comes_up(process, functools.partial(answers, port, password), 20.0):
            return process, port
        stop(folder)
        port = 0
    raise ExternalError(
        f"The sandbox's Valkey did not start: {last_line(folder / 'valkey.log')}",
        next=f"Read {folder / 'valkey.log'}, then: opsctl sandbox down; opsctl sandbox up",
    )


def answers(port: int, password: str) -> bool:
    """Whether our server answers on this port: another one would refuse our password."""
    with contextlib.suppress(redis.RedisError), connect(port, password, ANSWER_SECONDS) as client:
        return bool(client.ping())
    return False


def connect(port: int, password: str, seconds: float = 30.0) -> Client:
    """A client over the loopback address, which waits `seconds` for an answer."""
    never = Retry(NoBackoff(), retries=0)
    return redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=seconds, retry=never)


def _launch(folder: Path, directory: Path, port: int, password: str) -> Process:
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "unixsocket": _quoted(directory / SOCKET),
        "unixsocketperm": "700",
        "requirepass": password,
        "dir": _quoted(directory),
        "save": '""',
        "appendonly": "yes",
        "appendfsync": "no",
        "daemonize": "no",
        # The command line stays as it was typed, so that the process is found by it.
        "set-proc-title": "no",
    }
    configuration = directory / "valkey.conf"
    configuration.unlink(missing_ok=True)
    with open(os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name} {value}\n" for name, value in settings.items())
    command = [binaries.valkey_server(), configuration]
    return processes.spawn(command, directory, folder / "valkey.log", processes.clean_environment(TZ="UTC"))


def _quoted(path: Path) -> str:
    return f'"{path}"'
