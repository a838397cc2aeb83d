from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from folders import short_folder

from opsctl import config
from opsctl.adapters.host.secret_sources import SecretSources
from opsctl.errors import InputRequired
from opsctl.redaction import Secret
from opsctl.sandbox import lifecycle
from opsctl.systems import Systems

CONFIG = Path(config.__file__).parents[1] / "config"


class Person:
    """Answers with `answer`, or isn't there."""

    answer: str | None = None

    def secret(self, question: str, otherwise: str = "") -> Secret:
        if self.answer is None:
            raise InputRequired(question, otherwise)
        return Secret(self.answer)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    # A short path: a unix socket's has 107 bytes at most.
    place = short_folder()
    try:
        lifecycle.up(place, tempo=0.0, users=200, sessions=1_000)
        yield place
    finally:
        lifecycle.down(place)
        shutil.rmtree(place)


@pytest.fixture
def world(folder: Path) -> Iterator[dict[str, str]]:
    """A running sandbox with few rows; what a test changed in it is put back after it."""
    yield lifecycle.up(folder)
    lifecycle.clear_faults(folder)
    lifecycle.reset(folder)


@pytest.fixture
def person() -> Person:
    return Person()


Make = Callable[..., Systems]


@pytest.fixture
def systems(folder: Path, world: dict[str, str], person: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """Makes the systems of the sandbox, writing or reading; text of the configuration may be replaced, or added at its end."""
    monkeypatch.setenv("OPSCTL_SANDBOX", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))

    def make(*, writing: bool, replace: dict[str, str] | None = None, add: str = "") -> Systems:
        text = (CONFIG / "sandbox.toml").read_text()
        for old, new in (replace or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "sandbox.toml").write_text(f"{text}\n{add}")
        environment = config.load("sandbox", str(tmp_path))
        return Systems(environment, writing=writing, person=person, values=SecretSources(), history=None, fingerprint=None)  # type: ignore[arg-type]

    return make


class Server(ThreadingHTTPServer):
    """Answers each request by the next of `answers` (status, headers, body), the last one for ever; None hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str], str] | None] = [(200, {}, "{}")]
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.base = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            self.close_connection = True
            return
        status, headers, text = answer
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()
