"""Amazon CloudWatch Logs: the latest lines of a log group."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter
from opsctl.redaction import clean_text

POLL = 2.0
LATE = timedelta(seconds=30)
"""How late a line may arrive after newer ones."""


class LogLine(Struct, frozen=True):
    """One log event, in UTC."""

    at: datetime
    stream: str
    message: str

    @property
    def words(self) -> str:
        """The message as a person reads it, secrets hidden; a JSON object's fields as key=value, its type first."""
        text = clean_text(self.message)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if not isinstance(found, dict):
            return text
        kind = str(found.pop("type", found.pop("level", "")))
        # Decoded JSON escapes are foreign text too.
        return clean_text(" ".join([kind, *(f"{key}={value}" for key, value in found.items() if value is not None)]).strip())


class Logs(Adapter):
    """Log groups in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def recent(self, group: str, since: datetime, limit: int, pattern: str = "", region: str | None = None) -> list[LogLine]:
        """Return the latest `limit` lines since then that match, oldest first.

        `pattern` is CloudWatch's filter pattern. Every page since then is read, as AWS gives the oldest first; raises
        NotFound for an unknown group.
        """
        lines = (line for _, line in self._events(group, since, pattern, region))
        return sorted(heapq.nlargest(limit, lines, key=lambda line: line.at), key=lambda line: line.at)

    def follow(self, group: str, since: datetime, pattern: str = "", region: str | None = None, poll: float = POLL) -> Iterator[LogLine]:
        """The lines since then and new ones as they arrive, each once, until the caller stops or Ctrl-C."""
        shown: dict[str, datetime] = {}
        try:
            while True:
                for event, line in sorted(self._events(group, since, pattern, region), key=lambda found: found[1].at):
                    if event not in shown:
                        shown[event] = line.at
                        yield line
                since = max([since, *(at - LATE for at in shown.values())])
                shown = {event: at for event, at in shown.items() if at >= since}
                time.sleep(poll)
        except KeyboardInterrupt:
            # Ctrl-C ends the view.
            return

    def _events(self, group: str, since: datetime, pattern: str, region: str | None) -> Iterator[tuple[str, LogLine]]:
        only = {"filterPattern": pattern} if pattern else {}
        start = int(since.timestamp() * 1000)
        for page in self._aws.pages("logs", "filter_log_events", region=region, logGroupName=group, startTime=start, **only):
            for raw in page["events"]:
                at = datetime.fromtimestamp(raw["timestamp"] / 1000, UTC)
                yield raw["eventId"], LogLine(at, raw["logStreamName"], raw["message"].rstrip("\n"))
