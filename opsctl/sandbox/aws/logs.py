"""CloudWatch Logs: filter patterns as AWS reads them, and Insights queries that are really run; the rest is moto's."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.insights import Query, row_of
from opsctl.sandbox.aws.log_patterns import compile_pattern
from opsctl.sandbox.aws.moto_internals import backend
from opsctl.sandbox.aws.names import HH_REGION, REGION
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

LIVE_STREAM = "sandbox/live"
QUERY_SECONDS = 1.0
SCANNED = 1_000
"""How many events one page of FilterLogEvents looks at, so that a page may come without any."""
_TOKEN = "Bxkq6kVGFtq2y_Moig"
Event = tuple[str, Any]


@dataclass
class _Run:
    """A query under way until `ended` (epoch seconds), and what it found."""

    ended: float
    found: dict[str, Any]
    stopped: bool = False


class FakeLogs:
    """FilterLogEvents, StartQuery, GetQueryResults and StopQuery over moto's log groups."""

    def __init__(self, timeline: EventLog, wait: Callable[[float], float], moto: Callable[[Request], Answer]) -> None:
        self._timeline = timeline
        self._wait = wait
        self._moto = moto
        self._queries: dict[str, _Run] = {}
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "FilterLogEvents": self._filter,
            "StartQuery": self._start,
            "GetQueryResults": self._results,
            "StopQuery": self._stop,
        }

    def seed(self, region: str, group: str, stream: str, events: list[tuple[int, str]]) -> None:
        """Make a group with one stream; events are (epoch milliseconds, message), oldest first."""
        backend = self._backend(region)
        backend.create_log_group(group, {})
        backend.create_log_stream(group, stream)
        written = [{"timestamp": moment, "message": message} for moment, message in events]
        backend.put_log_events(group, stream, written)

    def write(self, group: str, moment: int, message: str) -> None:
        """Add a line (epoch milliseconds, message) to a group that was seeded; without the group it is dropped."""
        region = HH_REGION if group.startswith("/aws/lambda/hh-") else REGION
        backend = self._backend(region)
        if group not in backend.groups:
            return
        backend.ensure_log_stream(group, LIVE_STREAM)
        backend.put_log_events(group, LIVE_STREAM, [{"timestamp": moment, "message": message}])

    def _backend(self, region: str) -> Any:
        return backend("logs.models.logs_backends", region)

    def _group(self, request: Request, name: str) -> Any:
        group = self._backend(request.region).groups.get(name.removesuffix(":*").rpartition(":log-group:")[2])
        if group is None:
            raise AwsError("ResourceNotFoundException", "The specified log group does not exist.")
        return group

    def _filter(self, request: Request) -> dict[str, Any]:
        params = request.params
        group = self._group(request, str(params.get("logGroupName") or params.get("logGroupIdentifier", "")))
        test = compile_pattern(str(params.get("filterPattern", "")))
        start, end = params.get("startTime", 0), params.get("endTime")
        streams, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix", "")
        looked_at = [
            (stream, event)
            for stream, event in _events(group)
            if (not streams or stream in streams)
            and stream.startswith(prefix)
            and event.timestamp >= start
            and (end is None or event.timestamp <= end)
        ]
        first, limit = _position(params.get("nextToken")), int(params.get("limit") or 10_000)
        found: list[dict[str, Any]] = []
        last = first
        while last < min(len(looked_at), first + SCANNED) and len(found) < limit:
            stream, event = looked_at[last]
            last += 1
            if test(event.message):
                found.append({**event.to_filter_dict(), "logStreamName": stream})
        page: dict[str, Any] = {"events": found, "searchedLogStreams": []}
        return page | {"nextToken": f"{_TOKEN}{last}"} if last < len(looked_at) else page

    def _start(self, request: Request) -> dict[str, Any]:
        params = request.params
        given = params.get("logGroupNames") or params.get("logGroupIdentifiers")
        groups = [self._group(request, name) for name in given or [params.get("logGroupName", "")]]
        query = Query(str(params.get("queryString", "")))
        start, end = int(params["startTime"]) * 1000, int(params["endTime"]) * 1000 + 999
        if start > end:
            raise AwsError("InvalidParameterException", "End time should not be before start time.")
        rows = [
            row_of(event.message, event.timestamp, stream, group.name)
            for group in groups
            for stream, event in _events(group)
            if start <= event.timestamp <= end
        ]
        newest_first = sorted(rows, key=lambda row: -row["@epoch"])
        identifier = str(uuid.uuid4())
        results = query.run(newest_first)[: int(params.get("limit") or 10_000)]
        statistics = {
            "recordsMatched": float(len(results)),
            "recordsScanned": float(len(rows)),
            "bytesScanned": float(sum(len(row["@message"]) for row in rows)),
        }
        ended = self._timeline.now() + self._wait(QUERY_SECONDS)
        self._queries[identifier] = _Run(ended, {"results": results, "statistics": statistics})
        return {"queryId": identifier}

    def _results(self, request: Request) -> dict[str, Any]:
        run = self._run(request)
        if run.stopped or self._timeline.now() < run.ended:
            return {"status": "Cancelled" if run.stopped else "Running", "results": [], "statistics": {}}
        return {"status": "Complete", **run.found}

    def _stop(self, request: Request) -> dict[str, Any]:
        run = self._run(request)
        if run.stopped or self._timeline.now() >= run.ended:
            status = "Cancelled" if run.stopped else "Complete"
            raise AwsError("InvalidParameterException", f"Query has already ended with status '{status}'.")
        run.stopped = True
        return {"success": True}

    def _run(self, request: Request) -> _Run:
        found = self._queries.get(str(request.params.get("queryId")))
        if found is None:
            raise AwsError("ResourceNotFoundException", "The specified query does not exist.")
        return found


def _position(token: Any) -> int:
    if token is None:
        return 0
    if not str(token).startswith(_TOKEN) or not str(token).removeprefix(_TOKEN).isdecimal():
        raise AwsError("InvalidParameterException", "The specified nextToken is invalid.")
    return int(str(token).removeprefix(_TOKEN))


def _events(group: Any) -> Iterator[Event]:
    every = [(name, event) for name, stream in group.streams.items() for event in stream.events]
    return iter(sorted(every, key=lambda pair: int(pair[1].timestamp)))
