"""Health checks over HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opsctl.adapters.http.client import Http
from opsctl.errors import ExternalError

if TYPE_CHECKING:
    from opsctl.adapters.access import Access


@dataclass(frozen=True)
class Health:
    """The result of a health check: healthy or not, its message, and its duration."""

    ok: bool
    detail: str
    latency_ms: float


def check_url(access: Access, url: str) -> Health:
    """The result of the health check at a URL, called without credentials; raises ConfigurationError or WrongPlace for a bad URL."""
    parts = urlsplit(url)
    http = Http(f"{parts.scheme}://{parts.netloc}", access.read_only, system="the health check")
    try:
        return check_health(http, parts.path or "/")
    finally:
        http.close()


def check_health(http: Http, path: str) -> Health:
    """The result of a health check; a service that is down is a result, not an error."""
    began = time.monotonic()
    try:
        answer = http.ask("GET", path, accept=range(400, 600))
    except ExternalError as failed:
        return Health(False, failed.what, since(began))
    took = since(began)
    if not answer.is_success:
        return Health(False, f"{path} answered {answer.status_code}", took)
    return Health(True, "ok", took)


def since(began: float) -> float:
    """Milliseconds since a moment of the monotonic clock."""
    return round((time.monotonic() - began) * 1000, 1)
