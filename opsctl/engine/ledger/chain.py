"""The hash chain that makes a quiet edit of the ledger show."""

from __future__ import annotations

import hashlib
from typing import Any

from opsctl.engine.ledger.rows import encode

START = "0" * 64


def link(previous: str, entry: list[Any]) -> str:
    """The hash of `entry`, given the hash of the one before it; both as 64 hex digits."""
    return hashlib.sha256(previous.encode() + encode(entry)).hexdigest()
