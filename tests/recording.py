"""Records what a command asks of the outside world: each AWS operation, SQL statement, Redis command and HTTP request.

A child records; each call is one line of a file, with the part of the command that made it: `plan`, or `check` or `apply` of a kind.
"""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

_here = threading.local()


class Call(NamedTuple):
    """One call: `part` of the command made it in `phase`, to `system`, as `who`; `what` is the operation and `more` its arguments."""

    phase: str
    part: str
    system: str
    who: str
    what: str
    more: Any


def recorded(path: Path) -> Iterator[Call]:
    """The calls of a file."""
    if path.exists():
        for line in path.read_text().splitlines():
            yield Call(*json.loads(line))


def recording(path: Path) -> Callable[[], None]:
    """What makes a child write each of its calls to `path`."""

    def arm() -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def note(system: str, who: str, what: str, more: Any = None) -> None:
            phase, part = getattr(_here, "at", ("plan", ""))
            os.write(file, f"{json.dumps([phase, part, system, who, what, more], default=str)}\n".encode())

        _kinds()
        _threads()
        _aws(note)
        _postgres(note)
        _redis(note)
        _http(note)

    return arm


def _kinds() -> None:
    from opsctl.changes import all_kinds

    for kind in all_kinds():
        for phase in ("check", "apply"):
            setattr(kind, phase, _within(phase, kind.__struct_config__.tag, getattr(kind, phase)))


def _within(phase: str, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def inside(*args: Any, **how: Any) -> Any:
        before = getattr(_here, "at", ("plan", ""))
        _here.at = (phase, part)
        try:
            return method(*args, **how)
        finally:
            _here.at = before

    return inside


def _threads() -> None:
    """A thread, and what a pool is given, belong to the part that began them."""
    run, submit = threading.Thread.run, ThreadPoolExecutor.submit
    start = threading.Thread.start

    def started(self: threading.Thread) -> None:
        self.at = getattr(_here, "at", ("plan", ""))  # type: ignore[attr-defined]
        start(self)

    def ran(self: threading.Thread) -> None:
        _here.at = self.at  # type: ignore[attr-defined]
        run(self)

    def submitted(self: Any, function: Callable[..., Any], /, *args: Any, **how: Any) -> Any:
        return submit(self, _within(*getattr(_here, "at", ("plan", "")), function), *args, **how)

    threading.Thread.start, threading.Thread.run = started, ran  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submitted  # type: ignore[method-assign]


Note = Callable[..., None]


def _aws(note: Note) -> None:
    from botocore.client import BaseClient

    call = BaseClient._make_api_call

    def made(self: Any, operation: str, parameters: Any) -> Any:
        note("aws", "", f"{self.meta.service_model.service_name}:{operation}", parameters)
        return call(self, operation, parameters)

    BaseClient._make_api_call = made


def _postgres(note: Note) -> None:
    import psycopg

    execute = psycopg.Connection.execute

    def executed(self: Any, query: Any, *args: Any, **how: Any) -> Any:
        note("postgres", self.info.user, query.decode() if isinstance(query, bytes) else str(query))
        return execute(self, query, *args, **how)

    psycopg.Connection.execute = executed  # type: ignore[method-assign]


def _redis(note: Note) -> None:
    import redis

    send, pack, several = redis.Connection.send_command, redis.Connection.pack_command, redis.Connection.pack_commands

    def text(word: Any) -> str:
        return word.decode(errors="replace") if isinstance(word, bytes) else str(word)

    def noted(self: Any, command: Any) -> None:
        words = [text(word) for word in command]
        secret = words[0].upper() in ("AUTH", "HELLO")
        note("redis", type(self).__name__, words[0].upper(), [] if secret else words[1:4])

    def sent(self: Any, *command: Any, **how: Any) -> Any:
        noted(self, command)
        return send(self, *command, **how)

    def packed(self: Any, *command: Any) -> Any:
        noted(self, command)
        return pack(self, *command)

    def all_packed(self: Any, commands: Any) -> Any:
        listed = [tuple(command) for command in commands]
        for command in listed:
            noted(self, command)
        return several(self, listed)

    redis.Connection.send_command = sent  # type: ignore[method-assign]
    redis.Connection.pack_command, redis.Connection.pack_commands = packed, all_packed  # type: ignore[method-assign]


def _http(note: Note) -> None:
    import httpx

    send = httpx.Client.send

    def sent(self: Any, request: Any, **how: Any) -> Any:
        note("http", f"{request.url.scheme}://{request.url.netloc.decode()}", request.method, request.url.path)
        return send(self, request, **how)

    httpx.Client.send = sent  # type: ignore[method-assign]
