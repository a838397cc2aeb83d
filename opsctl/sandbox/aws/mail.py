"""SES and its queue: what moto lacks or does otherwise than AWS; the rest is moto's.

Facts: send statistics come in points of 15 minutes over two weeks, in no order; both of SES's APIs sign as `ses`, and the second one
tells times in epoch seconds; a suppressed address is kept in lower case (AWS, "Amazon SES API Reference").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from opsctl.sandbox.aws import notifications
from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.names import REGION
from opsctl.sandbox.aws.sns_signing import Signer
from opsctl.sandbox.aws.wire import Answer, AwsError, Request, query_answer

Operation = Callable[[Request], Mapping[str, Any] | Answer]

NAMESPACE = "http://ses.amazonaws.com/doc/2010-12-01/"
QUARTER = 900
POINTS = 14 * 96
DAY = 86_400
PAGE = 1_000
QUOTA = 50_000.0
# The users on SES's list, by number.
BOUNCED, COMPLAINED = (21, 22, 23, 24, 700), (41, 42, 1700)
REASONS = ("BOUNCE", "COMPLAINT")


@dataclass(frozen=True)
class MailStatistics:
    """What was sent in the quarter of an hour that begins at `at` (epoch seconds)."""

    at: int
    attempts: int
    bounces: int
    complaints: int
    rejects: int


def sent(now: float) -> Iterator[MailStatistics]:
    """Two weeks of mail until `now`: 2 % comes back, rising to 5 % over the last two days."""
    last = int(now) // QUARTER * QUARTER
    due = {"bounces": 0.0, "complaints": 0.0}
    for number in range(POINTS):
        before_end = POINTS - 1 - number
        attempts = round(60 + 40 * math.sin(number * math.tau / 96))
        rate = 0.02 + 0.005 * math.sin(number / 50) + 0.032 * max(0.0, 1 - before_end / 192)
        due["bounces"] += attempts * rate
        due["complaints"] += attempts * 0.0006
        whole = {name: int(amount) for name, amount in due.items()}
        for name, amount in whole.items():
            due[name] -= amount
        yield MailStatistics(last - before_end * QUARTER, attempts, whole["bounces"], whole["complaints"], int(number % 300 == 0))


class FakeSes:
    """The calls of SES and its queue that the sandbox answers itself, by the service that signs them."""

    def __init__(self, timeline: EventLog, moto: MotoApp, signer: Signer) -> None:
        self._timeline = timeline
        self._signer = signer
        self._moto = moto
        self._suppressed: dict[str, tuple[str, float]] = {}
        self.services: dict[str, dict[str, Operation]] = {
            "ses": {
                "GetSendStatistics": self._statistics,
                "GetAccount": self._account,
                "ListSuppressedDestinations": self._list,
                "GetSuppressedDestination": self._get,
                "PutSuppressedDestination": self._put,
                "DeleteSuppressedDestination": self._delete,
            },
        }

    def seed(self) -> None:
        """A queue for SES's notifications, a sender, and the addresses that SES no longer sends to."""
        self._moto.json("sqs", REGION, "AmazonSQS.CreateQueue", {"QueueName": "ses-notifications"})
        notifications.fill(self._moto, self._timeline.now(), self._signer)
        self._moto.query("ses", REGION, "VerifyEmailIdentity", EmailAddress="no-reply@example.com")
        now = self._timeline.now()
        gone = [f"former{number}@example.{('net', 'org')[number % 2]}" for number in range(1, 9)]
        for days, address in enumerate([*(f"user{number}@example.com" for number in BOUNCED), *gone], 1):
            self._suppressed[address] = ("BOUNCE", now - 4 * days * DAY)
        for days, number in enumerate(COMPLAINED, 1):
            self._suppressed[f"user{number}@example.com"] = ("COMPLAINT", now - 5 * days * DAY)

    def _statistics(self, request: Request) -> Answer:
        points = "".join(
            f"<member><Timestamp>{datetime.fromtimestamp(p.at, UTC):%Y-%m-%dT%H:%M:%SZ}</Timestamp>"
            f"<DeliveryAttempts>{p.attempts}</DeliveryAttempts><Bounces>{p.bounces}</Bounces>"
            f"<Complaints>{p.complaints}</Complaints><Rejects>{p.rejects}</Rejects></member>"
            for p in sorted(sent(self._timeline.now()), key=lambda p: p.at * 7919 % 10_007)
        )
        return query_answer(request, NAMESPACE, f"<SendDataPoints>{points}</SendDataPoints>")

    def _account(self, request: Request) -> dict[str, Any]:
        lately = list(sent(self._timeline.now()))[-96:]
        return {
            "SendingEnabled": True,
            "ProductionAccessEnabled": True,
            "EnforcementStatus": "HEALTHY",
            "DedicatedIpAutoWarmupEnabled": False,
            "SendQuota": {"Max24HourSend": QUOTA, "MaxSendRate": 14.0, "SentLast24Hours": float(sum(p.attempts for p in lately))},
            "SuppressionAttributes": {"SuppressedReasons": list(REASONS)},
        }

    def _list(self, request: Request) -> dict[str, Any]:
        asked = parse_qs(str(request.environ.get("QUERY_STRING", "")))
        size = int(asked.get("PageSize", [str(PAGE)])[0])
        if not 1 <= size <= PAGE:
            raise AwsError("BadRequestException", f"PageSize must be between 1 and {PAGE}.")
        reasons = asked.get("Reason", list(REASONS))
        after = _seconds(asked.get("StartDate", ["1970-01-01T00:00:00Z"])[0])
        before = _seconds(asked.get("EndDate", ["2999-01-01T00:00:00Z"])[0])
        found = [a for a, (reason, at) in sorted(self._suppressed.items()) if reason in reasons and after < at < before]
        if last := asked.get("NextToken", [""])[0]:
            found = [address for address in found if address > last]
        more = {"NextToken": found[size - 1]} if len(found) > size else {}
        return {"SuppressedDestinationSummaries": [self._summary(address) for address in found[:size]], **more}

    def _get(self, request: Request) -> dict[str, Any]:
        return {"SuppressedDestination": self._summary(self._known(request))}

    def _put(self, request: Request) -> dict[str, Any]:
        reason = str(request.params.get("Reason"))
        if reason not in REASONS:
            raise AwsError("BadRequestException", f"Reason must be one of {', '.join(REASONS)}.")
        self._suppressed[str(request.params["EmailAddress"]).lower()] = (reason, self._timeline.now())
        return {}

    def _delete(self, request: Request) -> dict[str, Any]:
        del self._suppressed[self._known(request)]
        return {}

    def _known(self, request: Request) -> str:
        address = str(request.params["EmailAddress"]).lower()
        if address not in self._suppressed:
            raise AwsError("NotFoundException", f"Email address {address} does not exist on your suppression list.", 404)
        return address

    def _summary(self, address: str) -> dict[str, Any]:
        reason, at = self._suppressed[address]
        return {"EmailAddress": address, "Reason": reason, "LastUpdateTime": at}


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
