"""CloudWatch's stand-in: figures that go on while the world is up, and alarms that know their transitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stand_in import Aws

RDS, ALB = "Safawinet-RDS-Connections", "Safawinet-ALB-5xx-Errors"
BALANCER = {"LoadBalancer": "app/safawinet-prod/50dc6c495c0c9188"}
GROUP = {"TargetGroup": "targetgroup/safawinet-api-prod/73e2d6bc24d8a067"}
API = {"ClusterName": "safawinet-prod", "ServiceName": "safawinet-api-prod"}


def asked(namespace: str, name: str, dimensions: dict[str, str], stat: str, period: int = 300) -> dict[str, Any]:
    pairs = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    return {"Metric": {"Namespace": namespace, "MetricName": name, "Dimensions": pairs}, "Period": period, "Stat": stat}


def data(aws: Aws, *stats: dict[str, Any], minutes: int = 60) -> list[list[float]]:
    now = datetime.fromtimestamp(aws.clock(), UTC)
    queries = [{"Id": f"q{number}", "MetricStat": stat} for number, stat in enumerate(stats)]
    answer = aws.client("cloudwatch").get_metric_data(MetricDataQueries=queries, StartTime=now - timedelta(minutes=minutes), EndTime=now)
    for result in answer["MetricDataResults"]:
        assert result["Timestamps"] == sorted(result["Timestamps"], reverse=True)
    return [result["Values"] for result in answer["MetricDataResults"]]


@pytest.mark.parametrize(
    ("namespace", "name", "dimensions"),
    [
        ("AWS/ECS", "CPUUtilization", API),
        ("AWS/ECS", "MemoryUtilization", API),
        ("AWS/ApplicationELB", "RequestCount", BALANCER),
        ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", BALANCER),
        ("AWS/ApplicationELB", "TargetResponseTime", {**BALANCER, **GROUP}),
        ("AWS/RDS", "DatabaseConnections", {"DBInstanceIdentifier": "safawinet-prod-2"}),
        ("AWS/RDS", "CPUUtilization", {"DBInstanceIdentifier": "safawinet-prod"}),
        ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage", {"CacheClusterId": "safawinet-redis"}),
        ("AWS/SES", "Reputation.BounceRate", {}),
        ("AWS/SES", "Reputation.ComplaintRate", {}),
    ],
)
def test_what_is_measured(aws: Aws, namespace: str, name: str, dimensions: dict[str, str]) -> None:
    average, high = data(aws, asked(namespace, name, dimensions, "Average"), asked(namespace, name, dimensions, "p95"))
    assert 11 <= len(average) <= 13
    assert all(low <= up for low, up in zip(average, high, strict=True))


def test_some_of_the_dimensions_find_nothing(aws: Aws) -> None:
    some = asked("AWS/ECS", "CPUUtilization", {"ServiceName": API["ServiceName"]}, "Average")
    none = asked("AWS/ECS", "CPUUtilization", {}, "Average")
    assert data(aws, some, none) == [[], []]


def test_figures_go_on_and_what_is_put_is_added(aws: Aws) -> None:
    requests = asked("AWS/ApplicationELB", "RequestCount", BALANCER, "Sum", 60)
    data(aws, requests)
    aws.clock.pass_by(3_600)
    (before,) = data(aws, requests, minutes=10)
    assert len(before) in (9, 10)
    at = datetime.fromtimestamp(aws.clock() - 150, UTC)
    pairs = [{"Name": key, "Value": value} for key, value in BALANCER.items()]
    datum = {"MetricName": "RequestCount", "Dimensions": pairs, "Timestamp": at, "Value": 100.0}
    aws.client("cloudwatch").put_metric_data(Namespace="AWS/ApplicationELB", MetricData=[datum])
    (after,) = data(aws, requests, minutes=10)
    assert sum(after) - sum(before) == 100


def test_an_expression_is_refused(aws: Aws, refused: Any) -> None:
    now = datetime.now(UTC)
    query = {"Id": "e1", "Expression": "m1 / m2"}
    said = refused(aws.client("cloudwatch").get_metric_data, MetricDataQueries=[query], StartTime=now - timedelta(hours=1), EndTime=now)
    assert said == "ValidationError"


def alarm(aws: Aws, name: str) -> dict[str, Any]:
    (found,) = aws.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return dict(found)


def history(aws: Aws, **how: Any) -> list[str]:
    return [item["HistorySummary"] for item in aws.client("cloudwatch").describe_alarm_history(**how)["AlarmHistoryItems"]]


def test_only_another_state_is_a_transition(aws: Aws) -> None:
    client = aws.client("cloudwatch")
    before = alarm(aws, RDS)
    aws.clock.pass_by(60)
    client.set_alarm_state(AlarmName=RDS, StateValue="ALARM", StateReason="we look into it")
    same = alarm(aws, RDS)
    assert same["StateReason"] == "we look into it"
    assert same["StateTransitionedTimestamp"] == before["StateTransitionedTimestamp"]
    assert same["StateUpdatedTimestamp"] > before["StateUpdatedTimestamp"]
    for state in ("OK", "ALARM"):
        aws.clock.pass_by(60)
        client.set_alarm_state(AlarmName=RDS, StateValue=state, StateReason="it changed")
    assert alarm(aws, RDS)["StateTransitionedTimestamp"] > before["StateTransitionedTimestamp"]
    told = ["Alarm updated from OK to ALARM", "Alarm updated from ALARM to OK", "Alarm updated from INSUFFICIENT_DATA to ALARM"]
    assert history(aws, AlarmName=RDS) == told
    assert history(aws, AlarmName=RDS, ScanBy="TimestampAscending") == told[::-1]
    assert history(aws, AlarmName=RDS, HistoryItemType="Action") == []
    assert history(aws, AlarmName=RDS, StartDate=before["StateTransitionedTimestamp"] + timedelta(seconds=1)) == told[:2]


def test_history_comes_in_pages(aws: Aws) -> None:
    first = aws.client("cloudwatch").describe_alarm_history(MaxRecords=3)
    rest = aws.client("cloudwatch").describe_alarm_history(MaxRecords=3, NextToken=first["NextToken"])
    assert (len(first["AlarmHistoryItems"]), len(rest["AlarmHistoryItems"]), rest.get("NextToken")) == (3, 1, None)


def test_a_new_alarm_has_been_so_since_it_was_put(aws: Aws) -> None:
    how = {"Namespace": "AWS/ECS", "MetricName": "CPUUtilization", "Threshold": 1.0, "Period": 60, "Statistic": "Average"}
    aws.client("cloudwatch").put_metric_alarm(AlarmName="mine", ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1, **how)
    found = alarm(aws, "mine")
    assert found["StateTransitionedTimestamp"] == found["StateUpdatedTimestamp"]
    assert alarm(aws, ALB)["StateValue"] == "OK"
