"""HH's lease endpoint, which trades a pairing token for a download (HH runbook, HTTP Response Codes)."""

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
"""What API Gateway answers with 403 where an authorizer's policy denies."""

REASON = 200
"""Characters of a refusal's reason that are kept."""

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
    """The configured endpoint. A lease that is granted is an effect, so that only a writing adapter asks with a token."""

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
        """Whether the authorizer lets this X-Edge-Auth pass; asked without a token, so that no lease can be granted."""
        answer = self._http.ask("GET", self._path, headers={HEADER: edge_auth.reveal()}, accept=ANY_STATUS)
        return not LeaseAnswer(answer.status_code, _reason(answer)).at_gateway

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()


def _request(answer: httpx.Response) -> str:
    """What a log filter may quote: letters, digits, and what base64 and UUIDs have besides."""
    found = answer.headers.get(REQUEST, "")
    return found if re.fullmatch(r"[\w=+/-]{8,64}", found) else ""


def _reason(answer: httpx.Response) -> str:
    try:
        found = decoded(answer.content, dict[str, Any])
    except Unreadable:
        return ""
    message = found.get("error") or found.get("message")
    return clean_sentence(message, REASON)[:-1] if message else ""
