"""Sends signed events to the webhook, as HubSpot does.

Shapes: HubSpot, "Webhooks API" and "Validating requests from HubSpot". The secret is the app's own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.http.client import Http
from opsctl.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opsctl.adapters.access import Access
    from opsctl.redaction import Secret
    from opsctl.settings import HubSpotSettings

LARGEST_EVENT_ID = 2**53
"""Beyond it JSON's numbers lose digits in JavaScript."""

_DECODED = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
"""The only characters that are decoded in the URL for a version 3 signature."""


def signature_v1(secret: Secret, body: bytes) -> str:
    """`X-HubSpot-Signature` of version v1."""
    return hashlib.sha256(secret.raw() + body).hexdigest()


def signature_v3(secret: Secret, method: str, uri: str, body: bytes, timestamp: str) -> str:
    """`X-HubSpot-Signature-v3`; `timestamp` is what `X-HubSpot-Request-Timestamp` says, epoch milliseconds."""
    readable = _DECODED.sub(lambda coded: unquote(coded[0]), uri)
    signed = f"{method}{readable}".encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.raw(), signed, hashlib.sha256).digest()).decode()


def signed_headers(secret: Secret, method: str, uri: str, body: bytes, at: datetime) -> dict[str, str]:
    """The headers of an event with the signatures v1 and v3."""
    timestamp = _milliseconds(at)
    return {
        "X-HubSpot-Signature": signature_v1(secret, body),
        "X-HubSpot-Signature-Version": "v1",
        "X-HubSpot-Signature-v3": signature_v3(secret, method, uri, body, str(timestamp)),
        "X-HubSpot-Request-Timestamp": str(timestamp),
        "Content-Type": "application/json",
    }


@dataclass(frozen=True)
class SentEvent:
    """An accepted event: its id and time."""

    event_id: int
    at: datetime


class WebhookHttp(Http):
    """Posts bytes as they were signed."""

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Post once; raises OutcomeUnknown without an answer."""
        answer = self._send("POST", path, True, content=body, headers=dict(headers))
        if not answer.is_success:
            raise self._refused(answer, f"POST {urlsplit(path).path}", True)


class Webhook(Adapter):
    """The webhook that [hubspot] names. Raises ConfigurationError without webhook or app-secret."""

    def __init__(self, access: Access, settings: HubSpotSettings, now: Callable[[], datetime]) -> None:
        super().__init__(writing=access.writing)
        if settings.webhook is None or settings.app_secret is None:
            raise ConfigurationError(
                "[hubspot] has no webhook or no app-secret.", "Add both to [hubspot], or mint the token without the webhook."
            )
        self._config, self._url, self._now = settings, settings.webhook, now
        self._secret = access.resolve(settings.app_secret)
        parts = urlsplit(settings.webhook)
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._http = WebhookHttp(
            f"{parts.scheme}://{parts.netloc}",
            access,
            system="the webhook",
            login="The webhook rejected the signature: check app-secret and webhook in [hubspot], and this machine's clock.",
        )

    @writes
    def send(self, contact_id: str, property: str, value: str, event: int | None = None, at: datetime | None = None) -> SentEvent:
        """Send the event that a contact's property changed to `value`, `at` a time or now.

        Events with the same id (below 2**53), contact and time are one event to the webhook. Raises CredentialsInvalid for a rejected
        signature, OutcomeUnknown for a lost answer.
        """
        now = self._now()
        at = at or now
        event_id = secrets.randbelow(LARGEST_EVENT_ID) if event is None else event
        told = {
            "eventId": event_id,
            "subscriptionId": self._config.subscription_id,
            "portalId": self._config.portal,
            "appId": self._config.app_id,
            "occurredAt": _milliseconds(at),
            "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0,
            "objectId": int(contact_id),
            "propertyName": property,
            "propertyValue": value,
            "changeSource": "CRM_UI",
            "sourceId": "opsctl",
        }
        body = json.dumps([told], separators=(",", ":")).encode()
        self._http.post(self._path, body, signed_headers(self._secret, "POST", self._url, body, now))
        return SentEvent(event_id, at)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
