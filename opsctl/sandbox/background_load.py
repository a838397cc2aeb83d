"""Calls between the sandbox's services: over the port, where faults apply, or directly when nothing listens."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from werkzeug.test import Client

from opsctl.sandbox.services import SandboxContext

TIMEOUT = 5.0
"""Timeout in seconds, HubSpot's for a webhook."""


class NoAnswer(Exception):
    """Raised when a service does not answer in time."""


class Reply(NamedTuple):
    """A service's answer."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; empty for anything else."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


def base(world: SandboxContext, part: str) -> str:
    """The address of a service, without a trailing slash."""
    return f"http://127.0.0.1:{world.ports[part]}" if part in world.ports else "http://localhost"


def ask(
    world: SandboxContext,
    part: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    query: Mapping[str, str] | None = None,
) -> Reply:
    """Call another service. Raises NoAnswer."""
    target = f"{path}?{urlencode(query)}" if query else path
    if part in world.ports:
        return _over_the_port(world.ports[part], method, target, headers, body)
    if part not in world.parts:
        raise NoAnswer(f"this world has no {part}")
    response = Client(world.parts[part].app).open(target, method=method, headers=dict(headers), data=body)
    return Reply(response.status_code, response.get_data())


def _over_the_port(port: int, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, target, body or None, dict(headers))
        response = connection.getresponse()
        return Reply(response.status, response.read())
    except (OSError, http.client.HTTPException) as cause:
        raise NoAnswer(f"no answer: {type(cause).__name__}") from cause
    finally:
        connection.close()
