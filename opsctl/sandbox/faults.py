"""Faults on the sandbox's calls, and the middleware that applies them.

A rule names a service (`aws`, `api`, `hubspot` ...) and its operation (`ecs.UpdateService`,
`POST /v1/auth/login`), both as shell patterns. Clients that retry use up one of `times` with every attempt.
"""

from __future__ import annotations

import fnmatch
import io
import json
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from opsctl.sandbox.services import SandboxService

ACTIONS = {
    "slow": "the answer waits `seconds`",
    "fail": "500 (or `status`) before any effect",
    "throttle": "429 (or `status`), AWS: ThrottlingException, before any effect",
    "refuse": "403 (or `status`), AWS: AccessDeniedException (401: ExpiredTokenException), before any effect",
    "drop": "the connection is closed after `seconds`, before any effect",
    "timeout-after-effect": "the effect is made, then the connection is closed after `seconds` without an answer",
}
STATUS = {"fail": 500, "throttle": 429, "refuse": 403}


@dataclass(frozen=True)
class Rule:
    """One fault. `times` is the number of calls it applies to, 0 for all; `status` 0 means the action's default."""

    part: str
    operation: str
    action: str
    seconds: float = 0.0
    status: int = 0
    times: int = 1

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"There is no fault {self.action}. Known: {', '.join(ACTIONS)}")
        if self.seconds < 0 or self.times < 0 or not (self.status == 0 or 400 <= self.status <= 599):
            raise ValueError("Expected seconds and times of at least 0, and a status from 400 to 599")


class Faults:
    """The rules of one server; safe between threads."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._cleared = threading.Event()

    def add(self, rule: Rule) -> None:
        """Set a fault; the oldest that fits a call is used."""
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        """Clear all faults, and release calls that wait in one."""
        with self._lock:
            self._rules.clear()
            waited, self._cleared = self._cleared, threading.Event()
        waited.set()

    def rules(self) -> list[Rule]:
        """The faults that are set."""
        with self._lock:
            return list(self._rules)

    def concerns(self, part: str) -> bool:
        """Whether any rule may apply to a service."""
        return any(fnmatch.fnmatchcase(part, rule.part) for rule in self.rules())

    def take(self, part: str, operation: str) -> Rule | None:
        """The rule for a call, which then counts it; None when no rule fits."""
        with self._lock:
            for index, rule in enumerate(self._rules):
                fits = fnmatch.fnmatchcase(part, rule.part) and fnmatch.fnmatchcase(operation, rule.operation)
                if fits and rule.times == 1:
                    return self._rules.pop(index)
                if fits:
                    self._rules[index] = replace(rule, times=max(rule.times - 1, 0))
                    return rule
        return None

    def wait(self, seconds: float) -> None:
        """Wait, or until the faults are cleared."""
        self._cleared.wait(seconds)


class FaultyApp:
    """A service's application with its faults."""

    def __init__(self, part: SandboxService, faults: Faults) -> None:
        self._part = part
        self._faults = faults

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request, or do what its fault says."""
        if not self._faults.concerns(self._part.name):
            return self._part.app(environ, start_response)
        body = get_input_stream(environ).read()
        environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
        rule = self._faults.take(self._part.name, self._part.operation(dict(environ)))
        environ["wsgi.input"] = io.BytesIO(body)
        return self._part.app(environ, start_response) if rule is None else self._follow(rule, environ, start_response)

    def _follow(self, rule: Rule, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if rule.action in STATUS:
            self._faults.wait(rule.seconds)
            # A service that logs its failures, such as a function, is notified.
            failed = getattr(self._part, "failed", None)
            if failed is not None:
                failed(self._part.operation(dict(environ)), rule.status or STATUS[rule.action])
            return _refusal(rule, environ)(environ, start_response)
        if rule.action == "slow":
            self._faults.wait(rule.seconds)
            return self._part.app(environ, start_response)
        if rule.action == "timeout-after-effect":
            _run_to_the_end(self._part, environ)
        self._faults.wait(rule.seconds)
        connection: socket.socket = environ["werkzeug.socket"]
        connection.shutdown(socket.SHUT_RDWR)
        # The server treats this as a closed client and sends nothing.
        raise ConnectionAbortedError("a fault closed the connection")


def _run_to_the_end(part: SandboxService, environ: dict[str, Any]) -> None:
    answer = part.app(environ, lambda status, headers, error=None: lambda data: None)
    try:
        for _ in answer:
            pass
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()


def _refusal(rule: Rule, environ: dict[str, Any]) -> Response:
    status = rule.status or STATUS[rule.action]
    message = f"The sandbox was told to {rule.action} this call."
    protocol = _aws_protocol(environ) if rule.part == "aws" or "HTTP_X_AMZ_DATE" in environ else ""
    if not protocol:
        headers = {"Retry-After": "1"} if status == 429 else {}
        return Response(json.dumps({"error": rule.action, "message": message}), status, headers, content_type="application/json")
    code = _aws_code(rule.action, status)
    if protocol == "query":
        kind = "Receiver" if status >= 500 else "Sender"
        body = f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        return Response(f"{body}<RequestId>sandbox</RequestId></ErrorResponse>", status, content_type="text/xml")
    # Services with a JSON protocol use status 400 for every client error, throttling too.
    shown = 400 if protocol == "json" and rule.status == 0 and status < 500 else status
    named = {"__type": code, "message": message}
    return Response(json.dumps(named), shown, {"x-amzn-ErrorType": code}, content_type="application/x-amz-json-1.1")


def _aws_protocol(environ: dict[str, Any]) -> str:
    if "HTTP_X_AMZ_TARGET" in environ:
        return "json"
    form = str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded")
    return "query" if form else "rest"


def _aws_code(action: str, status: int) -> str:
    if action == "refuse":
        return "ExpiredTokenException" if status == 401 else "AccessDeniedException"
    return "ThrottlingException" if action == "throttle" else "InternalFailure"
