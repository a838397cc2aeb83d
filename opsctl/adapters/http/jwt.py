"""JSON Web Tokens signed with HS256 (RFC 7515, RFC 7519), as the application issues them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from opsctl.redaction import Secret


def sign(claims: dict[str, Any], key: Secret) -> Secret:
    """Return the compact form of a token with `claims`."""
    parts = [_part({"alg": "HS256", "typ": "JWT"}), _part(claims)]
    signature = hmac.new(key.raw(), ".".join(parts).encode(), hashlib.sha256).digest()
    return Secret(".".join([*parts, _encode(signature)]))


def claims(token: Secret) -> dict[str, Any]:
    """The claims of a token, not verified; empty for an invalid token."""
    parts = token.reveal().split(".")
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(content: dict[str, Any]) -> str:
    return _encode(json.dumps(content, separators=(",", ":")).encode())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
