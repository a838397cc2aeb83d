"""Amazon CloudWatch Logs: the latest lines of a log group."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter


class Line(Struct, frozen=True):
    """One log event, in UTC."""

    at: datetime
    stream: str
    message: str


class Logs(Adapter):
    """Log groups in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def recent(self, group: str, since: datetime, limit: int, pattern: str = "", region: str | None = None) -> list[Line]:
        """Return the latest `limit` lines since then that match, oldest first.

        `pattern` is CloudWatch's filter pattern. Every page since then is read, as AWS gives the oldest first; raises
        NotFound for an unknown group.
        """
        only = {"filterPattern": pattern} if pattern else {}
        start = int(since.timestamp() * 1000)
        lines = (
            Line(datetime.fromtimestamp(raw["timestamp"] / 1000, UTC), raw["logStreamName"], raw["message"].rstrip("\n"))
            for page in self._aws.pages("logs", "filter_log_events", region=region, logGroupName=group, startTime=start, **only)
            for raw in page["events"]
        )
        return sorted(heapq.nlargest(limit, lines, key=lambda line: line.at), key=lambda line: line.at)
