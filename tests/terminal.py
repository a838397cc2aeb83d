"""The command line as a test types it: in a child of this process that has every module at hand, or in a fresh one.

A child is a fork, so that a command costs its own time and not the interpreter's, and can really be killed. It leads a session
of its own: without `typed` it has no controlling terminal.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import opsctl
from opsctl.adapters.aws import session
from opsctl.cli import app as cli
from opsctl.files import readable
from opsctl.redaction import vault
from opsctl.secret_patterns import mask_secrets

PATIENCE = 60.0
Typed = str | Mapping[str, str]
PROMPT = b": "
"""How every question ends."""
ROOT = Path(cli.__file__).parents[2]
LAZY = ("botocore.retryhandler", "h11", "httpcore", "httpx", "idna.core", "psycopg.types.json", "redis", "tabulate", "yaml")
"""What commands import only when they need it, and what takes long."""


def nothing() -> None:
    """Change nothing in the child."""


def warm() -> None:
    """Import all of opsctl that can be imported, and what it imports when it needs it, so that no child has to."""
    for module in pkgutil.walk_packages(opsctl.__path__, "opsctl."):
        if not module.name.startswith(("opsctl.sandbox", "opsctl.main")):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    for name in LAZY:
        importlib.import_module(name)
    mask_secrets("a text that holds no secret")


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code (minus the signal's number where one killed it), and what it wrote where."""

    code: int
    out: str
    err: str
    screen: str = ""

    @property
    def json(self) -> Any:
        """What it printed, decoded."""
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}\n--- terminal\n{self.screen}"


class Child:
    """A command line that runs. A person types a line of `typed` at each of its questions, and `ahead` before it starts.

    Where `typed` maps a part of a question to its answer, all other questions are answered by Enter.
    """

    def __init__(
        self, args: tuple[str, ...], stdin: bytes, env: dict[str, str], typed: Typed | None, ahead: str, before: Callable[[], None]
    ) -> None:
        self.args = args
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115
        self._files[0].write(stdin)
        self._files[0].seek(0)
        self._known = typed if isinstance(typed, Mapping) else None
        self._answers = (typed if isinstance(typed, str) else "").encode().splitlines(keepends=True)
        self._shown, self._read = b"", 0
        self._master, slave = os.openpty() if typed is not None else (-1, -1)
        if ahead:
            os.write(self._master, ahead.encode())
        self._ended, alive = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self._become(env, slave, before)
        os.close(alive)
        if slave >= 0:
            os.close(slave)

    def _become(self, env: dict[str, str], slave: int, before: Callable[[], None]) -> None:
        code = 70
        gc.freeze()
        gc.disable()
        try:
            os.setsid()
            if slave >= 0:
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for number, file in enumerate(self._files):
                os.dup2(file.fileno(), number)
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
            os.environ.clear()
            os.environ.update(env)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)
            # A fresh process knows no secret yet; this one may not hide what an earlier one read.
            vault.__init__()  # type: ignore[misc]
            session._callers.clear()
            before()
            code = cli.run(list(self.args))
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)

    def wait(self, patience: float = PATIENCE) -> Result:
        """Wait for its end; one that takes too long is killed, and fails the test."""
        deadline = time.monotonic() + patience
        try:
            while self._ended not in (ready := self._ready(deadline)):
                if not ready:
                    told = f"{self._said(2)}\n{self._shown.decode(errors='replace')}"
                    raise AssertionError(f"{' '.join(self.args)} runs for more than {patience:.0f} s\n{told}")
                self._converse()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            os.close(self._ended)
        screen = self._terminal()
        return Result(os.waitstatus_to_exitcode(status), self._said(1), self._said(2), screen)

    def _ready(self, deadline: float) -> list[int]:
        return readable([file for file in (self._ended, self._master) if file >= 0], deadline - time.monotonic())

    def _converse(self) -> None:
        """Read what is on the terminal, and answer a question once it stands there whole."""
        self._shown += os.read(self._master, 65_536)
        asked = self._shown[self._read :]
        if (self._answers or self._known is not None) and asked.endswith(PROMPT):
            self._read = len(self._shown)
            os.write(self._master, self._answers.pop(0) if self._answers else self._answer(asked.decode(errors="replace")))

    def _answer(self, question: str) -> bytes:
        found = next((answer for part, answer in (self._known or {}).items() if part in question), "")
        return f"{found}\n".encode()

    def kill(self) -> Result:
        """`kill -9`."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def _said(self, number: int) -> str:
        self._files[number].seek(0)
        return self._files[number].read().decode()

    def _terminal(self) -> str:
        if self._master < 0:
            return ""
        said = self._shown
        with contextlib.suppress(OSError):
            while readable([self._master]) and (piece := os.read(self._master, 65_536)):
                said += piece
        os.close(self._master)
        return said.decode(errors="replace")


class Terminal:
    """Types command lines. What a test sets in its environment counts, and `env` on top of it."""

    def __call__(self, *args: str, check: int | None = None, **how: Any) -> Result:
        """Run one to its end; with `check`, it has to leave with that exit code."""
        result = self.start(*args, **how).wait()
        assert check is None or result.code == check, f"opsctl {' '.join(args)}: expected exit {check}\n{result}"
        return result

    def start(
        self,
        *args: str,
        input: str | bytes | None = None,
        env: dict[str, str] | None = None,
        typed: Typed | None = None,
        ahead: str = "",
        before: Callable[[], None] = nothing,
    ) -> Child:
        """Begin one. `before` runs in the child first, and may change anything there."""
        stdin = input.encode() if isinstance(input, str) else input or b""
        return Child(args, stdin, {**os.environ, **(env or {})}, typed, ahead, before)

    def process(self, *args: str, input: str | None = None, env: dict[str, str] | None = None) -> Result:
        """Run one in a fresh interpreter, as a shell does."""
        told = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        command = [sys.executable, "-m", "opsctl.main", *args]
        done = subprocess.run(
            command, input=input or "", capture_output=True, text=True, env=told, timeout=PATIENCE, start_new_session=True
        )
        return Result(done.returncode, done.stdout, done.stderr)


def until(so: Callable[[], Any], patience: float = 20.0) -> None:
    """Wait until something is so; fails the test when it doesn't come true."""
    deadline = time.monotonic() + patience
    while not so():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
