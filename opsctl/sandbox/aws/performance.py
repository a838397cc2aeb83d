"""Performance Insights, which moto lacks, on the instances where it is switched on; and what RDS measured of connections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.moto_internals import backend
from opsctl.sandbox.aws.names import REGION
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

Operation = Callable[[Request], Mapping[str, Any] | Answer]

METRIC = "db.load.avg"
GROUP = "db.sql_tokenized"
MOST = 25
# Statement and the share of the load that is its.
TOP_SQL = (
    ("SELECT count ( * ) FROM refresh_sessions WHERE user_id = ? AND expires_at > now ( )", 0.46),
    ("SELECT * FROM users WHERE lower ( email ) = ?", 0.27),
    ("UPDATE users SET last_login_at = now ( ) WHERE id = ?", 0.12),
    ("INSERT INTO refresh_sessions ( user_id , token_hash , expires_at ) VALUES ( ... )", 0.06),
    ("DELETE FROM refresh_sessions WHERE token_hash = ?", 0.02),
)


class FakePerformanceInsights:
    """The calls of Performance Insights that the sandbox answers itself, by the service that signs them."""

    def __init__(self, timeline: EventLog, moto: MotoApp) -> None:
        self._timeline = timeline
        self._moto = moto
        self._on: set[str] = set()
        self.services: dict[str, dict[str, Operation]] = {
            "pi": {"GetResourceMetrics": self._metrics, "DescribeDimensionKeys": self._keys},
        }

    def switch_on(self, instance: str) -> None:
        """Have an instance watched; every instance gets a resource id of its own, as in AWS."""
        kept: Mapping[str, Any] = backend("rds.models.rds_backends", REGION).databases
        for name, database in kept.items():
            database.dbi_resource_id = "db-" + name.replace("-", "").upper().ljust(26, "X")
            database.performance_insights_enabled = name == instance
            if name == instance:
                self._on.add(database.dbi_resource_id)

    def _metrics(self, request: Request) -> Mapping[str, Any]:
        params, start, end = self._parse_request(request)
        period = int(params.get("PeriodInSeconds", 60))
        queries = params.get("MetricQueries") or []
        if [query.get("Metric") for query in queries] != [METRIC]:
            raise AwsError("InvalidArgumentException", f"The sandbox knows {METRIC} alone, and no groups of it.")
        times = range(int(start // period + 1) * period, int(end) + 1, period)
        points = [{"Timestamp": float(at), "Value": _load(at)} for at in times]
        return {
            "AlignedStartTime": start,
            "AlignedEndTime": end,
            "Identifier": params["Identifier"],
            "MetricList": [{"Key": {"Metric": METRIC}, "DataPoints": points}],
        }

    def _keys(self, request: Request) -> Mapping[str, Any]:
        params, start, end = self._parse_request(request)
        group = params.get("GroupBy") or {}
        if params.get("Metric") != METRIC or group.get("Group") != GROUP:
            raise AwsError("InvalidArgumentException", f"The sandbox knows {METRIC} by {GROUP} alone.")
        limit = int(group.get("Limit", 10))
        if not 1 <= limit <= MOST:
            raise AwsError("InvalidArgumentException", f"Limit must be between 1 and {MOST}.")
        average = _load((start + end) / 2)
        keys = [
            {"Dimensions": {f"{GROUP}.id": f"{number:040X}", f"{GROUP}.statement": text}, "Total": round(average * share, 4)}
            for number, (text, share) in enumerate(TOP_SQL[:limit], 1)
        ]
        return {"AlignedStartTime": start, "AlignedEndTime": end, "Keys": keys}

    def _parse_request(self, request: Request) -> tuple[dict[str, Any], float, float]:
        params = request.params
        if params.get("ServiceType") != "RDS" or params.get("Identifier") not in self._on:
            raise AwsError("InvalidArgumentException", f"Performance Insights is not enabled for {params.get('Identifier')}.")
        start, end = float(params.get("StartTime", 0)), float(params.get("EndTime", 0))
        if start >= end:
            raise AwsError("InvalidArgumentException", "StartTime must be before EndTime.")
        return params, start, end


def _load(at: float) -> float:
    """Active sessions at a time, about two and a half."""
    return round(2.5 + math.sin(at / 900), 4)
