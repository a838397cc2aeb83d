"""The HH stand-in: the webhook that mints pairing tokens and the lease endpoint that exchanges one for a download.

As the real Lambdas do, it calls HubSpot's and GHCR's APIs, so that their limits, errors and faults apply; it reads its secrets
from Secrets Manager if the AWS service offers `secret`, otherwise from the sandbox's facts.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from opsctl.sandbox.hh_functions import WEBHOOK, FunctionFailed, HhFunctions
from opsctl.sandbox.hh_leases import LeaseFunction
from opsctl.sandbox.hubspot_signatures import signature_v3
from opsctl.sandbox.services import SandboxContext, SandboxService
from opsctl.sandbox.web import Handler, Routes, answer

EVENTS = 100
SIGNATURE_AGE = 300
"""Seconds after which a signed request is refused."""
KEPT_EVENTS = 10_000


class FakeHh:
    """The HH service."""

    name = "hh"

    def __init__(self, world: SandboxContext) -> None:
        self._world = world
        self._functions = HhFunctions(world)
        self._leases = LeaseFunction(self._functions)
        self._lock = threading.Lock()
        self._seen: deque[str] = deque(maxlen=KEPT_EVENTS)
        self.controls: dict[str, Handler] = {"GET /leases": lambda request: answer(self._leases.granted())}
        lease = self._leases.answer
        self._routes = Routes({"POST /webhook": self._webhook, "GET /lease": lease, "POST /lease": lease})

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        return self._routes(environ, start_response)

    def operation(self, environ: Mapping[str, Any]) -> str:
        """`POST /webhook`."""
        return self._routes.operation(environ)

    def reset(self) -> None:
        """Forget handled events, granted leases and cached secrets."""
        with self._lock:
            self._seen.clear()
        self._functions.reset()
        self._leases.reset()

    def failed(self, operation: str, status: int) -> None:
        """Log a failure caused by a fault, as the function would."""
        broken = FunctionFailed("hubspot" if status == 502 else "handler", f"status {status}", status)
        if operation.endswith("/webhook"):
            self._mint_error("", broken)
        else:
            self._leases.broken(str(uuid.uuid4()), broken)

    def _webhook(self, request: Request) -> Response:
        try:
            reason = self._unsigned(request)
        except FunctionFailed as broken:
            self._mint_error("", broken)
            return answer({"error": "internal-error"}, broken.status)
        if reason:
            self._functions.log(WEBHOOK, {"type": "webhook_denied", "reason": reason})
            return answer({"error": "invalid-signature"}, 401)
        events = _events(request)
        if events is None:
            return answer({"error": "invalid-body"}, 400)
        try:
            return answer({"minted": sum(self._handle(event) for event in events)})
        except FunctionFailed as broken:
            return answer({"error": "hubspot-error" if broken.status == 502 else "internal-error"}, broken.status)

    def _unsigned(self, request: Request) -> str:
        """The reason why a request is not from HubSpot; empty if it is."""
        secret = self._functions.secret(WEBHOOK, "/hh/prod/hubspot/app_secret", "secret")
        stamp = request.headers.get("X-HubSpot-Request-Timestamp", "")
        given = request.headers.get("X-HubSpot-Signature-v3", "")
        if not stamp.isdecimal() or not given:
            return "missing-signature"
        if abs(self._world.clock() - int(stamp) / 1000) > SIGNATURE_AGE:
            return "stale-timestamp"
        expected = signature_v3(secret, request.method, _uri(request), request.get_data(), stamp)
        return "" if hmac.compare_digest(expected.encode(), given.encode()) else "wrong-signature"

    def _handle(self, event: Any) -> bool:
        if not _asks_for_token(event):
            return False
        # An event may be sent twice, and its id alone is not unique.
        name = f"{event.get('eventId')} {event['objectId']} {event.get('occurredAt')}"
        with self._lock:
            if name in self._seen:
                return False
            self._seen.append(name)
        contact = str(event["objectId"])
        try:
            return self._mint(contact, event)
        except FunctionFailed as broken:
            with self._lock:
                self._seen.remove(name)
            self._mint_error(contact, broken)
            raise

    def _mint(self, contact: str, event: Mapping[str, Any]) -> bool:
        token = f"{contact}-{secrets.token_hex(16)}"
        body = json.dumps({"properties": {"download_token": token}}).encode()
        if self._functions.hubspot(WEBHOOK, "PATCH", contact, body=body) is None:
            # A retry by HubSpot would fail again.
            self._mint_error(contact, FunctionFailed("hubspot", "status 404 OBJECT_NOT_FOUND", 200))
            return False
        self._functions.log(WEBHOOK, f"minted_token {contact} {token}")
        told = {"contactId": contact, "eventId": event.get("eventId"), "attemptNumber": event.get("attemptNumber", 0)}
        self._functions.log(WEBHOOK, {"type": "token_minted", **told})
        return True

    def _mint_error(self, contact: str, broken: FunctionFailed) -> None:
        told = {"contactId": contact, "where": broken.where, "detail": broken.detail}
        self._functions.log(WEBHOOK, {"type": "mint_error", **told})


def build(world: SandboxContext) -> SandboxService:
    """HH's part; it asks the `hubspot` and `ghcr` parts of the same world."""
    return FakeHh(world)


def _events(request: Request) -> list[Any] | None:
    try:
        events = json.loads(request.get_data())
    except ValueError:
        return None
    return events if isinstance(events, list) and len(events) <= EVENTS else None


def _uri(request: Request) -> str:
    query = request.environ.get("QUERY_STRING", "")
    return f"{request.host_url.rstrip('/')}{request.path}" + (f"?{query}" if query else "")


def _asks_for_token(event: Any) -> bool:
    return (
        isinstance(event, dict)
        and "objectId" in event
        and event.get("subscriptionType") == "contact.propertyChange"
        and event.get("propertyName") == "download_requested"
        and event.get("propertyValue") == "true"
    )
