"""The tokens and hashes of the Safawinet stand-in: access tokens, refresh tokens, passwords.

Access tokens are HS256 JSON web tokens (RFC 7519); the key is the UTF-8 text of JWT_SECRET. Passwords are hashed in one
round only: this is a rehearsal, its users are invented.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACCESS_TTL = 900
"""Lifetime of an access token in seconds."""


class TokenRefused(Exception):
    """Raised for a token that isn't accepted; `reason` is what the API answers."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class AccessToken:
    """What a verified access token says. `issued_at` is in epoch milliseconds."""

    user_id: int
    role: str
    session_id: int
    issued_at: int


def sign(claims: Mapping[str, Any], key: str) -> str:
    """Write the claims as an HS256 token."""
    head = _encode(json.dumps({"alg": "HS256", "typ": "JWT"}, separators=(",", ":")).encode())
    body = _encode(json.dumps(claims, separators=(",", ":")).encode())
    return f"{head}.{body}.{_encode(_signature(f'{head}.{body}', key))}"


def access_token(access: AccessToken, key: str, lifetime: int = ACCESS_TTL) -> str:
    """Write an access token that is good for `lifetime` seconds from `access.issued_at`."""
    issued = access.issued_at // 1000
    return sign(
        {
            "sub": str(access.user_id),
            "role": access.role,
            "sid": access.session_id,
            "iat": issued,
            "iat_ms": access.issued_at,
            "exp": issued + lifetime,
        },
        key,
    )


def verify(token: str, key: str, now: float) -> AccessToken:
    """Read a token signed with `key` and not expired at `now` (epoch seconds).

    Raises TokenRefused: `malformed-token`, `bad-signature` or `expired-token`.
    """
    signed, _, signature = token.rpartition(".")
    head, _, body = signed.partition(".")
    try:
        algorithm = json.loads(_decode(head))["alg"]
        claims = json.loads(_decode(body))
        given = _decode(signature)
    except (ValueError, KeyError, TypeError):
        raise TokenRefused("malformed-token") from None
    if algorithm != "HS256" or not hmac.compare_digest(given, _signature(signed, key)):
        raise TokenRefused("bad-signature")
    try:
        access = AccessToken(int(claims["sub"]), claims["role"], int(claims["sid"]), int(claims["iat_ms"]))
        expires = float(claims["exp"])
    except (KeyError, TypeError, ValueError):
        raise TokenRefused("malformed-token") from None
    if expires <= now:
        raise TokenRefused("expired-token")
    return access


def refresh_token() -> str:
    """Draw a new refresh token of 256 random bits."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """The form in which a refresh token is stored: hex SHA-256."""
    return hashlib.sha256(token.encode()).hexdigest()


def password_hash(password: str, salt: str) -> str:
    """Hash a password as `sha256:<salt>:<hex of sha256(salt + password)>`."""
    return f"sha256:{salt}:{hashlib.sha256((salt + password).encode()).hexdigest()}"


def password_matches(password: str, stored: str) -> bool:
    """Whether a password is the one whose `password_hash` was stored."""
    salt = stored.split(":")[1] if stored.count(":") == 2 else ""
    return hmac.compare_digest(password_hash(password, salt), stored)


def _signature(text: str, key: str) -> bytes:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
