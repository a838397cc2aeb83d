"""Amazon SES: sending statistics, reputation, and the suppression list.

Facts: send statistics are points of 15 minutes over the last two weeks, in no order; the account's bounce and complaint rates are
CloudWatch metrics without dimensions, as fractions; SES reviews an account at 5 % bounces or 0.1 % complaints and may pause it at 10 % or
0.5 % (AWS, "Amazon SES Developer Guide", reputation metrics).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter

PAGE = 1_000
"""Maximum page size of ListSuppressedDestinations."""

REVIEW, PAUSE = {"bounces": 0.05, "complaints": 0.001}, {"bounces": 0.10, "complaints": 0.005}
"""The shares of mail from which SES reviews an account, and from which it may pause sending."""


class SendingStatistics(Struct, frozen=True):
    """What was sent and what bounced in the 15 minutes from `at`."""

    at: datetime
    attempts: int
    bounces: int
    complaints: int
    rejects: int


class SesAccount(Struct, frozen=True):
    """Whether the account may send (`enforcement`: HEALTHY, PROBATION or SHUTDOWN), and its quotas per day and per second."""

    sending: bool
    production: bool
    enforcement: str
    daily_quota: float
    sent_in_24h: float
    per_second: float


class Suppressed(Struct, frozen=True):
    """An address on the suppression list; `reason`: BOUNCE or COMPLAINT; `at` is when it was last put on the list."""

    address: str
    reason: str
    at: datetime


class Ses(Adapter):
    """Amazon SES in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def sent(self, region: str | None = None) -> list[SendingStatistics]:
        """The points of the last two weeks, oldest first; 15 minutes without mail have none."""
        answer = self._aws.call("ses", "get_send_statistics", region=region)
        points = [
            SendingStatistics(utc(p["Timestamp"]), p["DeliveryAttempts"], p["Bounces"], p["Complaints"], p["Rejects"])
            for p in answer.get("SendDataPoints", [])
        ]
        return sorted(points, key=lambda point: point.at)

    def account(self, region: str | None = None) -> SesAccount:
        """The account's sending status and quotas."""
        raw = self._aws.call("sesv2", "get_account", region=region)
        quota = raw.get("SendQuota", {})
        return SesAccount(
            sending=raw.get("SendingEnabled", False),
            production=raw.get("ProductionAccessEnabled", False),
            enforcement=raw.get("EnforcementStatus", "unknown"),
            daily_quota=quota.get("Max24HourSend", 0.0),
            sent_in_24h=quota.get("SentLast24Hours", 0.0),
            per_second=quota.get("MaxSendRate", 0.0),
        )

    def suppressed(self, region: str | None = None, page: int = PAGE) -> Iterator[Suppressed]:
        """The suppression list, `page` addresses per call; addresses in lower case."""
        more: dict[str, Any] = {}
        while True:
            answer = self._aws.call("sesv2", "list_suppressed_destinations", region=region, PageSize=page, **more)
            for raw in answer.get("SuppressedDestinationSummaries", []):
                yield Suppressed(raw["EmailAddress"].lower(), raw["Reason"], utc(raw["LastUpdateTime"]))
            if not (token := answer.get("NextToken")):
                return
            more = {"NextToken": token}
