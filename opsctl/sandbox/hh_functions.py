"""The runtime of HH's Lambda functions: environment, cached secrets, log lines, and calls to other services."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

from opsctl.sandbox import background_load as neighbours
from opsctl.sandbox.aws.wire import AwsError
from opsctl.sandbox.background_load import NoAnswer, Reply
from opsctl.sandbox.services import SandboxContext

REGION = "us-west-2"
WEBHOOK, LEASE, AUTHORIZER = "hh-webhook", "hh-lease", "hh-authz"
KEEP = 300.0
"""Seconds for which a function caches a secret, unless it is replaced before."""
FACTS = {
    "/hh/prod/hubspot/app_secret": ("hs_app_secret", "sandbox-app-secret"),
    "/hh/prod/hubspot/token": ("hs_token", "pat-na1-sandbox"),
    "/hh/prod/ghcr/creds": ("ghcr_pat", "ghp_sandbox"),
    AUTHORIZER: ("edge_shared_secret", "sandbox-edge-secret"),
}
"""The world's facts, with their defaults, that stand for secrets where there is no AWS."""


class FunctionFailed(Exception):
    """Raised when a function fails: `where` is the system, `detail` its message, `status` of the answer."""

    def __init__(self, where: str, detail: str, status: int) -> None:
        super().__init__(f"{where}: {detail}")
        self.where = where
        self.detail = detail
        self.status = status


@dataclass(frozen=True)
class _CachedSecret:
    text: str
    until: float
    instance: str


class HhFunctions:
    """The three functions of a sandbox."""

    def __init__(self, world: SandboxContext) -> None:
        self.world = world
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], _CachedSecret] = {}

    def reset(self) -> None:
        """Clear the cache."""
        with self._lock:
            self._kept.clear()

    def secret(self, function: str, name: str, key: str) -> str:
        """A key of a secret as the function has cached it. Raises FunctionFailed."""
        instance = self._instance(function)
        with self._lock:
            kept = self._kept.get((function, name))
        if kept is None or kept.instance != instance or self.world.clock() >= kept.until:
            kept = _CachedSecret(self._read(name, key), self.world.clock() + self.world.wait(KEEP), instance)
            with self._lock:
                self._kept[function, name] = kept
        try:
            return str(json.loads(kept.text)[key])
        except (ValueError, KeyError, TypeError) as error:
            raise FunctionFailed("secrets", f"{name} is not JSON with {key}", 500) from error

    def edge_secret(self) -> str:
        """The authorizer's EDGE_SHARED_SECRET. Raises FunctionFailed."""
        read = self._offered("function_environment")
        if read is None:
            return self._fact(AUTHORIZER)
        try:
            return str(read(REGION, AUTHORIZER)["EDGE_SHARED_SECRET"])
        except (AwsError, KeyError) as error:
            raise FunctionFailed("environment", "EDGE_SHARED_SECRET is not set", 500) from error

    def hubspot(self, function: str, method: str, contact: str, **call: Any) -> dict[str, Any] | None:
        """A call for a contact: its answer, or None for an unknown contact. Raises FunctionFailed with 502."""
        token = self.secret(function, "/hh/prod/hubspot/token", "token")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        reply = self.ask("hubspot", method, f"/crm/v3/objects/contacts/{contact}", headers, 502, **call)
        if reply.status == 404:
            return None
        if reply.status >= 400:
            told = reply.json()
            raise FunctionFailed("hubspot", f"status {reply.status} {told.get('category') or told.get('policyName') or ''}".rstrip(), 502)
        return reply.json()

    def ask(self, part: str, method: str, path: str, headers: dict[str, str], status: int, **call: Any) -> Reply:
        """Call another system. Raises FunctionFailed with `status` when it doesn't answer."""
        try:
            return neighbours.ask(self.world, part, method, path, headers, **call)
        except NoAnswer as cause:
            raise FunctionFailed(part, str(cause), status) from cause

    def log(self, function: str, line: dict[str, Any] | str) -> None:
        """Add a line to a function's log group."""
        log = self._offered("log")
        if log is not None:
            log(f"/aws/lambda/{function}", line)

    def _read(self, name: str, key: str) -> str:
        read = self._offered("secret")
        if read is None:
            return json.dumps({key: self._fact(name), "username": "hh-partner"})
        try:
            return str(read(REGION, name))
        except AwsError as error:
            raise FunctionFailed("secrets", f"{name}: {error.code}", 500) from error

    def _instance(self, function: str) -> str:
        read = self._offered("function_instance")
        try:
            return str(read(REGION, function)) if read else ""
        except AwsError:
            return ""

    def _fact(self, name: str) -> str:
        fact, default = FACTS[name]
        return self.world.facts.get(fact, default)

    def _offered(self, name: str) -> Any:
        return getattr(self.world.parts.get("aws"), name, None)
