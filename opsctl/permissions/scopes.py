"""Needs as the scopes of credentials that HTTP services issue."""

from __future__ import annotations

from typing import NamedTuple

from opsctl.permissions import Permissions


class Scope(NamedTuple):
    """What a credential has to be allowed; `source` is the vendor's documentation of it."""

    system: str
    scope: str
    source: str


SCOPES = {
    "hubspot:contacts.read": Scope("HubSpot", "crm.objects.contacts.read", "HubSpot developer documentation, Scopes"),
    "hubspot:contacts.write": Scope("HubSpot", "crm.objects.contacts.write", "HubSpot developer documentation, Scopes"),
    "slack": Scope("Slack", "incoming-webhook", "Slack documentation, Sending messages using incoming webhooks"),
    "pagerduty": Scope("PagerDuty", "an Events API v2 integration key of the service", "PagerDuty documentation, Events API v2"),
    "statuspage": Scope("Statuspage", "an API key of a user who may manage the page's incidents", "Statuspage documentation, API keys"),
    "sentry": Scope("Sentry", "event:read org:read project:read", "Sentry API documentation, Permissions and Scopes"),
    "ghcr": Scope("GHCR", "read:packages", "GitHub documentation, Scopes for personal access tokens (classic)"),
    "api:login": Scope("Application API", "a test user's login", ""),
    "api:revoke": Scope("Application API", "an administrator's token", ""),
    "api:announce": Scope("Application API", "an administrator's token", ""),
    "lease": Scope("Lease endpoint", "the X-Edge-Auth secret", ""),
    "hubspot:webhook": Scope("HubSpot webhook", "the app's client secret", ""),
}
"""What each need takes; one without an entry takes no scope."""


def scopes(permissions: Permissions) -> dict[str, list[dict[str, str]]]:
    """The scopes for reading, and the further ones for writing, in the order of the systems."""
    read = {SCOPES[need] for need in permissions.read if need in SCOPES}
    write = {SCOPES[need] for need in permissions.write if need in SCOPES} - read
    return {side: [{"system": s.system, "scope": s.scope} for s in sorted(found)] for side, found in (("read", read), ("write", write))}
