"""Believable log lines: the API's, and those of the three functions that gate a download."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from opsctl.sandbox.aws.names import HH_REGION, REGION
from opsctl.sandbox.hubspot_contacts import FIRST, SEEDED

Line = tuple[int, str]
HOURS = 3
_ROUTES = ("/health", "/v1/auth/login", "/v1/auth/refresh", "/v1/profile", "/v1/networks", "/v1/auth/check")


def groups(now: float) -> Iterator[tuple[str, str, list[Line]]]:
    """Region, group and lines (epoch milliseconds, message) of the last three hours, oldest first; the same every time."""
    draw = random.Random(20260101)  # believable lines, no secret
    kinds: list[tuple[str, str, int, Callable[[random.Random], dict[str, Any]]]] = [
        (REGION, "/ecs/safawinet-api", 600, _api),
        (HH_REGION, "/aws/lambda/hh-webhook", 150, _webhook),
        (HH_REGION, "/aws/lambda/hh-lease", 300, _lease),
        (HH_REGION, "/aws/lambda/hh-authz", 150, _authorizer),
    ]
    for region, group, count, line in kinds:
        step = HOURS * 3_600_000 / count
        start = int(now * 1000) - HOURS * 3_600_000
        yield region, group, [(start + int(step * number), json.dumps(_numbered(line(draw), draw))) for number in range(count)]


def _api(draw: random.Random) -> dict[str, Any]:
    route = draw.choice(_ROUTES)
    status = draw.choices([200, 201, 401, 429, 500], [80, 5, 10, 3, 2])[0]
    level = "ERROR" if status >= 500 else "WARN" if status >= 400 else "INFO"
    line = {
        "level": level,
        "message": "request completed" if status < 500 else "request failed",
        "path": route,
        "status": status,
        "userId": draw.randint(1, 10_000),
        "durationMs": draw.randint(3, 400),
        "ip": f"198.51.100.{draw.randint(1, 254)}",
    }
    return {**line, "event": "auth_failed"} if status == 401 else line


def _numbered(line: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    hh = str(line.get("type", "")).startswith(("lease_", "authz_"))
    return {**line, "requestId": str(uuid.UUID(int=draw.getrandbits(128), version=4))} if hh else line


def _contact(draw: random.Random) -> dict[str, Any]:
    number = draw.randint(0, SEEDED - 1)
    return {"contactId": str(FIRST + number), "email": f"contact{number}@example.com"}


def _webhook(draw: random.Random) -> dict[str, Any]:
    kind = draw.choices(["token_minted", "webhook_denied", "mint_error"], [90, 5, 5])[0]
    contact = _contact(draw)["contactId"]
    if kind == "token_minted":
        return {"type": kind, "contactId": contact, "eventId": draw.randint(10**9, 10**10), "attemptNumber": 0}
    if kind == "webhook_denied":
        return {"type": kind, "reason": "stale-timestamp"}
    return {"type": kind, "contactId": contact, "where": "hubspot", "detail": "status 503"}


def _lease(draw: random.Random) -> dict[str, Any]:
    kind = draw.choices(["lease_ok", "lease_denied", "lease_error"], [70, 22, 8])[0]
    if kind == "lease_ok":
        return {"type": kind, **_contact(draw)}
    if kind == "lease_denied":
        return {"type": kind, "reason": draw.choice(["invalid-token", "disabled"]), **_contact(draw)}
    return {"type": kind, "where": draw.choice(["hubspot", "ghcr"]), "detail": "status 503"}


def _authorizer(draw: random.Random) -> dict[str, Any]:
    allowed = draw.random() < 0.9
    reason = {} if allowed else {"reason": draw.choice(["missing-edge-auth", "wrong-edge-auth"])}
    told = {"method": "POST", "path": "/lease", "sourceIp": f"203.0.113.{draw.randint(1, 254)}"}
    return {"type": "authz_ok" if allowed else "authz_denied", **reason, **told}
