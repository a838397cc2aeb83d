"""The stand-in of the GitHub container registry: a token for everybody, manifests for tokens with read:packages.

As at ghcr.io, a 200 of `/token` verifies nothing; only the manifest does.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from opsctl.sandbox.services import SandboxContext, SandboxService
from opsctl.sandbox.web import Routes, answer, bearer

PATS = {"ghcr_pat": "ghp_sandbox", "ghcr_next_pat": "ghp_sandbox_next"}
"""The sandbox's facts with personal access tokens with `read:packages`, with their defaults."""

INDEX = "application/vnd.oci.image.index.v1+json"
READABLE = (INDEX, "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.*", "application/*", "*/*")
KEPT_TOKENS = 1_000


class FakeGhcr:
    """The registry: every image of every organisation exists, as an OCI index."""

    name = "ghcr"

    def __init__(self, world: SandboxContext) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._granted: OrderedDict[str, str] = OrderedDict()
        self._routes = Routes(
            {
                "GET /token": self._token,
                "HEAD /v2/{organisation}/{image}/manifests/{tag}": self._manifest,
                "GET /v2/{organisation}/{image}/manifests/{tag}": self._manifest,
            }
        )

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        return self._routes(environ, start_response)

    def operation(self, environ: Mapping[str, Any]) -> str:
        """`HEAD /v2/{organisation}/{image}/manifests/{tag}`."""
        return self._routes.operation(environ)

    def reset(self) -> None:
        """Forget all tokens."""
        with self._lock:
            self._granted.clear()

    def _token(self, request: Request) -> Response:
        scope = request.args.get("scope", "")
        known = {self._world.facts.get(name, default) for name, default in PATS.items()}
        readable = request.authorization is not None and request.authorization.password in known
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._granted[token] = scope if readable else ""
            if len(self._granted) > KEPT_TOKENS:
                self._granted.popitem(last=False)
        return answer({"token": token})

    def _manifest(self, request: Request, organisation: str, image: str, tag: str) -> Response:
        with self._lock:
            scope = self._granted.get(bearer(request))
        if scope is None:
            realm = f'Bearer realm="{request.host_url}token",service="ghcr.io",scope="repository:{organisation}/{image}:pull"'
            return _refusal(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": realm})
        if scope != f"repository:{organisation}/{image}:pull":
            return _refusal(403, "DENIED", "requested access to the resource is denied")
        if not any(kind in READABLE for kind in request.accept_mimetypes.values()):
            return _refusal(404, "MANIFEST_UNKNOWN", "OCI index found, but Accept header does not support OCI indexes")
        digest = f"sha256:{hashlib.sha256(f'{organisation}/{image}:{tag}'.encode()).hexdigest()}"
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        response = answer(body, headers={"Docker-Content-Digest": digest})
        response.content_type = INDEX
        return response


def build(world: SandboxContext) -> SandboxService:
    """The registry's part."""
    return FakeGhcr(world)


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return answer({"errors": [{"code": code, "message": message}]}, status, headers)
