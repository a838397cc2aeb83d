"""HH's lease endpoint, which exchanges a pairing token for a download (HH runbook, HTTP Response Codes)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.http.answers import Unreadable, decoded
from opsctl.adapters.http.client import Http
from opsctl.redaction import clean_sentence

if TYPE_CHECKING:
    import httpx

    from opsctl.adapters.access import Access
    from opsctl.redaction import Secret
    from opsctl.settings import LeaseSettings

HEADER = "X-Edge-Auth"
REQUEST = "apigw-requestid"
"""API Gateway's name for a request, which the functions behind it may log (API Gateway, "HTTP API access logging variables")."""
GATEWAY = "Forbidden"
"""API Gateway's 403 body when an authorizer denies."""

REASON = 200
"""Maximum length of a refusal's reason."""

ANY_STATUS = range(300, 600)


class LeaseAnswer(Struct, frozen=True):
    """The endpoint's status, the reason that a refusal gives (`invalid-token`, `disabled`...), and the gateway's name for the request."""

    status: int
    reason: str = ""
    request: str = ""

    @property
    def at_gateway(self) -> bool:
        """Whether the request was refused before it came to the function."""
        return self.status == 401 or (self.status == 403 and self.reason == GATEWAY)


class LeaseEndpoint(Adapter):
    """The configured endpoint. A granted lease is a write, so only a writing adapter sends a token."""

    def __init__(self, access: Access, settings: LeaseSettings) -> None:
        super().__init__(writing=access.writing)
        parts = urlsplit(settings.url)
        self._path = parts.path or "/"
        self._http = Http(f"{parts.scheme}://{parts.netloc}", access, system="the lease endpoint", ca=settings.ca)

    @writes
    def take(self, token: Secret, edge_auth: Secret) -> LeaseAnswer:
        """Ask for a lease with a pairing token; every status is an answer."""
        headers = {HEADER: edge_auth.reveal(), "Authorization": f"Bearer {token.reveal()}"}
        answer = self._http.ask("POST", self._path, json={}, headers=headers, accept=ANY_STATUS)
        return LeaseAnswer(answer.status_code, "" if answer.is_success else _reason(answer), _request(answer))

    def authorized(self, edge_auth: Secret) -> bool:
        """Whether the authorizer accepts this X-Edge-Auth; sent without a token, so that no lease is granted."""
        answer = self._http.ask("GET", self._path, headers={HEADER: edge_auth.reveal()}, accept=ANY_STATUS)
        return not LeaseAnswer(answer.status_code, _reason(answer)).at_gateway

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _request(answer: httpx.Response) -> str:
    """Characters that a log filter may contain: those of base64 and UUIDs."""
    found = answer.headers.get(REQUEST, "")
    return found if re.fullmatch(r"[\w=+/-]{8,64}", found) else ""


def _reason(answer: httpx.Response) -> str:
    try:
        found = decoded(answer.content, dict[str, Any])
    except Unreadable:
        return ""
    message = found.get("error") or found.get("message")
    return clean_sentence(message, REASON)[:-1] if message else ""
