"""AWS Shield Advanced: subscription, protections and attacks.

Its whole API is in us-east-1, and nearly all of it refuses (ResourceNotFoundException) without a subscription:
https://github.com/aws/aws-sdk-go/issues/4000.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import NotFound

REGION = "us-east-1"


class Subscription(Struct, frozen=True):
    """The subscription; `renews` automatically at its end."""

    since: datetime
    until: datetime
    renews: bool


class Protection(Struct, frozen=True):
    """One protected resource."""

    id: str
    name: str
    resource: str


class Attack(Struct, frozen=True):
    """One attack on a resource; `end` is None while it lasts."""

    id: str
    resource: str
    begin: datetime
    end: datetime | None
    vectors: tuple[str, ...]


class Shield(Adapter):
    """AWS Shield Advanced, whose API is only in us-east-1."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def subscribed(self) -> bool:
        """Tell whether the account has an active subscription."""
        return bool(self._call("get_subscription_state")["SubscriptionState"] == "ACTIVE")

    def subscription(self) -> Subscription | None:
        """Return the subscription, None without one."""
        if not self.subscribed():
            return None
        found = self._call("describe_subscription")["Subscription"]
        return Subscription(utc(found["StartTime"]), utc(found["EndTime"]), found.get("AutoRenew") == "ENABLED")

    def protection(self, resource: str) -> Protection | None:
        """The protection of a resource (ARN), None without one; needs a subscription."""
        try:
            return _protection(self._call("describe_protection", ResourceArn=resource)["Protection"])
        except NotFound:
            return None

    def protections(self) -> list[Protection]:
        """Return everything that is protected, by name; raises NotFound without a subscription."""
        pages = self._aws.pages("shield", "list_protections", region=REGION)
        return sorted((_protection(raw) for page in pages for raw in page["Protections"]), key=lambda found: found.name)

    def attacks(self, since: datetime, until: datetime) -> list[Attack]:
        """Return the attacks that began in that time, newest first."""
        begun = {"FromInclusive": since, "ToExclusive": until}
        pages = self._aws.pages("shield", "list_attacks", region=REGION, StartTime=begun)
        found = [_attack(raw) for page in pages for raw in page.get("AttackSummaries", [])]
        return sorted(found, key=lambda attack: attack.begin, reverse=True)

    @writes
    def protect(self, name: str, resource: str) -> str:
        """Protect a resource (an ARN) and return the protection's id; never subscribes."""
        return str(self._call("create_protection", Name=name, ResourceArn=resource)["ProtectionId"])

    @writes
    def unprotect(self, id: str) -> None:
        """Delete a protection."""
        self._call("delete_protection", ProtectionId=id)

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return self._aws.call("shield", operation, region=REGION, **parameters)


def _protection(raw: dict[str, Any]) -> Protection:
    return Protection(raw["Id"], raw.get("Name", ""), raw["ResourceArn"])


def _attack(raw: dict[str, Any]) -> Attack:
    end = raw.get("EndTime")
    vectors = tuple(vector["VectorType"] for vector in raw.get("AttackVectors", []))
    return Attack(raw["AttackId"], raw["ResourceArn"], utc(raw["StartTime"]), utc(end) if end else None, vectors)
