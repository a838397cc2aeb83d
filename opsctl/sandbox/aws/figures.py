"""What the sandbox's world measures: a figure a minute for every metric that opsctl looks at, from three hours before it began."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from opsctl.sandbox.aws.names import CLUSTER, HH_REGION, LOAD_BALANCER, REGION, TARGET_GROUP

BEFORE = 180
MINUTE = 60
ECS, ALB, RDS = "AWS/ECS", "AWS/ApplicationELB", "AWS/RDS"
REQUESTS = 1_200
"""A minute, of the API."""

Value = Callable[[int], float | None]
"""The figure of a minute, counted from the first; None where AWS has none, as for errors that didn't happen."""


@dataclass(frozen=True)
class MetricDatum:
    """One figure; `at` is the beginning of its minute, in epoch seconds."""

    at: float
    value: float
    unit: str


Key = tuple[str, str, str, frozenset[tuple[str, str]]]
"""Region, namespace, metric, dimensions."""


class MetricValues:
    """Every metric, computed when it is asked for."""

    def __init__(self) -> None:
        self._first = 0.0
        self._measured: dict[Key, dict[int, float]] = {}
        self._forced: dict[str, tuple[int, float]] = {}
        self._metrics: dict[Key, tuple[Value, str]] = {
            (region, namespace, metric, frozenset(dimensions.items())): (value, unit)
            for region, namespace, metric, dimensions, value, unit in _metrics()
        }

    def begin(self, now: float) -> None:
        """Let the first figure be that of three hours before `now` (epoch seconds)."""
        self._first = now // MINUTE * MINUTE - BEFORE * MINUTE

    def measure(self, key: Key, value: float, now: float) -> None:
        """Put a real figure in the place of the computed one of this minute."""
        self._measured.setdefault(key, {})[math.floor((now - self._first) / MINUTE)] = value

    def force(self, metric: str, value: float, since: float) -> None:
        """Have every figure of a metric be `value` from `since` (epoch seconds) on; raises KeyError for a metric that there isn't."""
        if metric not in {name for _, _, name, _ in self._metrics}:
            raise KeyError(metric)
        self._forced[metric] = (math.floor((since - self._first) / MINUTE), value)

    def let_go(self) -> None:
        """Let every figure be the computed one again."""
        self._forced.clear()

    def data(self, key: Key, start: float, end: float) -> Iterator[MetricDatum]:
        """The figures of the whole minutes in a span of epoch seconds, and a real one of the last; none of a metric that there isn't."""
        if key not in self._metrics:
            return
        value, unit = self._metrics[key]
        measured = self._measured.get(key, {})
        last = math.floor((end - self._first) / MINUTE)
        since, forced = self._forced.get(key[2], (last, 0.0))
        for minute in range(max(0, math.ceil((start - self._first) / MINUTE)), last + 1):
            computed = forced if minute >= since else value(minute)
            found = measured.get(minute, computed if minute < last else None)
            if found is not None:
                yield MetricDatum(self._first + minute * MINUTE, found, unit)


def _wave(level: float, swing: float, minute: int) -> float:
    return level + swing * math.sin(minute / 20)


def _always(value: float, minute: int) -> float:
    return value


def _now_and_then(every: int, value: float, minute: int) -> float | None:
    return value if minute % every == 0 else None


def _metrics() -> Iterator[tuple[str, str, str, dict[str, str], Value, str]]:
    for service, level in (("safawinet-api-prod", 35.0), ("safawinet-worker-prod", 20.0)):
        here = {"ClusterName": CLUSTER, "ServiceName": service}
        yield REGION, ECS, "CPUUtilization", here, partial(_wave, level, 10), "Percent"
        yield REGION, ECS, "MemoryUtilization", here, partial(_wave, level + 10, 3), "Percent"
    yield from _balancer({"LoadBalancer": LOAD_BALANCER})
    yield from _balancer({"LoadBalancer": LOAD_BALANCER, "TargetGroup": TARGET_GROUP})
    yield from _databases()
    here = {"CacheClusterId": "safawinet-redis"}
    yield REGION, "AWS/ElastiCache", "DatabaseMemoryUsagePercentage", here, partial(_wave, 22, 2), "Percent"
    yield REGION, "AWS/SES", "Reputation.BounceRate", {}, partial(_always, 0.047), "None"
    yield REGION, "AWS/SES", "Reputation.ComplaintRate", {}, partial(_always, 0.0006), "None"
    here = {"WebACL": "safawinet-prod", "Rule": "ALL", "Region": REGION}
    yield REGION, "AWS/WAFV2", "AllowedRequests", here, partial(_always, 800), "Count"
    yield REGION, "AWS/WAFV2", "BlockedRequests", here, partial(_always, 6), "Count"
    yield from _downloads()


def _databases() -> Iterator[tuple[str, str, str, dict[str, str], Value, str]]:
    for number, instance in enumerate((CLUSTER, f"{CLUSTER}-2", f"{CLUSTER}-3", "safawinet-reports")):
        here = {"DBInstanceIdentifier": instance}
        yield REGION, RDS, "CPUUtilization", here, partial(_wave, 30 - 5 * number, 10), "Percent"
        yield REGION, RDS, "DatabaseConnections", here, partial(_always, 24 - 6 * number), "Count"
        if instance.startswith(CLUSTER):
            yield REGION, RDS, "AuroraReplicaLag", here, partial(_always, 18 + number), "Milliseconds"


def _balancer(here: dict[str, str]) -> Iterator[tuple[str, str, str, dict[str, str], Value, str]]:
    yield REGION, ALB, "RequestCount", here, partial(_always, REQUESTS), "Count"
    yield REGION, ALB, "HTTPCode_Target_5XX_Count", here, partial(_now_and_then, 3, 4), "Count"
    yield REGION, ALB, "TargetResponseTime", here, partial(_wave, 0.085, 0.02), "Seconds"


def _downloads() -> Iterator[tuple[str, str, str, dict[str, str], Value, str]]:
    for function, runs in (("hh-webhook", 2), ("hh-lease", 30), ("hh-authz", 31)):
        yield HH_REGION, "AWS/Lambda", "Invocations", {"FunctionName": function}, partial(_always, runs), "Count"
        yield HH_REGION, "AWS/Lambda", "Errors", {"FunctionName": function}, lambda minute: float(minute % 45 == 0), "Count"
    here = {"WebACL": "hh-prod", "Rule": "ALL", "Region": HH_REGION}
    yield HH_REGION, "AWS/WAFV2", "AllowedRequests", here, partial(_always, 31), "Count"
    yield HH_REGION, "AWS/WAFV2", "BlockedRequests", here, lambda minute: float(minute % 10 == 0), "Count"
