"""The lease endpoint: the authorizer, the contact in HubSpot, then a login for the registry."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import uuid
from collections import deque
from typing import Any

from werkzeug.wrappers import Request, Response

from opsctl.sandbox.hh_functions import AUTHORIZER, LEASE, FunctionFailed, HhFunctions
from opsctl.sandbox.web import answer, bearer, iso, json_object

REPOSITORY, TAG = "hh-partner/hh", "latest"
MANIFEST = "application/vnd.oci.image.index.v1+json"
LEASE_SECONDS = 900
ALLOWED_SECONDS = 300.0
"""Seconds for which the gateway caches an accepted header; a refusal is not cached."""
KEPT = 1_000


class LeaseFunction:
    """The endpoint's state: granted leases, and cached headers."""

    def __init__(self, functions: HhFunctions) -> None:
        self._functions = functions
        self._world = functions.world
        self._lock = threading.Lock()
        self._allowed: dict[str, float] = {}
        self._count = 0
        self._granted: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def reset(self) -> None:
        """Forget every lease and every header."""
        with self._lock:
            self._allowed.clear()
            self._granted.clear()
            self._count = 0

    def granted(self) -> dict[str, Any]:
        """The number of granted leases, and the latest ones without passwords."""
        with self._lock:
            return {"count": self._count, "leases": list(self._granted)}

    def answer(self, request: Request) -> Response:
        """Answer one request for a lease."""
        number = str(uuid.uuid4())
        try:
            response = self._refused(request, number) or self._lease(request, number)
        except FunctionFailed as broken:
            response = self.broken(number, broken)
        response.headers["apigw-requestid"] = number
        return response

    def broken(self, number: str, broken: FunctionFailed) -> Response:
        """Log a function's failure and return the answer."""
        self._log(LEASE, "lease_error", number, where=broken.where, detail=broken.detail)
        return answer({"error": "hubspot-error" if broken.status == 502 else "internal-error"}, broken.status)

    def _refused(self, request: Request, number: str) -> Response | None:
        edge = request.headers.get("X-Edge-Auth", "")
        name = hashlib.sha256(edge.encode()).hexdigest()
        with self._lock:
            if self._allowed.get(name, 0.0) > self._world.clock():
                return None
        told = {"method": request.method, "path": request.path, "sourceIp": request.remote_addr}
        if edge and hmac.compare_digest(edge.encode(), self._functions.edge_secret().encode()):
            with self._lock:
                self._allowed[name] = self._world.clock() + self._world.wait(ALLOWED_SECONDS)
            self._log(AUTHORIZER, "authz_ok", number, **told)
            return None
        self._log(AUTHORIZER, "authz_denied", number, reason="wrong-edge-auth" if edge else "missing-edge-auth", **told)
        return answer({"message": "Unauthorized"}, 401)

    def _lease(self, request: Request, number: str) -> Response:
        token = bearer(request) or request.args.get("token") or str(json_object(request).get("token", ""))
        contact = token.partition("-")[0]
        held = self._contact(contact) if contact.isascii() and contact.isdecimal() else {}
        told = {"contactId": contact, "email": held.get("email")}
        if not hmac.compare_digest((held.get("download_token") or "\0").encode(), token.encode()):
            return self._denied("invalid-token", number, told)
        if held.get("download_enabled") != "true":
            return self._denied("disabled", number, told)
        username, password = self._registry_login()
        expires = iso(self._world.clock() + LEASE_SECONDS)
        with self._lock:
            self._count += 1
            self._granted.append({"contactId": contact, "requestId": number, "at": iso(self._world.clock()), "expiresAt": expires})
        self._log(LEASE, "lease_ok", number, **told)
        image = f"ghcr.io/{REPOSITORY}:{TAG}"
        return answer({"registry": "ghcr.io", "username": username, "password": password, "image": image, "expiresAt": expires})

    def _denied(self, reason: str, number: str, told: dict[str, Any]) -> Response:
        self._log(LEASE, "lease_denied", number, reason=reason, **told)
        return answer({"error": reason}, 403)

    def _contact(self, contact: str) -> dict[str, Any]:
        wanted = {"properties": "download_token,download_enabled,email"}
        found = self._functions.hubspot(LEASE, "GET", contact, query=wanted)
        return dict(found["properties"]) if found else {}

    def _registry_login(self) -> tuple[str, str]:
        """A login for the time of the lease, after GHCR has accepted HH's own credential."""
        username, pat = (self._functions.secret(LEASE, "/hh/prod/ghcr/creds", key) for key in ("username", "pat"))
        if "ghcr" not in self._world.parts:
            return username, secrets.token_urlsafe(24)
        basic = base64.b64encode(f"{username}:{pat}".encode()).decode()
        scope = {"service": "ghcr.io", "scope": f"repository:{REPOSITORY}:pull"}
        reply = self._functions.ask("ghcr", "GET", "/token", {"Authorization": f"Basic {basic}"}, 500, query=scope)
        token = str(reply.json().get("token", ""))
        headers = {"Authorization": f"Bearer {token}", "Accept": MANIFEST}
        reply = self._functions.ask("ghcr", "HEAD", f"/v2/{REPOSITORY}/manifests/{TAG}", headers, 500)
        if reply.status != 200:
            raise FunctionFailed("ghcr", f"status {reply.status}", 500)
        return username, token

    def _log(self, function: str, kind: str, number: str, **told: Any) -> None:
        self._functions.log(function, {"type": kind, "requestId": number, **told})
