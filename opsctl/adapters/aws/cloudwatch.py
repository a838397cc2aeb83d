"""Amazon CloudWatch: alarms and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter

MISSING = "MISSING"
AT_ONCE = 100
"""How many names DescribeAlarms takes."""

FRESH = timedelta(minutes=10)
"""RDS' figures come once a minute, and a few minutes late."""

SIGNS = {
    "GreaterThanOrEqualToThreshold": ">=",
    "GreaterThanThreshold": ">",
    "LessThanThreshold": "<",
    "LessThanOrEqualToThreshold": "<=",
}


class Alarm(Struct, frozen=True):
    """One alarm; `updated` is its last transition.

    `state`: OK, ALARM, INSUFFICIENT_DATA, or MISSING for a name that AWS doesn't know.
    """

    name: str
    state: str
    reason: str
    updated: datetime | None
    threshold: str


class Point(Struct, frozen=True):
    """One value of a metric, over the period that begins at `at`."""

    at: datetime
    value: float
    unit: str


class CloudWatch(Adapter):
    """CloudWatch in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def alarms(self, names: list[str], region: str | None = None) -> list[Alarm]:
        """Return the alarms named, in that order, or all there are when `names` is empty, by name."""
        wanted = [names[n : n + AT_ONCE] for n in range(0, len(names), AT_ONCE)] or [[]]
        found: dict[str, Alarm] = {}
        for some in wanted:
            only: dict[str, Any] = {"AlarmNames": some} if some else {}
            kinds = ["MetricAlarm", "CompositeAlarm"]
            for page in self._aws.pages("cloudwatch", "describe_alarms", region=region, AlarmTypes=kinds, **only):
                for raw in page.get("MetricAlarms", []) + page.get("CompositeAlarms", []):
                    found[raw["AlarmName"]] = _alarm(raw)
        if not names:
            return [found[name] for name in sorted(found)]
        return [found.get(name) or Alarm(name, MISSING, "no such alarm", None, "") for name in names]

    def metric(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        since: datetime,
        *,
        until: datetime | None = None,
        period: int = 60,
        statistic: str = "Average",
        region: str | None = None,
    ) -> list[Point]:
        """Return a metric's values since then, oldest first; `period` in seconds, at most 1,440 points.

        `dimensions` must be all that the metric has: AWS matches them exactly. `statistic` is one word (Average, Sum,
        Minimum, Maximum, SampleCount) or a percentile (p99).
        """
        extended = statistic[:1] == "p" and statistic[1:2].isdigit()
        answer = self._aws.call(
            "cloudwatch",
            "get_metric_statistics",
            region=region,
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=since,
            EndTime=until or datetime.now(UTC),
            Period=period,
            **{"ExtendedStatistics" if extended else "Statistics": [statistic]},
        )
        points = [
            Point(utc(p["Timestamp"]), p["ExtendedStatistics"][statistic] if extended else p[statistic], p.get("Unit", ""))
            for p in answer["Datapoints"]
        ]
        return sorted(points, key=lambda point: point.at)

    def newest(self, namespace: str, name: str, dimensions: Mapping[str, str], now: datetime) -> float | None:
        """The latest average of a metric in the ten minutes before `now`; None where CloudWatch has none."""
        points = self.metric(namespace, name, dimensions, now - FRESH, until=now)
        return points[-1].value if points else None


def _alarm(raw: dict[str, Any]) -> Alarm:
    changed = raw.get("StateTransitionedTimestamp") or raw.get("StateUpdatedTimestamp")
    return Alarm(
        name=raw["AlarmName"],
        state=raw["StateValue"],
        reason=raw.get("StateReason", ""),
        updated=utc(changed) if changed else None,
        threshold=_threshold(raw),
    )


def _threshold(raw: dict[str, Any]) -> str:
    """`CPUUtilization > 80 for 3 x 60 s`; a composite alarm's rule; a metric expression's threshold alone."""
    if "Threshold" not in raw:
        return str(raw.get("AlarmRule", ""))
    sign = SIGNS.get(raw["ComparisonOperator"], raw["ComparisonOperator"])
    times = f" for {raw['EvaluationPeriods']} x {raw['Period']} s" if raw.get("Period") else ""
    return f"{raw.get('MetricName', 'expression')} {sign} {raw['Threshold']:g}{times}"
