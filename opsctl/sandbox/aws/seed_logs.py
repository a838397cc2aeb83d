"""Believable log lines: the API's, and those of the three functions that gate a download."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from opsctl.sandbox.aws.names import HH_REGION, REGION

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
        yield region, group, [(start + int(step * number), json.dumps(line(draw))) for number in range(count)]


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


def _contact(draw: random.Random) -> dict[str, Any]:
    number = draw.randint(1, 200)
    return {"contactId": str(1000 + number), "email": f"customer{number}@example.com"}


def _webhook(draw: random.Random) -> dict[str, Any]:
    kind = draw.choices(["token_minted", "signature_ok", "webhook_error"], [40, 55, 5])[0]
    return {"type": kind, **_contact(draw), "propertyName": "request_pairing_token"}


def _lease(draw: random.Random) -> dict[str, Any]:
    kind = draw.choices(["lease_ok", "lease_denied", "lease_error"], [70, 22, 8])[0]
    if kind == "lease_ok":
        return {"type": kind, "reason": "enabled", **_contact(draw)}
    if kind == "lease_denied":
        return {"type": kind, "reason": draw.choice(["download_disabled", "bad_token", "expired"]), **_contact(draw)}
    return {"type": kind, "where": draw.choice(["hubspot", "secrets"]), "detail": "timeout after 3000 ms"}


def _authorizer(draw: random.Random) -> dict[str, Any]:
    return {"type": draw.choices(["edge_allow", "edge_deny"], [90, 10])[0], "ip": f"203.0.113.{draw.randint(1, 254)}"}
