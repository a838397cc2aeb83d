"""What the HTTP stand-ins share: a table of routes, JSON in and out, times, and a rolling limit."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

Handler = Callable[..., Response]


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(json.dumps(body), status, headers, content_type="application/json")


def refuse(body: Any, status: int, headers: Mapping[str, str] | None = None) -> HTTPException:
    """An exception to raise where a handler ends early with this JSON answer."""
    return HTTPException(response=answer(body, status, headers))


def json_object(request: Request) -> dict[str, Any]:
    """The request's body as an object; an empty body is an empty object. Raises BadRequest for anything else."""
    raw = request.get_data()
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        raise BadRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    return body


def bearer(request: Request) -> str:
    """The token of `Authorization: Bearer TOKEN`, or an empty string."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def iso(seconds: float) -> str:
    """An epoch time as ISO 8601 in UTC with milliseconds: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain_error(error: HTTPException) -> Response:
    """The answer to a request that no handler answered: `{"error": ...}`."""
    return answer({"error": error.description or error.name}, error.code or 500)


class Routes:
    """Answers requests from a table of `METHOD /path/{template}` to handlers.

    A handler is called with the request and the template's values, and returns a response or raises an HTTPException;
    `on_error` writes the body of one that carries no response of its own.
    """

    def __init__(self, table: Mapping[str, Handler], on_error: Callable[[HTTPException], Response] = plain_error) -> None:
        self._table = dict(table)
        self._on_error = on_error
        self._map = Map([_rule(name) for name in table])

    def answer(self, request: Request) -> Response:
        """Call the handler of this request."""
        try:
            name, values = self._map.bind_to_environ(request.environ).match()
            return self._table[name](request, **values)
        except HTTPException as error:
            return error.response if isinstance(error.response, Response) else self._on_error(error)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one WSGI request."""
        return self.answer(Request(environ))(environ, start_response)

    def operation(self, environ: Mapping[str, Any]) -> str:
        """The table's name for a request, or its method and path where no route matches."""
        try:
            return str(self._map.bind_to_environ(dict(environ)).match()[0])
        except HTTPException:
            return f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '/')}"


class Window:
    """At most `limit` admissions in any `seconds`; no limit when `seconds` is 0. Safe between threads."""

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.seconds = seconds
        self._clock = clock
        self._admitted: deque[float] = deque()
        self._lock = threading.Lock()

    def admit(self) -> bool:
        """Take a place, or say that there is none; a refused request takes none."""
        with self._lock:
            self._forget()
            if self.seconds and len(self._admitted) >= self.limit:
                return False
            self._admitted.append(self._clock())
            return True

    def remaining(self) -> int:
        """How many more would be admitted now."""
        with self._lock:
            self._forget()
            return self.limit - len(self._admitted)

    def wait(self) -> float:
        """Seconds until a place is free; 0 when one is."""
        with self._lock:
            self._forget()
            return self._admitted[0] + self.seconds - self._clock() if len(self._admitted) >= self.limit else 0.0

    def clear(self) -> None:
        """Forget every admission."""
        with self._lock:
            self._admitted.clear()

    def _forget(self) -> None:
        horizon = self._clock() - self.seconds
        while self._admitted and self._admitted[0] <= horizon:
            self._admitted.popleft()


def _rule(name: str) -> Rule:
    method, _, template = name.partition(" ")
    return Rule(template.replace("{", "<").replace("}", ">"), endpoint=name, methods=[method])
