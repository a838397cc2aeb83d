"""A login process that logs out when opsctl ends, even if opsctl is killed.

It is called over pipes, one JSON object per line, so that no token is written anywhere.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from opsctl import errors
from opsctl.adapters.access import Access
from opsctl.adapters.http.answers import Unreadable, decoded
from opsctl.adapters.http.client import Http
from opsctl.errors import ConfigurationError, ExternalError, OpsctlError
from opsctl.files import readable
from opsctl.redaction import Secret
from opsctl.retry import Policy, TryAgain, retry
from opsctl.settings import ApiSettings, Reference

LOGIN, REFRESH, LOGOUT = "/v1/auth/login", "/v1/auth/refresh", "/v1/auth/logout"
PATIENCE = 90.0
"""Seconds to wait for an answer, longer than any request takes."""
LEAVING = Policy(tries=5, deadline=PATIENCE, first=2.0, longest=2.0)
"""The retry policy for the final logout."""


def api_client(settings: ApiSettings, access: Access, reading_posts: Collection[str] = ()) -> Http:
    """The HTTP client of the configured API."""
    login = f"Store a new token in {settings.token}, or add [api.login]."
    return Http(settings.base, access, system="the API", ca=settings.ca, login=login, reading_posts=reading_posts)


class LoginProcess(Struct, frozen=True):
    """What the login process is started with: settings only, no credential."""

    settings: ApiSettings
    sandbox: bool
    proxy: str | None

    def client(self) -> Http:
        """A client that can log in, log out and read."""
        access = Access(False, self.sandbox, _no_credential, self.proxy)
        return api_client(self.settings, access, (LOGIN, REFRESH, LOGOUT))


def _no_credential(reference: Reference) -> Secret:
    raise ConfigurationError(f"The login process may not read credentials: {reference} was not read.")


class LoginRequest(Struct, frozen=True):
    """A request: `token` is the access token that it is sent with."""

    path: str
    body: dict[str, Any]
    token: str | None = None


class LoginResponse(Struct, frozen=True):
    """The answer's status and body, or the error that came instead, with the API's own code and words."""

    status: int = 0
    content: bytes = b""
    error: str = ""
    what: str = ""
    next: str = ""
    code: str = ""
    words: str = ""


class LoginStarted(Struct, frozen=True, rename="camel"):
    """The part of a login's answer that the logout needs."""

    access_token: str


class Logins:
    """Logs in and out in a separate process, started on first use."""

    def __init__(self, settings: ApiSettings, access: Access) -> None:
        self._process = LoginProcess(settings, access.sandbox, access.proxy)
        self._mutex = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, path: str, body: dict[str, Any], token: str | None = None) -> LoginResponse:
        """Send one request; raises the error of that process, ExternalError when it doesn't answer."""
        with self._mutex:
            try:
                answer = msgspec.json.decode(self._exchange(LoginRequest(path, body, token)), type=LoginResponse)
            except (OSError, msgspec.DecodeError) as cause:
                problem = "The process that tests the login to the API did not answer; a session may be left."
                raise ExternalError(problem, "Run the same line again.") from cause
        if answer.error:
            kind: type[OpsctlError] = getattr(errors, answer.error, ExternalError)
            if issubclass(kind, ExternalError):
                raise kind(answer.what, answer.next, code=answer.code, words=answer.words)
            raise kind(answer.what, answer.next)
        return answer

    def _exchange(self, asked: LoginRequest) -> bytes:
        child = self._child = self._child or self._started()
        assert child.stdin
        assert child.stdout
        child.stdin.write(msgspec.json.encode(asked) + b"\n")
        child.stdin.flush()
        if not readable([child.stdout], PATIENCE):
            raise TimeoutError
        return child.stdout.readline()

    def _started(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "opsctl.adapters.http.logins"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert child.stdin
        child.stdin.write(msgspec.json.encode(self._process) + b"\n")
        return child

    def close(self) -> None:
        """Log out the remaining sessions and wait for it."""
        if self._child is not None and self._child.stdin and self._child.stdout:
            with contextlib.suppress(OSError):
                self._child.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(PATIENCE)
            self._child.stdout.close()


def _serve() -> None:
    """Answer requests until the pipe closes, then log out the remaining sessions."""
    process = msgspec.json.decode(sys.stdin.buffer.readline(), type=LoginProcess)
    http, left = process.client(), dict[str, None]()
    while line := sys.stdin.buffer.readline():
        answer = _handle(http, msgspec.json.decode(line, type=LoginRequest), left)
        with contextlib.suppress(OSError):
            sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
            sys.stdout.buffer.flush()
    for token in list(left):
        with contextlib.suppress(ExternalError):
            retry(partial(_log_out, http, token, left), LEAVING)


def _log_out(http: Http, token: str, left: dict[str, None]) -> None:
    if error := _handle(http, LoginRequest(LOGOUT, {}, token), left).what:
        raise TryAgain(ExternalError(error))


def _handle(http: Http, asked: LoginRequest, left: dict[str, None]) -> LoginResponse:
    # Registered as secrets, so that no error repeats them.
    for value in (*asked.body.values(), asked.token):
        if value:
            Secret(str(value))
    headers = {"Authorization": f"Bearer {asked.token}"} if asked.token else {}
    try:
        answer = http.ask("POST", asked.path, json=asked.body, headers=headers, accept=(401,))
    except OpsctlError as cause:
        code, words = (cause.code, cause.words) if isinstance(cause, ExternalError) else ("", "")
        return LoginResponse(error=type(cause).__name__, what=cause.what, next=str(cause.next), code=code, words=words)
    if asked.path == LOGOUT:
        left.pop(asked.token or "", None)
    elif answer.status_code != 401:
        with contextlib.suppress(Unreadable):
            left[decoded(answer.content, LoginStarted).access_token] = None
    return LoginResponse(answer.status_code, answer.content)


if __name__ == "__main__":
    # It outlives opsctl until the logouts are done.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _serve()
