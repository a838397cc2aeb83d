"""CloudTrail's event history: two weeks that were there before, and every call since that changed something or read a secret."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.names import ACCOUNT, REGION
from opsctl.sandbox.aws.seed_trail import past
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

Operation = Callable[[Request], Mapping[str, Any] | Answer]

KEPT_EVENTS = 5_000
MOST_AT_ONCE = 50
RATE = 2
"""LookupEvents a second, in each region."""

_READS = re.compile(r"(Get|List|Describe|Head|BatchGet|Lookup|Filter|Generate|Start.*Query)")
_TOLD_READS = frozenset({"GetSecretValue"})
_UNTOLD = frozenset({"rds-data", "logs"})
"""Data events, which a trail doesn't tell by default."""
_GLOBAL = frozenset({"iam"})
_NAMED = (
    "UserName",
    "RoleName",
    "RoleArn",
    "SecretId",
    "DBClusterIdentifier",
    "DBInstanceIdentifier",
    "service",
    "FunctionName",
    "QueueName",
    "Name",
)
_CODE = re.compile(rb"<Code>(\w+)</Code>|\"__type\": ?\"([\w#.]+)\"")


@dataclass(frozen=True)
class RecordedCall:
    """One event, at `at` epoch seconds; `fields` are what its record says beside."""

    at: float
    user: str
    name: str
    source: str
    address: str
    region: str = REGION
    resources: tuple[str, ...] = ()
    key: str = ""
    reads: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


class FakeCloudTrail:
    """`wait` scales the second in which two look-ups are allowed; `owner` says whose an access key is."""

    def __init__(self, timeline: EventLog, wait: Callable[[float], float], owner: Callable[[str], str]) -> None:
        self._timeline, self._wait, self._owner = timeline, wait, owner
        self._events: deque[RecordedCall] = deque(maxlen=KEPT_EVENTS)
        self._asked: dict[str, list[float]] = {}
        self._number = count()
        self._lock = threading.Lock()
        self.services: dict[str, dict[str, Operation]] = {"cloudtrail": {"LookupEvents": self._look_up}}

    def seed(self) -> None:
        """What happened before; earlier than what was noted since, whenever that is asked for."""
        with self._lock:
            since = list(self._events)
            self._events.clear()
            self._events.extend(RecordedCall(**each, id=self._id()) for each in past(self._timeline.now()))
            self._events.extend(since)

    def note(self, request: Request, answer: Answer) -> None:
        """Keep a call that changed something, failed to, or read a secret."""
        reads = bool(_READS.match(request.operation))
        if not request.operation or request.service in _UNTOLD or (reads and request.operation not in _TOLD_READS):
            return
        failed = _CODE.search(answer.body) if answer.status >= 300 else None
        code = next((part.decode() for part in failed.groups() if part), "") if failed else ""
        happened = RecordedCall(
            at=self._timeline.now(),
            user=self._owner(request.access_key),
            name=request.operation,
            source=f"{request.service}.amazonaws.com",
            address=str(request.environ.get("REMOTE_ADDR", "127.0.0.1")),
            region=REGION if request.service in _GLOBAL else request.region,
            resources=_resource_names(request),
            key=request.access_key,
            reads=reads,
            fields={"errorCode": code} if code else {},
            id=self._id(),
        )
        with self._lock:
            self._events.append(happened)

    def rotation_failed(self, region: str, arn: str) -> None:
        """Keep Secrets Manager's own event of a rotation that failed; it names the secret in its additional data alone."""
        told = {"additionalEventData": {"SecretId": arn}, "errorMessage": "The rotation function failed at createSecret."}
        source = "secretsmanager.amazonaws.com"
        with self._lock:
            self._events.append(
                RecordedCall(self._timeline.now(), "", "RotationFailed", source, source, region, fields=told, id=self._id())
            )

    def _id(self) -> str:
        return str(uuid.UUID(int=next(self._number)))

    def _look_up(self, request: Request) -> Mapping[str, Any]:
        params = request.params
        self._throttle(request.region)
        attribute = _attribute(params.get("LookupAttributes") or [])
        most = params.get("MaxResults", MOST_AT_ONCE)
        if not 1 <= most <= MOST_AT_ONCE:
            raise AwsError("InvalidMaxResultsException", f"MaxResults is 1 to {MOST_AT_ONCE}.")
        start, end = params.get("StartTime", 0), params.get("EndTime", float("inf"))
        if start > end:
            raise AwsError("InvalidTimeRangeException", "The start of the time range is after its end.")
        with self._lock:
            known = list(self._events)
        found = [each for each in known if each.region == request.region and start <= each.at <= end and attribute(each)]
        found.sort(key=lambda each: (each.at, each.id), reverse=True)
        return _page(found, params, most)

    def _throttle(self, region: str) -> None:
        now = self._timeline.now()
        recent = [at for at in self._asked.get(region, []) if at > now - self._wait(1.0)]
        if len(recent) >= RATE:
            raise AwsError("ThrottlingException", "Rate exceeded")
        self._asked[region] = [*recent, now]


def _resource_names(request: Request) -> tuple[str, ...]:
    """What a call names; nothing where its parameters can't be read."""
    try:
        params = request.params
    except (AwsError, ValueError, TypeError):
        return ()
    return tuple(str(params[name]) for name in _NAMED if params.get(name))


def _attribute(asked: list[Mapping[str, str]]) -> Callable[[RecordedCall], bool]:
    """What an event has to have: one attribute at most, as CloudTrail does."""
    if len(asked) > 1:
        raise AwsError("InvalidLookupAttributesException", "Only one lookup attribute is supported.")
    if not asked:
        return lambda each: True
    key, value = asked[0].get("AttributeKey", ""), asked[0].get("AttributeValue", "")
    values: dict[str, Callable[[RecordedCall], Iterable[str]]] = {
        "Username": lambda each: [each.user],
        "EventName": lambda each: [each.name],
        "EventSource": lambda each: [each.source],
        "EventId": lambda each: [each.id],
        "AccessKeyId": lambda each: [each.key],
        "ReadOnly": lambda each: [str(each.reads).lower()],
        "ResourceName": lambda each: each.resources,
    }
    if key not in values or not value:
        raise AwsError("InvalidLookupAttributesException", f"There is no lookup by {key!r}.")
    return lambda each: value in values[key](each)


def _page(found: list[RecordedCall], params: Mapping[str, Any], most: int) -> Mapping[str, Any]:
    """The events after the one that the token names; a token belongs to the question that it came from."""
    question = json.dumps({k: v for k, v in params.items() if k not in ("NextToken", "MaxResults")}, sort_keys=True)
    digest = hashlib.sha256(question.encode()).hexdigest()[:16]
    first = 0
    if token := params.get("NextToken"):
        asked, _, last = token.partition("/")
        places = [number for number, each in enumerate(found) if each.id == last]
        if asked != digest or not places:
            raise AwsError("InvalidNextTokenException", "The token is of another look-up, or has expired.")
        first = places[0] + 1
    page = found[first : first + most]
    more = {"NextToken": f"{digest}/{page[-1].id}"} if len(found) > first + most else {}
    return {"Events": [_as_told(each) for each in page], **more}


def _as_told(each: RecordedCall) -> Mapping[str, Any]:
    identity = {"type": "IAMUser", "accountId": ACCOUNT, "userName": each.user, "accessKeyId": each.key}
    record = {
        "eventVersion": "1.09",
        "eventID": each.id,
        "eventName": each.name,
        "eventSource": each.source,
        "awsRegion": each.region,
        "sourceIPAddress": each.address,
        "readOnly": each.reads,
        "userIdentity": identity,
        **each.fields,
    }
    return {
        "EventId": each.id,
        "EventName": each.name,
        "ReadOnly": str(each.reads).lower(),
        "AccessKeyId": each.key,
        "EventTime": each.at,
        "EventSource": each.source,
        "Username": each.user,
        "Resources": [{"ResourceType": "AWS::Resource", "ResourceName": name} for name in each.resources],
        "CloudTrailEvent": json.dumps(record),
    }
