"""HubSpot's webhook signatures v1 and v3 (HubSpot, "Validating requests")."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from urllib.parse import unquote

_DECODED = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def signature_v1(secret: str, body: bytes) -> str:
    """`X-HubSpot-Signature` where `X-HubSpot-Signature-Version` is v1."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


def signature_v3(secret: str, method: str, uri: str, body: bytes, timestamp: str) -> str:
    """`X-HubSpot-Signature-v3` of a request; `timestamp` is its `X-HubSpot-Request-Timestamp` (epoch ms)."""
    readable = _DECODED.sub(lambda coded: unquote(coded[0]), uri)
    signed = f"{method}{readable}".encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
