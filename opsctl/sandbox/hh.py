"""The HH stand-in: the webhook that mints pairing tokens and the lease endpoint that trades one for a download.

As the real Lambdas do, it asks HubSpot's own interface for contacts, so that HubSpot's limits and refusals reach it; it
reads its secrets from Secrets Manager where the AWS part offers `secret`, else from the world's facts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from opsctl.sandbox.parts import Part, World
from opsctl.sandbox.web import Routes, answer, bearer, json_object, refuse

REGION = "us-west-2"
WEBHOOK_LOGS = "/aws/lambda/hh-webhook"
LEASE_LOGS = "/aws/lambda/hh-lease"
AUTHORIZER = "hh-authz"
EVENTS = 100
SIGNATURE_AGE = 300
"""Seconds after which a signed request is refused."""
KEPT_EVENTS = 10_000
FACTS = {
    "hs_app_secret": "sandbox-app-secret",
    "edge_shared_secret": "sandbox-edge-secret",
    "hs_token": "pat-na1-sandbox",
    "ghcr_pat": "ghp_sandbox",
}
"""The world's facts that stand for secrets, with their defaults."""

_DECODED = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


class Hh:
    """HH's part of a sandbox."""

    name = "hh"

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._seen: deque[str] = deque(maxlen=KEPT_EVENTS)
        self._routes = Routes(
            {"POST /webhook": self._webhook, "GET /lease": self._lease, "POST /lease": self._lease},
        )

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        return self._routes(environ, start_response)

    def operation(self, environ: Mapping[str, Any]) -> str:
        """`POST /webhook`."""
        return self._routes.operation(environ)

    def reset(self) -> None:
        """Forget which events were handled."""
        with self._lock:
            self._seen.clear()

    def _webhook(self, request: Request) -> Response:
        self._check_signature(request)
        try:
            events = json.loads(request.get_data())
        except ValueError:
            raise refuse({"error": "invalid-body"}, 400) from None
        if not isinstance(events, list) or len(events) > EVENTS:
            raise refuse({"error": "invalid-body"}, 400)
        minted = sum(self._mint_once(event) for event in events if _asks_for_token(event))
        return answer({"minted": minted})

    def _check_signature(self, request: Request) -> None:
        secret = self._secret("/hh/prod/hubspot/app_secret", "secret", "hs_app_secret")
        stamp = request.headers.get("X-HubSpot-Request-Timestamp", "")
        fresh = stamp.isdecimal() and abs(self._world.clock() - int(stamp) / 1000) <= SIGNATURE_AGE
        expected = signature_v3(secret, request.method, _uri(request), request.get_data(), stamp)
        given = request.headers.get("X-HubSpot-Signature-v3", "")
        if not fresh or not hmac.compare_digest(expected.encode(), given.encode()):
            raise refuse({"error": "invalid-signature"}, 401)

    def _mint_once(self, event: Mapping[str, Any]) -> bool:
        # An event may come twice, and its id alone is not unique.
        name = f"{event.get('eventId')} {event['objectId']} {event.get('occurredAt')}"
        with self._lock:
            if name in self._seen:
                return False
            self._seen.append(name)
        try:
            self._mint(str(event["objectId"]))
        except BaseException:
            with self._lock:
                self._seen.remove(name)
            raise
        return True

    def _mint(self, contact: str) -> None:
        token = f"{contact}-{secrets.token_hex(16)}"
        self._hubspot("PATCH", contact, json={"properties": {"download_token": token}})
        self._log(WEBHOOK_LOGS, type="minted_token", contactId=contact, message=f"minted_token {contact} {token}")

    def _lease(self, request: Request) -> Response:
        edge = request.headers.get("X-Edge-Auth")
        if edge is None:
            return answer({"message": "Unauthorized"}, 401)
        if not hmac.compare_digest(edge.encode(), self._edge_secret().encode()):
            return answer({"message": "Forbidden"}, 403)
        token = bearer(request) or request.args.get("token") or str(json_object(request).get("token", ""))
        contact = token.partition("-")[0]
        held = self._contact(contact) if contact.isdecimal() else None
        if held is None or not hmac.compare_digest((held["download_token"] or "").encode(), token.encode()):
            return self._deny("invalid-token", contact)
        if held["download_enabled"] != "true":
            return self._deny("disabled", contact)
        self._log(LEASE_LOGS, type="lease_ok", contactId=contact, email=held["email"])
        pat = self._secret("/hh/prod/ghcr/creds", "pat", "ghcr_pat")
        return answer({"registry": "ghcr.io", "username": "hh-partner", "password": pat})

    def _deny(self, reason: str, contact: str) -> Response:
        self._log(LEASE_LOGS, type="lease_denied", reason=reason, contactId=contact)
        return answer({"error": reason}, 403)

    def _contact(self, contact: str) -> dict[str, Any] | None:
        wanted = {"properties": "download_token,download_enabled,email"}
        found: dict[str, Any] | None = self._hubspot("GET", contact, query_string=wanted)
        return None if found is None else found["properties"]

    def _hubspot(self, method: str, contact: str, **call: Any) -> dict[str, Any] | None:
        """One call for a contact: its answer, or None where there is no such contact; ends the request with 502 else."""
        token = self._secret("/hh/prod/hubspot/token", "token", "hs_token")
        response = Client(self._world.parts["hubspot"].app).open(
            f"/crm/v3/objects/contacts/{contact}", method=method, headers={"Authorization": f"Bearer {token}"}, **call
        )
        if response.status_code == 404:
            return None
        if response.status_code >= 400:
            self._log(LEASE_LOGS, type="lease_error", where="hubspot", detail=f"status {response.status_code}")
            raise refuse({"error": "hubspot-error"}, 502)
        body: dict[str, Any] = response.get_json()
        return body

    def _secret(self, name: str, key: str, fact: str) -> str:
        read = getattr(self._world.parts.get("aws"), "secret", None)
        if read is not None:
            return str(json.loads(read(REGION, name))[key])
        return self._world.facts.get(fact, FACTS[fact])

    def _edge_secret(self) -> str:
        read = getattr(self._world.parts.get("aws"), "function_environment", None)
        if read is not None:
            return str(read(REGION, AUTHORIZER)["EDGE_SHARED_SECRET"])
        return self._world.facts.get("edge_shared_secret", FACTS["edge_shared_secret"])

    def _log(self, group: str, **line: Any) -> None:
        log = getattr(self._world.parts.get("aws"), "log", None)
        if log is not None:
            log(group, line)


def build(world: World) -> Part:
    """HH's part; it asks the `hubspot` part of the same world."""
    return Hh(world)


def signature_v3(secret: str, method: str, uri: str, body: bytes, timestamp: str) -> str:
    """HubSpot's `X-HubSpot-Signature-v3` of a request; `timestamp` is its `X-HubSpot-Request-Timestamp` (epoch ms)."""
    readable = _DECODED.sub(lambda coded: unquote(coded[0]), uri)
    signed = f"{method}{readable}".encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


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
