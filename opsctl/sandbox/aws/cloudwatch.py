"""CloudWatch: dimensions match exactly and percentiles are answered, as AWS does; the rest is moto's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from opsctl.sandbox.aws.moto_app import Moto
from opsctl.sandbox.aws.names import ACCOUNT, CLUSTER, HH_REGION, REGION
from opsctl.sandbox.aws.wire import Answer, Request

Datum = Any
MINUTES = 180
A_DAY = range(MINUTES, MINUTES + 24 * 60, 5)
# Alarm name, namespace, metric, threshold, state.
_ALARMS = (
    ("Safawinet-ALB-5xx-Errors", "AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", 10, "OK"),
    ("Safawinet-ECS-CPU", "AWS/ECS", "CPUUtilization", 80, "OK"),
    ("Safawinet-RDS-Connections", "AWS/RDS", "DatabaseConnections", 80, "ALARM"),
    ("Safawinet-Redis-Memory", "AWS/ElastiCache", "DatabaseMemoryUsagePercentage", 75, "OK"),
)


class CloudWatch:
    """Mends moto's GetMetricStatistics in place, since the request comes in any of three protocols that moto reads."""

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {"GetMetricStatistics": self._statistics}

    def seed(self, now: float) -> None:
        """Make the four alarms, and three hours of figures of services, databases, functions and the WAF until `now`."""
        for name, namespace, metric, threshold, state in _ALARMS:
            self._moto.query(
                "monitoring",
                REGION,
                "PutMetricAlarm",
                AlarmName=name,
                Namespace=namespace,
                MetricName=metric,
                Threshold=threshold,
                ComparisonOperator="GreaterThanThreshold",
                EvaluationPeriods=2,
                Period=300,
                Statistic="Average",
            )
            reason = f"Threshold Crossed: {metric} against {threshold}"
            fields = {"AlarmName": name, "StateValue": state, "StateReason": reason}
            self._moto.query("monitoring", REGION, "SetAlarmState", **fields)
        for service, level in (("safawinet-api-prod", 35.0), ("safawinet-worker-prod", 20.0)):
            here = {"ClusterName": CLUSTER, "ServiceName": service}
            _put(REGION, "AWS/ECS", "CPUUtilization", here, now, partial(_wave, level), "Percent")
        for function, runs in (("hh-webhook", 2), ("hh-lease", 30), ("hh-authz", 31)):
            here = {"FunctionName": function}
            _put(HH_REGION, "AWS/Lambda", "Invocations", here, now, partial(_always, runs))
            _put(HH_REGION, "AWS/Lambda", "Errors", here, now, lambda minute: int(minute % 45 == 0))
        for number, instance in enumerate((CLUSTER, f"{CLUSTER}-2", f"{CLUSTER}-3", "safawinet-reports")):
            here = {"DBInstanceIdentifier": instance}
            _put(REGION, "AWS/RDS", "CPUUtilization", here, now, partial(_wave, 30.0 - 5 * number), "Percent", A_DAY)
            _put(REGION, "AWS/RDS", "DatabaseConnections", here, now, partial(_always, 24 - 6 * number), ahead=A_DAY)
            if number < 3:
                _put(REGION, "AWS/RDS", "AuroraReplicaLag", here, now, partial(_always, 18 + number), "Milliseconds", A_DAY)
        for metric, level in (("Reputation.BounceRate", 0.047), ("Reputation.ComplaintRate", 0.0006)):
            _put(REGION, "AWS/SES", metric, {}, now, partial(_always, level), "None")
        here = {"WebACL": "hh-prod", "Rule": "ALL", "Region": HH_REGION}
        _put(HH_REGION, "AWS/WAFV2", "AllowedRequests", here, now, lambda minute: 31)
        _put(HH_REGION, "AWS/WAFV2", "BlockedRequests", here, now, lambda minute: int(minute % 10 == 0))
        here = {"WebACL": "safawinet-prod", "Rule": "ALL", "Region": REGION}
        for metric, level in (("AllowedRequests", 800), ("BlockedRequests", 6)):
            _put(REGION, "AWS/WAFV2", metric, here, now, partial(_always, level))

    def _statistics(self, request: Request) -> Answer:
        from moto.cloudwatch.responses import CloudWatchResponse

        setattr(CloudWatchResponse, "get_metric_statistics", _get_metric_statistics)  # noqa: B010
        return self._moto(request)


def _wave(level: float, minute: int) -> float:
    return level + 10 * math.sin(minute / 20)


def _always(value: float, minute: int) -> float:
    return value


def _put(
    region: str,
    namespace: str,
    metric: str,
    dimensions: Mapping[str, str],
    now: float,
    value: Callable[[int], float],
    unit: str = "Count",
    ahead: range = range(0),
) -> None:
    """Put a value for each minute of the last three hours, and for those minutes `ahead` at which a gauge will still be read."""
    from moto.cloudwatch.models import cloudwatch_backends

    first = now // 60 * 60 - MINUTES * 60
    data = [
        {
            "MetricName": metric,
            "Value": value(minute),
            "Unit": unit,
            "Dimensions": [{"Name": name, "Value": word} for name, word in dimensions.items()],
            "Timestamp": datetime.fromtimestamp(first + minute * 60, UTC).replace(tzinfo=None),
        }
        for minute in (*range(MINUTES), *ahead)
    ]
    cloudwatch_backends[ACCOUNT][region].put_metric_data(namespace, data)


def _get_metric_statistics(response: Any) -> Any:
    """What replaces the method of moto's CloudWatchResponse."""
    from moto.cloudwatch.exceptions import InvalidParameterCombination, InvalidParameterValue
    from moto.core.responses import ActionResult

    names = [*response._get_param("Statistics", []), *response._get_param("ExtendedStatistics", [])]
    if not names:
        raise InvalidParameterCombination("Must specify either Statistics or ExtendedStatistics")
    start, end = response._get_param("StartTime"), response._get_param("EndTime")
    if start >= end:
        raise InvalidParameterValue("The parameter StartTime must be less than the parameter EndTime.")
    period = int(response._get_param("Period"))
    metric, namespace = response._get_param("MetricName"), response._get_param("Namespace")
    dimensions = {(pair["Name"], pair["Value"]) for pair in response._get_param("Dimensions", [])}
    data = [
        datum
        for datum in response.cloudwatch_backend.get_all_metrics()
        if datum.namespace == namespace
        and datum.name == metric
        and _seconds(start) <= _seconds(datum.timestamp) < _seconds(end)
        and {(dimension.name, dimension.value) for dimension in datum.dimensions} == dimensions
    ]
    return ActionResult({"Label": metric, "Datapoints": _datapoints(data, names, period, _seconds(start))})


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _datapoints(data: list[Datum], names: list[str], period: int, start: float) -> list[dict[str, Any]]:
    buckets: dict[int, list[Datum]] = {}
    for datum in data:
        buckets.setdefault(int((_seconds(datum.timestamp) - start) // period), []).append(datum)
    points = []
    for number, bucket in sorted(buckets.items()):
        values = sorted(float(getattr(datum, "value", 0.0)) for datum in bucket)
        point: dict[str, Any] = {
            "Timestamp": datetime.fromtimestamp(start + number * period, UTC),
            "Unit": bucket[0].unit or "None",
        }
        extended = {name: _percentile(values, float(name[1:])) for name in names if name.startswith("p")}
        plain = _plain(values)
        point |= {name: plain[name] for name in names if name in plain}
        points.append({**point, "ExtendedStatistics": extended} if extended else point)
    return points


def _plain(values: list[float]) -> dict[str, float]:
    total = math.fsum(values)
    counted = {"Sum": total, "Average": total / len(values), "SampleCount": float(len(values))}
    return {**counted, "Minimum": values[0], "Maximum": values[-1]}


def _percentile(values: list[float], percent: float) -> float:
    """Linear interpolation between the two nearest ranks of sorted values."""
    position = (len(values) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)
