"""Alarms, metrics and log lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opsctl.adapters.aws.cloudwatch import MISSING, CloudWatch, Metric
from opsctl.adapters.aws.logs import Logs
from opsctl.adapters.aws.session import AwsSession
from opsctl.errors import DriftError, ExternalError, NotFound, ReadOnly

NOW = datetime.now(UTC).replace(microsecond=0)
GROUP = "/ecs/safawinet-api"


@pytest.fixture
def alarms(writing: AwsSession) -> None:
    for name in ("cpu", "connections"):
        writing.call(
            "cloudwatch",
            "put_metric_alarm",
            AlarmName=name,
            MetricName="CPUUtilization",
            Namespace="AWS/ECS",
            ComparisonOperator="GreaterThanThreshold",
            EvaluationPeriods=3,
            Period=60,
            Threshold=80,
            Statistic="Average",
        )
    writing.call("cloudwatch", "set_alarm_state", AlarmName="cpu", StateValue="ALARM", StateReason="it is hot")


@pytest.mark.usefixtures("alarms")
def test_alarms_by_name_with_the_missing_one(reading: AwsSession) -> None:
    hot, missing = CloudWatch(reading).alarms(["cpu", "never"])
    assert (hot.name, hot.state, hot.reason) == ("cpu", "ALARM", "it is hot")
    assert hot.threshold == "CPUUtilization > 80 for 3 x 60 s"
    assert hot.updated.tzinfo is not None
    assert (missing.name, missing.state, missing.updated) == ("never", MISSING, None)


@pytest.mark.usefixtures("alarms")
def test_all_alarms(reading: AwsSession) -> None:
    assert [alarm.name for alarm in CloudWatch(reading).alarms([])] == ["connections", "cpu"]


def test_a_metric_oldest_first(reading: AwsSession, writing: AwsSession) -> None:
    place = [{"Name": "ServiceName", "Value": "api"}]
    for minutes, value in ((2, 30.0), (5, 10.0)):
        data = {"MetricName": "CPU", "Dimensions": place, "Timestamp": NOW - timedelta(minutes=minutes), "Value": value}
        writing.call("cloudwatch", "put_metric_data", Namespace="Mine", MetricData=[data])
    points = CloudWatch(reading).metric("Mine", "CPU", {"ServiceName": "api"}, NOW - timedelta(hours=1))
    assert [point.value for point in points] == [10.0, 30.0]
    assert points[0].at < points[1].at


def test_the_latest_lines_of_a_group(reading: AwsSession, writing: AwsSession) -> None:
    writing.call("logs", "create_log_group", logGroupName=GROUP)
    for stream in ("a", "b"):
        writing.call("logs", "create_log_stream", logGroupName=GROUP, logStreamName=stream)
        at = int(NOW.timestamp() * 1000)
        events = [{"timestamp": at - n * 1000, "message": f"{stream}{n}"} for n in range(5, 0, -1)]
        writing.call("logs", "put_log_events", logGroupName=GROUP, logStreamName=stream, logEvents=events)
    logs = Logs(reading)
    lines = logs.recent(GROUP, NOW - timedelta(minutes=1), 3)
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert lines[-1].at == NOW - timedelta(seconds=1)
    assert {line.message for line in lines[-2:]} == {"a1", "b1"}
    assert [line.message for line in logs.recent(GROUP, NOW - timedelta(minutes=1), 9, "b3")] == ["b3"]
    with pytest.raises(NotFound):
        logs.recent("/nothing", NOW, 1)


def test_several_metrics_at_once_in_the_order_asked(reading: AwsSession, writing: AwsSession) -> None:
    place = [{"Name": "ServiceName", "Value": "worker"}]
    for minutes, value in ((2, 30.0), (7, 10.0)):
        data = {"MetricName": "Load", "Dimensions": place, "Timestamp": NOW - timedelta(minutes=minutes), "Value": value}
        writing.call("cloudwatch", "put_metric_data", Namespace="Mine", MetricData=[data])
    here = {"ServiceName": "worker"}
    wanted = [Metric("Mine", "Rest", here, "Sum"), Metric("Mine", "Load", here, "Sum"), Metric("Mine", "Load", here, "Maximum")]
    nothing, sums, highest = CloudWatch(reading).metrics(wanted, NOW - timedelta(hours=1), period=3600)
    assert nothing == []
    assert (sum(point.value for point in sums), max(point.value for point in highest)) == (40.0, 30.0)


@pytest.mark.usefixtures("alarms")
def test_only_an_alarm_in_that_alarm_is_given_a_reason(reading: AwsSession, writing: AwsSession) -> None:
    cloudwatch = CloudWatch(writing)
    hot, calm = CloudWatch(reading).alarms(["cpu", "connections"])
    cloudwatch.annotate("cpu", hot.updated, "we look into it")
    (told,) = CloudWatch(reading).alarms(["cpu"])
    assert (told.state, told.reason) == ("ALARM", "we look into it")
    for name, transition in (("connections", calm.updated), ("cpu", hot.updated - timedelta(hours=1)), ("never", hot.updated)):
        with pytest.raises(DriftError):
            cloudwatch.annotate(name, transition, "not that one")
    with pytest.raises(ReadOnly):
        CloudWatch(reading).annotate("cpu", hot.updated, "x")


@pytest.mark.usefixtures("alarms")
@pytest.mark.parametrize("name", ["", "a" * 300])
def test_a_name_that_no_alarm_can_have_is_missing(reading: AwsSession, name: str) -> None:
    assert [alarm.state for alarm in CloudWatch(reading).alarms([name])] == [MISSING]
    assert [alarm.state for alarm in CloudWatch(reading).alarms([name, "cpu"])] == [MISSING, "ALARM"]


class Answering:
    """AWS as it may answer, page by page."""

    writing = False

    def __init__(self, *pages: dict[str, Any]) -> None:
        self._pages = pages

    def pages(self, *_: str, **__: Any) -> tuple[dict[str, Any], ...]:
        return self._pages


def figures(*statuses: str) -> Answering:
    results = [{"Id": "m0", "Timestamps": [], "Values": [], **({"StatusCode": status} if status else {})} for status in statuses]
    return Answering(*({"MetricDataResults": [result]} for result in results))


@pytest.mark.parametrize("statuses", [["InternalError"], ["Forbidden"], ["PartialData"], ["PartialData", "InternalError"]])
def test_figures_that_cloudwatch_withholds_are_not_taken_for_none(statuses: list[str]) -> None:
    with pytest.raises(ExternalError, match=statuses[-1]):
        CloudWatch(figures(*statuses)).newest([Metric("AWS/Lambda", "Errors", {})], datetime.now(UTC))  # type: ignore[arg-type]


@pytest.mark.parametrize("statuses", [["Complete"], [""], ["PartialData", "Complete"]])
def test_figures_that_are_all_there_count(statuses: list[str]) -> None:
    assert CloudWatch(figures(*statuses)).newest([Metric("AWS/Lambda", "Errors", {})], datetime.now(UTC)) == [None]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "warning"),
    [
        ({}, ""),
        ({"ActionsEnabled": True}, ""),
        ({"ActionsEnabled": False}, "its actions are disabled, so nobody is notified"),
        ({"ActionsEnabled": True, "ActionsSuppressedBy": "Alarm"}, "its actions are suppressed (Alarm), so nobody is notified"),
        ({"EvaluationState": "PARTIAL_DATA"}, "its evaluation is PARTIAL_DATA"),
    ],
)
def test_an_alarm_that_tells_nobody_or_sees_little_says_so(told: dict[str, Any], warning: str) -> None:
    raw = {"AlarmName": "cpu", "StateValue": "OK", **told}
    (alarm,) = CloudWatch(Answering({"MetricAlarms": [raw]})).alarms(["cpu"])  # type: ignore[arg-type]
    assert alarm.warning == warning
