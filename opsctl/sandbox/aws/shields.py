"""Shield Advanced, whole: a subscription, without which it refuses nearly everything, what it protects, and what was attacked.

moto tells neither state nor attacks, protects without a subscription, and writes a subscription's times as no client can read them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.firewall import LOAD_BALANCER, FakeWaf
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.names import ACCOUNT
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

Operation = Callable[[Request], Mapping[str, Any] | Answer]

DAY = 86_400
DISTRIBUTION = f"arn:aws:cloudfront::{ACCOUNT}:distribution/E2SAFAWINETCDN"
KNOWN = {LOAD_BALANCER, DISTRIBUTION}
"""The resources of this account that Shield Advanced can protect."""

_KIND = re.compile(r"arn:aws:(elasticloadbalancing:[^:]+|cloudfront:|globalaccelerator:|route53:|ec2:[^:]+):\d*:\w+/.+")


class FakeShield:
    """The calls of Shield Advanced, and those of WAF, by the service that signs them."""

    def __init__(self, timeline: EventLog, moto: MotoApp) -> None:
        self._timeline = timeline
        self._firewall = FakeWaf(timeline)
        self._since: float | None = None
        self._renews = True
        self._protections: dict[str, dict[str, Any]] = {}
        self._attacks: list[dict[str, Any]] = []
        self.services: dict[str, dict[str, Operation]] = {
            "shield": {
                "GetSubscriptionState": self._state,
                "DescribeSubscription": self._subscription,
                "CreateSubscription": self._subscribe,
                "UpdateSubscription": self._renew,
                "DeleteSubscription": self._end,
                "CreateProtection": self._protect,
                "DeleteProtection": self._unprotect,
                "DescribeProtection": self._protection,
                "ListProtections": self._list,
                "ListAttacks": self._list_attacks,
                "DescribeAttack": self._attack,
            },
            "wafv2": self._firewall.operations,
        }

    def seed(self) -> None:
        """Subscribe half a year ago; protect the distribution alone; an attack of yesterday and one of last month; and the firewall."""
        now = self._timeline.now()
        self._since = now - 183 * DAY
        self._add("safawinet-cdn", DISTRIBUTION)
        for began, lasted, vectors in ((now - DAY, 1_500, ("HTTP_FLOOD", "SYN_FLOOD")), (now - 32 * DAY, 600, ("UDP_REFLECTION",))):
            self._attacks.append(
                {
                    "AttackId": str(uuid.uuid4()),
                    "ResourceArn": DISTRIBUTION,
                    "StartTime": began,
                    "EndTime": began + lasted,
                    "AttackVectors": [{"VectorType": vector} for vector in vectors],
                }
            )
        self._firewall.seed()

    def _state(self, request: Request) -> dict[str, Any]:
        return {"SubscriptionState": "INACTIVE" if self._since is None else "ACTIVE"}

    def _begun(self) -> float:
        if self._since is None:
            raise AwsError("ResourceNotFoundException", "The subscription does not exist.")
        return self._since

    def _subscription(self, request: Request) -> dict[str, Any]:
        since = self._begun()
        return {
            "Subscription": {
                "StartTime": since,
                "EndTime": since + 365 * DAY,
                "TimeCommitmentInSeconds": 365 * DAY,
                "AutoRenew": "ENABLED" if self._renews else "DISABLED",
                "SubscriptionArn": f"arn:aws:shield::{ACCOUNT}:subscription",
                "SubscriptionLimits": {
                    "ProtectionLimits": {"ProtectedResourceTypeLimits": []},
                    "ProtectionGroupLimits": {
                        "MaxProtectionGroups": 100,
                        "PatternTypeLimits": {"ArbitraryPatternLimits": {"MaxMembers": 10000}},
                    },
                },
            }
        }

    def _subscribe(self, request: Request) -> dict[str, Any]:
        if self._since is not None:
            raise AwsError("ResourceAlreadyExistsException", "The subscription already exists.")
        self._since = self._timeline.now()
        return {}

    def _renew(self, request: Request) -> dict[str, Any]:
        self._begun()
        self._renews = request.params.get("AutoRenew", "ENABLED") == "ENABLED"
        return {}

    def _end(self, request: Request) -> dict[str, Any]:
        """AWS lets nobody out of the year; here it is how a team rehearses without."""
        self._begun()
        self._since = None
        self._protections.clear()
        return {}

    def _protect(self, request: Request) -> dict[str, Any]:
        self._begun()
        name, resource = str(request.params["Name"]), str(request.params["ResourceArn"])
        if not re.fullmatch(r"[ a-zA-Z0-9_.\-]{1,128}", name):
            raise AwsError("InvalidParameterException", f"Invalid name: {name}")
        if not _KIND.fullmatch(resource):
            raise AwsError("InvalidResourceException", "Unrecognized resource.")
        if resource not in KNOWN:
            raise AwsError("InvalidResourceException", "The resource does not exist, or you have no access to it.")
        if any(each["ResourceArn"] == resource for each in self._protections.values()):
            raise AwsError("ResourceAlreadyExistsException", "The referenced protection already exists.")
        return {"ProtectionId": self._add(name, resource)}

    def _add(self, name: str, resource: str) -> str:
        id = str(uuid.uuid4())
        arn = f"arn:aws:shield::{ACCOUNT}:protection/{id}"
        self._protections[id] = {"Id": id, "Name": name, "ResourceArn": resource, "HealthCheckIds": [], "ProtectionArn": arn}
        return id

    def _unprotect(self, request: Request) -> dict[str, Any]:
        self._begun()
        if self._protections.pop(str(request.params.get("ProtectionId")), None) is None:
            raise AwsError("ResourceNotFoundException", "The referenced protection does not exist.")
        return {}

    def _protection(self, request: Request) -> dict[str, Any]:
        self._begun()
        wanted = (request.params.get("ProtectionId"), request.params.get("ResourceArn"))
        found = [each for each in self._protections.values() if (each["Id"] == wanted[0] or each["ResourceArn"] == wanted[1])]
        if not found:
            raise AwsError("ResourceNotFoundException", "The referenced protection does not exist.")
        return {"Protection": found[0]}

    def _list(self, request: Request) -> dict[str, Any]:
        self._begun()
        return {"Protections": list(self._protections.values())}

    def _list_attacks(self, request: Request) -> dict[str, Any]:
        self._begun()
        begun = request.params.get("StartTime", {})
        since, until = begun.get("FromInclusive", 0), begun.get("ToExclusive", self._timeline.now())
        return {"AttackSummaries": [each for each in self._attacks if since <= each["StartTime"] < until]}

    def _attack(self, request: Request) -> dict[str, Any]:
        self._begun()
        found = next((each for each in self._attacks if each["AttackId"] == request.params.get("AttackId")), None)
        if found is None:
            raise AwsError("AccessDeniedException", "No such attack.")
        told = {name: value for name, value in found.items() if name != "AttackVectors"}
        return {"Attack": {**told, "AttackCounters": [], "Mitigations": []}}
