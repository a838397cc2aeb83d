"""CloudWatch Logs Insights: run a query and wait for its rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter
from opsctl.errors import ExternalError

DEADLINE = 120.0
POLL = 0.5
ENDED = frozenset({"Complete", "Failed", "Cancelled", "Timeout", "Unknown"})


class Insights(Adapter):
    """Queries over log groups of one region; `pause` waits between two looks, in seconds."""

    def __init__(self, aws: AwsSession, pause: Callable[[float], None] = time.sleep) -> None:
        super().__init__(writing=aws.writing)
        self._aws, self._pause = aws, pause

    def rows(self, text: str, groups: list[str], start: datetime, end: datetime, region: str | None = None) -> list[dict[str, str]]:
        """Run a query and return its rows, the internal `@ptr` left out.

        Raises ExternalError with CloudWatch's own words for a malformed query, and for one that takes longer than two minutes, which
        is stopped.
        """
        asked = {"logGroupNames": groups, "startTime": int(start.timestamp()), "endTime": int(end.timestamp()), "queryString": text}
        query = self._aws.call("logs", "start_query", region=region, **asked)["queryId"]
        try:
            found = self._wait(query, region)
        except BaseException:
            with suppress(ExternalError):
                self._aws.call("logs", "stop_query", region=region, queryId=query)
            raise
        return [{cell["field"]: cell.get("value", "") for cell in row if cell["field"] != "@ptr"} for row in found]

    def _wait(self, query: str, region: str | None) -> list[list[dict[str, str]]]:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            answer = self._aws.call("logs", "get_query_results", region=region, queryId=query)
            if answer["status"] == "Complete":
                results: list[list[dict[str, str]]] = answer["results"]
                return results
            if answer["status"] in ENDED:
                raise ExternalError(f"The query ended with status {answer['status']}.", "Try a shorter --since.")
            self._pause(POLL)
        raise ExternalError(f"The query took longer than {DEADLINE:.0f} s and was stopped.", "Try a shorter --since.")
