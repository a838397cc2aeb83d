"""People as the API sees them from outside: a victim who logs in, and a thief who holds what was stolen."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from world import World

ASKED = 6


def ask(base: str, operation: str, body: dict[str, str] | None = None, token: str = "") -> tuple[int, Any]:
    """One request: its status, and its answer where it was accepted."""
    method, path = operation.split()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(base + path, data, headers, method=method), timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, None


@dataclass
class Session:
    """One login, and the tokens that it was given."""

    base: str
    access: str
    refresh: str

    @classmethod
    def of(cls, world: World, user: int) -> Session:
        """Log a seeded user in; fails the test where the API doesn't let them."""
        who = {"email": f"user{user}@example.com", "password": world.facts["user_password"]}
        status, tokens = ask(world.facts["api"], "POST /v1/auth/login", who)
        assert status == 200, f"user {user} can't log in: {status}"
        return cls(world.facts["api"], tokens["accessToken"], tokens["refreshToken"])

    @property
    def opens(self) -> bool:
        """Whether any task accepts the access token."""
        return any(ask(self.base, "GET /v1/auth/me", token=self.access)[0] == 200 for _ in range(ASKED))

    def refreshed(self) -> Session | None:
        """The session's next tokens; None where the API refuses."""
        status, tokens = ask(self.base, "POST /v1/auth/refresh", {"refreshToken": self.refresh})
        return Session(self.base, tokens["accessToken"], tokens["refreshToken"]) if status == 200 else None

    @property
    def dead(self) -> bool:
        """Whether neither token is good for anything."""
        return not self.opens and self.refreshed() is None


@dataclass
class Refresher:
    """A thief who refreshes a stolen session as fast as the API lets him, until he is told to stop."""

    held: Session
    loot: list[Session] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go)
        self._thread.start()
        return self

    def _go(self) -> None:
        while not self._over.is_set():
            fresh = self.held.refreshed()
            if fresh is not None:
                self.held = fresh
                self.loot.append(fresh)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
