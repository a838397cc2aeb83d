"""CloudWatch: dimensions match exactly, percentiles are answered, alarms know when they changed, as in AWS; the rest is moto's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.figures import MetricDatum, MetricValues
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.moto_internals import backend, part
from opsctl.sandbox.aws.names import REGION
from opsctl.sandbox.aws.wire import Answer, Request

# Alarm name, namespace, metric, threshold, state, minutes ago that it came into that state.
_ALARMS = (
    ("Safawinet-ALB-5xx-Errors", "AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", 10, "OK", 3 * 1440),
    ("Safawinet-ECS-CPU", "AWS/ECS", "CPUUtilization", 70, "OK", 2 * 1440),
    ("Safawinet-RDS-Connections", "AWS/RDS", "DatabaseConnections", 80, "ALARM", 25),
    ("Safawinet-Redis-Memory", "AWS/ElastiCache", "DatabaseMemoryUsagePercentage", 80, "OK", 3 * 1440),
)
_PAGE = 100


class MetricSource:
    """What a request is answered from: what the sandbox's own world measured until `now`, and what was put by PutMetricData."""

    def __init__(self, figures: MetricValues, now: float, region: str, put: list[Any]) -> None:
        self._figures, self._now, self._region, self._put = figures, now, region, put

    def data(self, namespace: str, metric: str, given: list[dict[str, str]], start: float, end: float) -> list[MetricDatum]:
        """The figures of a metric with exactly these dimensions, in a span of epoch seconds."""
        dimensions = frozenset((pair["Name"], pair["Value"]) for pair in given)
        put = [
            MetricDatum(_seconds(datum.timestamp), float(getattr(datum, "value", 0.0)), datum.unit or "None")
            for datum in self._put
            if datum.name == metric
            and datum.namespace == namespace
            and start <= _seconds(datum.timestamp) < end
            and {(dimension.name, dimension.value) for dimension in datum.dimensions} == dimensions
        ]
        return [*self._figures.data((self._region, namespace, metric, dimensions), start, min(end, self._now)), *put]


class FakeCloudWatch:
    """Mends moto's CloudWatch in place, since the request comes in any of three protocols that moto reads."""

    def __init__(self, timeline: EventLog, moto: MotoApp) -> None:
        self._timeline = timeline
        self._moto = moto
        self._figures = MetricValues()
        mended = ("GetMetricStatistics", "GetMetricData", "DescribeAlarms", "DescribeAlarmHistory", "SetAlarmState")
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = dict.fromkeys(mended, self._mended)

    def seed(self, now: float) -> None:
        """Make the four alarms, and figures from three hours before `now` on, a minute each for as long as the world is up."""
        self._mend()
        self._figures.begin(now)
        for name, namespace, metric, threshold, state, minutes in _ALARMS:
            self._moto.query(
                "monitoring",
                REGION,
                "PutMetricAlarm",
                AlarmName=name,
                Namespace=namespace,
                MetricName=metric,
                Threshold=threshold,
                ComparisonOperator="GreaterThanThreshold",
                EvaluationPeriods=5,
                Period=60,
                Statistic="Average",
            )
            alarm = _backend(REGION).alarms[name]
            alarm.state_value = "INSUFFICIENT_DATA"
            _change(alarm, f"Threshold Crossed: {metric} against {threshold}", "{}", state, now - minutes * 60)

    def measure(self, namespace: str, metric: str, dimensions: Mapping[str, str], value: float) -> None:
        """Have the world measure so much in this minute."""
        self._figures.measure((REGION, namespace, metric, frozenset(dimensions.items())), value, self._timeline.now())

    def force(self, metric: str, value: float, since: float) -> None:
        """Have every figure of a metric be `value` from `since` on; raises KeyError for a metric that there isn't."""
        self._figures.force(metric, value, since)

    def let_go(self) -> None:
        """Let every figure be the computed one again."""
        self._figures.let_go()

    def _mended(self, request: Request) -> Answer:
        self._mend()
        return self._moto(request)

    def _mend(self) -> None:
        """Put what AWS does in the place of what moto does, for the world that this is."""
        now = self._timeline.now
        methods: dict[str, Callable[[Any], Any]] = {
            "get_metric_statistics": lambda response: _get_metric_statistics(self._source(response), response),
            "get_metric_data": lambda response: _get_metric_data(self._source(response), response),
            "describe_alarm_history": _describe_alarm_history,
        }
        for name, method in methods.items():
            setattr(part("cloudwatch.responses.CloudWatchResponse"), name, method)

        def update_state(alarm: Any, reason: str, data: str | None, state: str) -> None:
            _change(alarm, reason, data or "{}", state, now())

        setattr(part("cloudwatch.models.Alarm"), "update_state", update_state)  # noqa: B010
        # An alarm that was put and never changed has been so since it was put.
        setattr(part("cloudwatch.models.Alarm"), "state_transitioned_timestamp", property(_since))  # noqa: B010

    def _source(self, response: Any) -> MetricSource:
        return MetricSource(self._figures, self._timeline.now(), response.region, response.cloudwatch_backend.metric_data)


def _backend(region: str) -> Any:
    return backend("cloudwatch.models.cloudwatch_backends", region)


def _since(alarm: Any) -> datetime:
    found: datetime = getattr(alarm, "transitioned", None) or alarm.state_updated_timestamp
    return found


def _change(alarm: Any, reason: str, data: str, state: str, at: float) -> None:
    """Give an alarm a state; only another one than it has is a transition, with a line in its history."""
    moment = datetime.fromtimestamp(at, UTC)
    if state != alarm.state_value:
        alarm.transitioned = moment
        alarm.history.append(
            {
                "AlarmName": alarm.name,
                "AlarmType": "MetricAlarm" if alarm.rule is None else "CompositeAlarm",
                "Timestamp": moment,
                "HistoryItemType": "StateUpdate",
                "HistorySummary": f"Alarm updated from {alarm.state_value} to {state}",
                "HistoryData": json.dumps(
                    {
                        "version": "1.0",
                        "oldState": {"stateValue": alarm.state_value, "stateReason": alarm.state_reason},
                        "newState": {"stateValue": state, "stateReason": reason},
                    }
                ),
            }
        )
    alarm.state_reason, alarm.state_reason_data, alarm.state_value = reason, data, state
    alarm.state_updated_timestamp = moment


def _describe_alarm_history(response: Any) -> Any:
    asked = {key: response._get_param(key) for key in ("AlarmName", "HistoryItemType", "StartDate", "EndDate", "ScanBy")}
    first, most = int(response._get_param("NextToken") or 0), min(int(response._get_param("MaxRecords") or _PAGE), _PAGE)
    items = [
        item
        for alarm in response.cloudwatch_backend.alarms.values()
        for item in alarm.history
        if asked["AlarmName"] in (None, alarm.name)
        and asked["HistoryItemType"] in (None, item["HistoryItemType"])
        and (asked["StartDate"] is None or _seconds(asked["StartDate"]) <= _seconds(item["Timestamp"]))
        and (asked["EndDate"] is None or _seconds(item["Timestamp"]) <= _seconds(asked["EndDate"]))
    ]
    items.sort(key=lambda item: _seconds(item["Timestamp"]), reverse=asked["ScanBy"] != "TimestampAscending")
    more = {"NextToken": str(first + most)} if first + most < len(items) else {}
    return part("core.responses.ActionResult")({"AlarmHistoryItems": items[first : first + most], **more})


def _get_metric_statistics(source: MetricSource, response: Any) -> Any:
    names = [*response._get_param("Statistics", []), *response._get_param("ExtendedStatistics", [])]
    if not names:
        raise part("cloudwatch.exceptions.InvalidParameterCombination")("Must specify either Statistics or ExtendedStatistics")
    start, end = _span(response)
    metric = response._get_param("MetricName")
    data = source.data(response._get_param("Namespace"), metric, response._get_param("Dimensions", []), start, end)
    return part("core.responses.ActionResult")(
        {"Label": metric, "Datapoints": _datapoints(data, names, int(response._get_param("Period")), start)}
    )


def _get_metric_data(source: MetricSource, response: Any) -> Any:
    start, end = _span(response)
    descending = response._get_param("ScanBy") != "TimestampAscending"
    results = []
    for query in response._get_param("MetricDataQueries", []):
        if "MetricStat" not in query:
            raise part("cloudwatch.exceptions.ValidationError")("The sandbox serves no expressions: every query needs a MetricStat.")
        stat = query["MetricStat"]
        metric, name = stat["Metric"], stat["Stat"]
        data = source.data(metric["Namespace"], metric["MetricName"], metric.get("Dimensions", []), start, end)
        points = _datapoints(data, [name], int(stat["Period"]), start)
        if descending:
            points.reverse()
        values = [point["ExtendedStatistics"][name] if name not in point else point[name] for point in points]
        times = [point["Timestamp"] for point in points]
        label = query.get("Label") or metric["MetricName"]
        results.append({"Id": query["Id"], "Label": label, "Timestamps": times, "Values": values, "StatusCode": "Complete"})
    return part("core.responses.ActionResult")({"MetricDataResults": results, "Messages": []})


def _span(response: Any) -> tuple[float, float]:
    start, end = (_seconds(response._get_param(name)) for name in ("StartTime", "EndTime"))
    if start >= end:
        raise part("cloudwatch.exceptions.InvalidParameterValue")("The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _datapoints(data: list[MetricDatum], names: list[str], period: int, start: float) -> list[dict[str, Any]]:
    buckets: dict[int, list[MetricDatum]] = {}
    for datum in data:
        buckets.setdefault(int((datum.at - start) // period), []).append(datum)
    points = []
    for number, bucket in sorted(buckets.items()):
        values = sorted(datum.value for datum in bucket)
        point: dict[str, Any] = {"Timestamp": datetime.fromtimestamp(start + number * period, UTC), "Unit": bucket[0].unit}
        extended = {name: _percentile(values, float(name[1:])) for name in names if name.startswith("p")}
        plain = _statistics(values)
        point |= {name: plain[name] for name in names if name in plain}
        points.append({**point, "ExtendedStatistics": extended} if extended else point)
    return points


def _statistics(values: list[float]) -> dict[str, float]:
    total = math.fsum(values)
    counted = {"Sum": total, "Average": total / len(values), "SampleCount": float(len(values))}
    return {**counted, "Minimum": values[0], "Maximum": values[-1]}


def _percentile(values: list[float], percent: float) -> float:
    """Linear interpolation between the two nearest ranks of sorted values."""
    position = (len(values) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)
