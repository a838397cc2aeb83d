"""Fingerprints name a secret value without revealing it. They are keyed, so only the owner of the key can make them.

A fingerprint begins with its key's id. Each ledger has a key for each environment, and fingerprints of different keys can't be compared.
"""

from __future__ import annotations

import hmac

from opsctl.errors import Refused

PATTERN = "[0-9a-f]{6}-[0-9a-f]{12}"


def of(key: bytes, value: bytes) -> str:
    """The fingerprint of a value under a key: six hex digits of the key's id and twelve of the value's."""
    return f"{hmac.new(key, b'', 'sha256').hexdigest()[:6]}-{hmac.new(key, value, 'sha256').hexdigest()[:12]}"


def same(one: str | None, other: str | None) -> bool:
    """Whether two fingerprints name the same value; None names no value. Raises Refused for fingerprints of different keys."""
    if one is None or other is None or one == other:
        return one == other
    (key, _, _), (other_key, _, _) = one.rpartition("-"), other.rpartition("-")
    if key != other_key:
        raise Refused(
            f"The fingerprints {one} and {other} were made with different keys, by the ledgers of two machines or of two environments,"
            " so they can't be compared.",
            "Use the ledger that made the first one (XDG_STATE_HOME), or list the fingerprints again here and use those.",
        )
    return False
