"""Amazon CloudWatch: alarms and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import DriftError, ExternalError
from opsctl.redaction import LINE, clean_text

MISSING = "MISSING"
ALARM = "ALARM"
COMPLETE = "Complete"
AT_ONCE = 100
"""How many names DescribeAlarms accepts."""
LONGEST = 255
"""How many characters an alarm's name may have."""

FRESH = timedelta(minutes=10)
"""RDS metrics have one value a minute, a few minutes late."""

SIGNS = {
    "GreaterThanOrEqualToThreshold": ">=",
    "GreaterThanThreshold": ">",
    "LessThanThreshold": "<",
    "LessThanOrEqualToThreshold": "<=",
}


class Alarm(Struct, frozen=True):
    """One alarm; `updated` is its last change of state, not of the reason.

    `state`: OK, ALARM, INSUFFICIENT_DATA, or MISSING for an unknown name. `warning` is the reason why its state is unreliable or why
    nobody is notified.
    """

    name: str
    state: str
    reason: str
    updated: datetime | None
    threshold: str
    warning: str = ""


class DataPoint(Struct, frozen=True):
    """One value of a metric, over the period that begins at `at`."""

    at: datetime
    value: float
    unit: str


class Metric(Struct, frozen=True):
    """One metric with all of its dimensions, as AWS matches them exactly; `statistic` as in `CloudWatch.metric`."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str = "Average"


class CloudWatch(Adapter):
    """CloudWatch in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def alarms(self, names: list[str], region: str | None = None) -> list[Alarm]:
        """The named alarms in that order, or all alarms sorted by name when `names` is empty."""
        possible = [name for name in names if 0 < len(name) <= LONGEST]
        wanted = [possible[n : n + AT_ONCE] for n in range(0, len(possible), AT_ONCE)] or ([] if names else [[]])
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
    ) -> list[DataPoint]:
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
            DataPoint(utc(p["Timestamp"]), p["ExtendedStatistics"][statistic] if extended else p[statistic], p.get("Unit", ""))
            for p in answer["Datapoints"]
        ]
        return sorted(points, key=lambda point: point.at)

    def latest(self, namespace: str, name: str, dimensions: Mapping[str, str], now: datetime) -> float | None:
        """The latest value of one metric; see `newest`."""
        return self.newest([Metric(namespace, name, dimensions)], now)[0]

    def newest(self, wanted: Sequence[Metric], now: datetime) -> list[float | None]:
        """The latest value of each metric in the ten minutes before `now`, in one call; None without a value."""
        return [points[-1].value if points else None for points in self.metrics(wanted, now - FRESH, until=now)]

    def metrics(
        self, wanted: Sequence[Metric], since: datetime, *, until: datetime | None = None, period: int = 60, region: str | None = None
    ) -> list[list[DataPoint]]:
        """The values of several metrics (at most 500) in their order, each oldest first.

        Raises ExternalError when CloudWatch returned only a part of a metric: missing values are not zero.
        """
        found: dict[str, list[DataPoint]] = {f"m{number}": [] for number in range(len(wanted))}
        told = dict.fromkeys(found, COMPLETE)
        queries = [{"Id": id, "MetricStat": _stat(metric, period)} for id, metric in zip(found, wanted, strict=True)]
        span = {"StartTime": since, "EndTime": until or datetime.now(UTC), "ScanBy": "TimestampAscending"}
        for page in self._aws.pages("cloudwatch", "get_metric_data", region=region, MetricDataQueries=queries, **span):
            for result in page["MetricDataResults"]:
                pairs = zip(result["Timestamps"], result["Values"], strict=True)
                found[result["Id"]] += [DataPoint(utc(at), float(value), "") for at, value in pairs]
                told[result["Id"]] = result.get("StatusCode", COMPLETE)
        for metric, status in zip(wanted, told.values(), strict=True):
            if status != COMPLETE:
                raise ExternalError(f"CloudWatch returned only a part of {metric.namespace} {metric.name} ({status}).", "Ask again.")
        return list(found.values())

    @writes
    def annotate(self, name: str, transition: datetime, reason: str) -> None:
        """Change the reason of an alarm that has been in ALARM since `transition`; its next evaluation may overwrite it.

        Raises DriftError if its state has changed, because SetAlarmState would then change the state and run its actions.
        """
        (alarm,) = self.alarms([name])
        if alarm.state != ALARM or alarm.updated != transition:
            raise DriftError(f"The alarm {name} has changed since the plan: it is now {alarm.state}.", "Show it: opsctl alarms list")
        self._aws.call("cloudwatch", "set_alarm_state", AlarmName=name, StateValue=ALARM, StateReason=reason)


def _stat(metric: Metric, period: int) -> dict[str, Any]:
    dimensions = [{"Name": key, "Value": value} for key, value in metric.dimensions.items()]
    asked = {"Namespace": metric.namespace, "MetricName": metric.name, "Dimensions": dimensions}
    return {"Metric": asked, "Period": period, "Stat": metric.statistic}


def _alarm(raw: dict[str, Any]) -> Alarm:
    changed = raw.get("StateTransitionedTimestamp") or raw.get("StateUpdatedTimestamp")
    return Alarm(
        name=raw["AlarmName"],
        state=raw["StateValue"],
        reason=clean_text(raw.get("StateReason", ""), LINE),
        updated=utc(changed) if changed else None,
        threshold=_threshold(raw),
        warning=_warning(raw),
    )


def _warning(raw: dict[str, Any]) -> str:
    """The reason why an alarm's state is unreliable or nobody is notified; empty for a working alarm."""
    doubts = [f"its evaluation is {state}" for state in [raw.get("EvaluationState")] if state]
    if not raw.get("ActionsEnabled", True):
        doubts.append("its actions are disabled, so nobody is notified")
    elif by := raw.get("ActionsSuppressedBy"):
        doubts.append(f"its actions are suppressed ({by}), so nobody is notified")
    return "; ".join(doubts)


def _threshold(raw: dict[str, Any]) -> str:
    """`CPUUtilization > 80 for 3 x 60 s`; a composite alarm's rule; a metric expression's threshold alone."""
    if "Threshold" not in raw:
        return str(raw.get("AlarmRule", ""))
    sign = SIGNS.get(raw["ComparisonOperator"], raw["ComparisonOperator"])
    times = f" for {raw['EvaluationPeriods']} x {raw['Period']} s" if raw.get("Period") else ""
    return f"{raw.get('MetricName', 'expression')} {sign} {raw['Threshold']:g}{times}"
