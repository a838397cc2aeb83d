"""The Safawinet API's stand-in: logins, and the calls that end them, with real effect on Postgres and Valkey.

Each request is served by the next of the service's running tasks, which signs and verifies access tokens with the
JWT_SECRET that it started with.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol, cast

import psycopg
import redis
from psycopg.conninfo import make_conninfo
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.wrappers import Request, Response

from opsctl.sandbox.safawinet_sessions import LoginRefused, OpenedSession, SessionDatabase, SessionStore
from opsctl.sandbox.services import SandboxContext, SandboxService
from opsctl.sandbox.tokens import ACCESS_TTL, AccessToken, TokenRefused, access_token, verify
from opsctl.sandbox.web import Handler, Routes, answer, bearer, iso, json_object, refuse

CLUSTER = "safawinet-prod"
SERVICE = "safawinet-api-prod"
LOG_GROUP = "/ecs/safawinet-api"
KEPT_LINES = 1_000
REPLAY_LIFETIME = 3_600
CLAIM_LIFETIME = 30
"""Seconds after which a key may be used again, although the request that claimed it never answered."""


class RunningTask(Protocol):
    """A running task of ECS."""

    id: str
    environment: dict[str, str]


class RunsTasks(Protocol):
    """What the API needs of the AWS service."""

    def running_tasks(self, cluster: str, service: str) -> Sequence[RunningTask]:
        """The tasks of a service that run now."""
        ...


class FakeSafawinet:
    """The API of a sandbox. `lines` holds the newest log lines, oldest first."""

    name = "api"

    def __init__(self, world: SandboxContext) -> None:
        self._world = world
        self._database = SessionDatabase(lambda: _conninfo(world))
        self._turn = itertools.count()
        self._lock = threading.Lock()
        self._announced: list[dict[str, str]] = []
        self.lines: deque[dict[str, Any]] = deque(maxlen=KEPT_LINES)
        self.controls: dict[str, Handler] = {"GET /announcements": self._announced_so_far}
        self._routes = Routes(
            {
                "GET /health": self._health,
                "POST /v1/auth/login": self._login,
                "POST /v1/auth/refresh": self._refresh,
                "GET /v1/auth/me": self._me,
                "POST /v1/auth/logout": self._logout,
                "POST /v1/auth/force-logout": self._force_logout,
                "POST /v1/auth/force-logout-all": self._force_logout_all,
                "POST /v1/notifications/maintenance": self._announce,
                "GET /v1/notifications/maintenance": self._announcements,
            }
        )

    # Properties, since the stores' addresses and passwords are known only after the services are built.
    @cached_property
    def _cache(self) -> redis.Redis:
        facts = self._world.facts
        # Once more at once, for a connection that a restart has closed: redis-py's own pauses would delay each 503 by seconds.
        again = Retry(NoBackoff(), retries=1)
        host, port = facts["redis_host"], int(facts["redis_port"])
        return redis.Redis(host=host, port=port, password=facts["redis_password"], socket_timeout=5, retry=again)

    @cached_property
    def _sessions(self) -> SessionStore:
        return SessionStore(self._database, self._cache)

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request by the next running task; 503 where none runs or a store doesn't answer."""
        began = time.monotonic()
        request = Request(environ)
        task = self._next_task()
        if task is None:
            response = answer({"error": "no-running-task"}, 503)
        else:
            environ["safawinet.key"] = task.environment["JWT_SECRET"]
            response = self._answer(request)
        self._log(request, response, task.id if task else "", time.monotonic() - began)
        return response(environ, start_response)

    def operation(self, environ: Mapping[str, Any]) -> str:
        """`POST /v1/auth/login`."""
        return self._routes.operation(environ)

    def reset(self) -> None:
        """Clear announcements and log lines. Users, sessions and revocations are restored with their stores."""
        self._database.close()
        with self._lock:
            self._announced.clear()
            self.lines.clear()

    def _next_task(self) -> RunningTask | None:
        tasks = cast(RunsTasks, self._world.parts["aws"]).running_tasks(CLUSTER, SERVICE)
        return tasks[next(self._turn) % len(tasks)] if tasks else None

    def _answer(self, request: Request) -> Response:
        try:
            return self._routes.answer(request)
        except LoginRefused as refused:
            return answer({"error": refused.reason}, refused.status)
        except psycopg.OperationalError:
            return answer({"error": "database-unavailable"}, 503)
        except (redis.ConnectionError, redis.TimeoutError):
            return answer({"error": "cache-unavailable"}, 503)

    def _log(self, request: Request, response: Response, task: str, seconds: float) -> None:
        line = {
            "timestamp": iso(self._world.clock()),
            "level": "info" if response.status_code < 500 else "error",
            "event": "request",
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "task": task,
            "user_id": request.environ.get("safawinet.user"),
            "duration_ms": round(seconds * 1000, 1),
        }
        self.lines.append(line)
        log = getattr(self._world.parts["aws"], "log", None)
        if log is not None:
            log(LOG_GROUP, line)

    def _now(self) -> int:
        return int(self._world.clock() * 1000)

    def _health(self, _: Request) -> Response:
        self._sessions.healthy()
        return answer({"status": "ok"})

    def _login(self, request: Request) -> Response:
        email, password = _texts(request, "email", "password")
        return self._tokens(request, self._sessions.login(email, password))

    def _refresh(self, request: Request) -> Response:
        (token,) = _texts(request, "refreshToken")
        return self._tokens(request, self._sessions.refresh(token))

    def _tokens(self, request: Request, opened: OpenedSession) -> Response:
        access = AccessToken(opened.user_id, opened.role, opened.session_id, self._now())
        request.environ["safawinet.user"] = opened.user_id
        return answer(
            {
                "accessToken": access_token(access, request.environ["safawinet.key"]),
                "refreshToken": opened.refresh_token,
                "expiresIn": ACCESS_TTL,
                "userId": str(opened.user_id),
                "role": opened.role,
            }
        )

    def _me(self, request: Request) -> Response:
        access = self._access(request)
        email = self._sessions.email(access.user_id)
        if email is None:
            raise refuse({"error": "unknown-user"}, 401)
        return answer({"userId": str(access.user_id), "email": email, "role": access.role})

    def _logout(self, request: Request) -> Response:
        token = json_object(request).get("refreshToken")
        if isinstance(token, str):
            return answer({"ended": self._sessions.end_by_token(token)})
        return answer({"ended": self._sessions.end(self._access(request).session_id)})

    def _force_logout(self, request: Request) -> Response:
        user = str(json_object(request).get("userId", ""))

        def effect() -> dict[str, Any]:
            if not user.isdecimal() or self._sessions.email(int(user)) is None:
                raise refuse({"error": "unknown-user"}, 404)
            now = self._now()
            return {"revoked": self._sessions.revoke_user(int(user), now), "at": iso(now / 1000)}

        return self._once(request, effect)

    def _force_logout_all(self, request: Request) -> Response:
        def effect() -> dict[str, Any]:
            now = self._now()
            return {"revoked": self._sessions.revoke_all(now), "at": iso(now / 1000)}

        return self._once(request, effect)

    def _announce(self, request: Request) -> Response:
        self._admin(request)
        message, duration = _texts(request, "message", "duration")
        at = json_object(request).get("at")
        announcement = {"message": message, "duration": duration, "at": _timestamp(at) if at else iso(self._world.clock())}
        with self._lock:
            self._announced.append(announcement)
        return answer(announcement)

    def _announcements(self, request: Request) -> Response:
        self._admin(request)
        return self._announced_so_far(request)

    def _announced_so_far(self, _: Request) -> Response:
        with self._lock:
            return answer({"announcements": list(self._announced)})

    def _signed(self, request: Request) -> AccessToken:
        token = bearer(request)
        if not token:
            raise refuse({"error": "missing-token"}, 401)
        try:
            access = verify(token, request.environ["safawinet.key"], self._world.clock())
        except TokenRefused as refused:
            raise refuse({"error": refused.reason}, 401) from None
        request.environ["safawinet.user"] = access.user_id
        return access

    def _access(self, request: Request) -> AccessToken:
        access = self._signed(request)
        if self._sessions.revoked(access):
            raise refuse({"error": "revoked-token"}, 401)
        return access

    def _admin(self, request: Request) -> AccessToken:
        access = self._access(request)
        if access.role != "admin":
            raise refuse({"error": "admin-only"}, 403)
        return access

    def _once(self, request: Request, effect: Callable[[], dict[str, Any]]) -> Response:
        """Run an administrator's effect, or answer what it answered under the same Idempotency-Key.

        The first effect may have revoked the very token that asks again, so an answer is given again to that user
        before the marks are looked at.
        """
        key = request.headers.get("Idempotency-Key")
        if key is None:
            self._admin(request)
            return answer(effect())
        place = f"idempotency:{key}"
        asked = _fingerprint(request, self._signed(request).user_id)
        kept = self._cache.get(place)
        if kept is None:
            self._admin(request)
            if self._cache.set(place, json.dumps({"asked": asked}), nx=True, ex=CLAIM_LIFETIME):
                return answer(self._first(place, asked, effect))
            kept = self._cache.get(place)
        before = json.loads(cast(bytes, kept or b"{}"))
        if "answer" in before and before["asked"] == asked:
            return answer(before["answer"])
        if before.get("asked", asked) != asked:
            raise refuse({"error": "idempotency-key-reused"}, 422)
        raise refuse({"error": "in-progress"}, 409, {"Retry-After": "1"})

    def _first(self, place: str, asked: str, effect: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            body = effect()
        except BaseException:
            self._cache.delete(place)
            raise
        self._cache.set(place, json.dumps({"asked": asked, "answer": body}), ex=REPLAY_LIFETIME)
        return body


def build(world: SandboxContext) -> SandboxService:
    """The API's part; the stores are connected to at the first request."""
    return FakeSafawinet(world)


def _conninfo(world: SandboxContext) -> str:
    facts = world.facts
    return make_conninfo(
        host=facts["pg_host"],
        port=facts["pg_port"],
        dbname=facts["database"],
        user=facts["pg_user"],
        password=facts["pg_password"],
        application_name="safawinet-api",
        connect_timeout="5",
    )


def _texts(request: Request, *names: str) -> list[str]:
    body = json_object(request)
    missing = [name for name in names if not isinstance(body.get(name), str) or not body[name]]
    if missing:
        raise refuse({"error": f"missing: {', '.join(missing)}"}, 400)
    return [body[name] for name in names]


def _timestamp(at: object) -> str:
    try:
        return iso(datetime.fromisoformat(str(at)).timestamp())
    except ValueError:
        raise refuse({"error": "at is no ISO 8601 moment"}, 400) from None


def _fingerprint(request: Request, user_id: int) -> str:
    asked = f"{user_id} {request.path} {json.dumps(json_object(request), sort_keys=True)}"
    return hashlib.sha256(asked.encode()).hexdigest()
