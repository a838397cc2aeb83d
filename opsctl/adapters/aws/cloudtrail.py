"""AWS CloudTrail: management events, and which of them are unusual.

LookupEvents has 90 days of a region's management events, filters by one attribute, and allows two calls a second per region. An
event may be missing for about 15 minutes.
"""

from __future__ import annotations

import heapq
import ipaddress
import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.patience import retry_throttled
from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter
from opsctl.errors import Throttled
from opsctl.redaction import LINE, clean_text

KEPT = timedelta(days=90)
AT_ONCE = 50
RATE = 2
WINDOW_SECONDS = 1.0

RIGHTS = "changes rights"
HIDES = "hides traces"
OPENS = "opens access to others"
UNUSUAL = {
    RIGHTS: """
        AddClientIDToOpenIDConnectProvider AddRoleToInstanceProfile AddUserToGroup
        AttachCustomerManagedPolicyReferenceToPermissionSet AttachGroupPolicy AttachManagedPolicyToPermissionSet AttachRolePolicy
        AttachUserPolicy CreateAccessKey CreateAccountAssignment CreateGroupMembership CreateLoginProfile
        CreateOpenIDConnectProvider CreatePermissionSet CreatePolicy CreatePolicyVersion CreateRole CreateSAMLProvider
        CreateServiceSpecificCredential CreateTrustAnchor CreateUser DeactivateMFADevice DeleteAccessKey
        DeleteAccountPasswordPolicy DeleteGroupPolicy DeleteLoginProfile DeletePolicy DeletePolicyVersion DeleteRole
        DeleteRolePermissionsBoundary DeleteRolePolicy DeleteUser DeleteUserPermissionsBoundary DeleteUserPolicy
        DeleteVirtualMFADevice DetachGroupPolicy DetachPolicy DetachRolePolicy DetachUserPolicy EnableMFADevice PutGroupPolicy
        PutInlinePolicyToPermissionSet PutRolePermissionsBoundary PutRolePolicy PutUserPermissionsBoundary PutUserPolicy
        RemoveUserFromGroup ResetServiceSpecificCredential SetDefaultPolicyVersion UpdateAccessKey UpdateAccountPasswordPolicy
        UpdateAssumeRolePolicy UpdateLoginProfile UpdateOpenIDConnectProviderThumbprint UpdateSAMLProvider
        UploadSigningCertificate UploadSSHPublicKey
    """,
    HIDES: """
        DeleteAlarms DeleteConfigurationRecorder DeleteDeliveryChannel DeleteDetector DeleteEventDataStore DeleteFlowLogs
        DeleteLogGroup DeleteLogStream DeleteTrail DisableAlarmActions DisableSecurityHub PutEventSelectors
        StopConfigurationRecorder StopEventDataStoreIngestion StopLogging UpdateDetector UpdateTrail
    """,
    OPENS: """
        AddLayerVersionPermission20181031 AddPermission AddPermission20150331 AddPermission20150331v2
        AuthorizeDBSecurityGroupIngress AuthorizeSecurityGroupIngress CreateFunctionUrlConfig CreateGrant CreateNetworkAclEntry
        CreateResourceShare DeleteAccountPublicAccessBlock DeleteBucketPolicy DeleteBucketPublicAccessBlock
        DeletePublicAccessBlock DeleteResourcePolicy ModifyDBClusterSnapshotAttribute ModifyDBSnapshotAttribute
        ModifyImageAttribute ModifySecurityGroupRules ModifySnapshotAttribute PutAccountPublicAccessBlock PutBucketAcl
        PutBucketPolicy PutBucketPublicAccessBlock PutBucketReplication PutKeyPolicy PutResourcePolicy ReplaceNetworkAclEntry
        SetRepositoryPolicy UpdateFunctionUrlConfig
    """,
}
"""Event names of CloudTrail; those of Lambda's permissions have a version."""
REASONS = {name: reason for reason, names in UNUSUAL.items() for name in names.split()}
DENIED = ("AccessDenied", "UnauthorizedOperation")
ROTATION_ENDED = ("RotationFailed", "RotationAbandoned")
"""Events of Secrets Manager's own (Secrets Manager User Guide, "Log AWS Secrets Manager events with AWS CloudTrail")."""


class TrailEvent(Struct, frozen=True, kw_only=True):
    """One event. `unusual` is the reason why it is flagged, empty for most; `access` is read or write."""

    time: datetime
    user: str
    event: str
    source: str
    address: str
    region: str
    access: str
    resources: list[str]
    error: str = ""
    unusual: str = ""
    id: str = ""


class EventSource(Struct, frozen=True):
    """The source of events: an address or network, or a service."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    service: str = ""

    @classmethod
    def parse(cls, text: str) -> EventSource:
        """`203.0.113.66`, `203.0.113.0/24`, `iam` or `iam.amazonaws.com`; raises ValueError for anything else."""
        try:
            return cls(network=ipaddress.ip_network(text, strict=False))
        except ValueError:
            name = text.removesuffix(".amazonaws.com")
            if not name.replace("-", "").isalnum() or not name[0].isalpha():
                raise ValueError(f"expected an address, a network or a service such as iam, got {text!r}") from None
            return cls(service=f"{name.lower()}.amazonaws.com")

    def has(self, event: TrailEvent) -> bool:
        """Whether the event is from this source. For calls of an AWS service, the event has a name instead of an address."""
        if self.network is None:
            return event.source == self.service.removesuffix(".amazonaws.com")
        try:
            return ipaddress.ip_address(event.address) in self.network
        except ValueError:
            return False


class CloudTrail(Adapter):
    """CloudTrail's events, newest first. `clock` returns seconds, `pause` waits for seconds."""

    def __init__(self, aws: AwsSession, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
        self._clock, self._pause = clock, pause
        self._sent: dict[str, list[float]] = {}

    def events(
        self, regions: Iterable[str], since: datetime, until: datetime, *, user: str | None = None, source: EventSource | None = None
    ) -> Iterator[TrailEvent]:
        """The matching events of these regions between two times (UTC), newest first, one page at a time.

        Raises Throttled, with the time reached, when AWS still throttles after several tries.
        """
        asked: dict[str, str] = {}
        if user is not None:
            asked = {"AttributeKey": "Username", "AttributeValue": user}
        elif source is not None and source.service:
            asked = {"AttributeKey": "EventSource", "AttributeValue": source.service}
        streams = [self._region(region, since, until, asked) for region in regions]
        for event in heapq.merge(*streams, key=lambda each: each.time, reverse=True):
            if (user is None or event.user == user) and (source is None or source.has(event)):
                yield event

    def rotation_failure(self, secret: str, since: datetime, until: datetime, region: str | None = None) -> str:
        """AWS's reason why the managed rotation of a secret (its ARN) failed since then; empty without such an event.

        An event may be missing for some minutes.
        """
        where = region or self._aws.config.region
        for name in ROTATION_ENDED:
            only = [{"AttributeKey": "EventName", "AttributeValue": name}]
            asked = partial(self._page, where, StartTime=since, EndTime=until, MaxResults=AT_ONCE, LookupAttributes=only)
            for raw in retry_throttled(asked, self._pause)["Events"]:
                detail = json.loads(raw.get("CloudTrailEvent") or "{}")
                more = {**(detail.get("additionalEventData") or {}), **(detail.get("serviceEventDetails") or {})}
                if secret in {str(value) for value in more.values()}:
                    return str(detail.get("errorMessage") or more.get("errorMessage") or f"CloudTrail has its event {name}")
        return ""

    def _region(self, region: str, since: datetime, until: datetime, asked: dict[str, str]) -> Iterator[TrailEvent]:
        only: dict[str, Any] = {"LookupAttributes": [asked]} if asked else {}
        reached: datetime | None = None
        while True:
            try:
                answer = retry_throttled(
                    lambda: self._page(region, StartTime=since, EndTime=until, MaxResults=AT_ONCE, **only), self._pause
                )
            except Throttled as cause:
                raise _stopped(cause, region, reached) from cause
            for raw in answer["Events"]:
                event = _event(raw, region)
                reached = event.time
                yield event
            if not answer.get("NextToken"):
                return
            only["NextToken"] = answer["NextToken"]

    def _page(self, region: str, **parameters: Any) -> dict[str, Any]:
        self._slow_down(region)
        return self._aws.call("cloudtrail", "lookup_events", region=region, **parameters)

    def _slow_down(self, region: str) -> None:
        """Wait until the rate allows another call."""
        sent = self._sent.setdefault(region, [])
        if len(sent) == RATE and (left := sent[0] + WINDOW_SECONDS - self._clock()) > 0:
            self._pause(left)
        self._sent[region] = [*sent, self._clock()][-RATE:]


def _stopped(cause: Throttled, region: str, reached: datetime | None) -> Throttled:
    """The error with the time up to which events were read."""
    if reached is None:
        return cause
    what = f"{cause.what} Everything newer than {reached:%Y-%m-%d %H:%M:%S} UTC in {region} was found."
    return Throttled(what, f"Continue from there: the same line with --until {reached:%Y-%m-%dT%H:%M:%S}")


def _event(raw: dict[str, Any], region: str) -> TrailEvent:
    detail: dict[str, Any] = json.loads(raw.get("CloudTrailEvent") or "{}")
    resources = [each["ResourceName"] for each in raw.get("Resources", []) if each.get("ResourceName")]
    secret = (detail.get("requestParameters") or {}).get("secretId")
    error = _error(detail)
    return TrailEvent(
        time=utc(raw["EventTime"]),
        user=raw.get("Username", ""),
        event=raw["EventName"],
        source=raw.get("EventSource", "").removesuffix(".amazonaws.com"),
        address=detail.get("sourceIPAddress", ""),
        region=detail.get("awsRegion", region),
        access="read" if str(raw.get("ReadOnly", "")).lower() == "true" else "write",
        resources=list(dict.fromkeys([*resources, secret] if secret else resources)),
        error=error,
        unusual=_unusual(raw["EventName"], error, detail),
        id=raw.get("EventId", ""),
    )


def _error(detail: dict[str, Any]) -> str:
    failed = (detail.get("responseElements") or {}).get("ConsoleLogin") == "Failure"
    return clean_text(str(detail.get("errorCode") or (detail.get("errorMessage") or "Failure" if failed else "")), LINE)


def _unusual(name: str, error: str, detail: dict[str, Any]) -> str:
    """The reason why an event is flagged, empty if it is not."""
    if (detail.get("userIdentity") or {}).get("type") == "Root":
        return "the root user"
    if name == "ConsoleLogin":
        without = (detail.get("additionalEventData") or {}).get("MFAUsed") == "No"
        return "failed sign-in" if error else "signed in without MFA" if without else ""
    if any(error.startswith(word) or error.endswith(word) for word in DENIED):
        return "denied"
    return REASONS.get(name, "")
