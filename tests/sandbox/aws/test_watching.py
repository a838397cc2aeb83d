from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from stand_in import Aws

Refused = Callable[..., str]
WEST = "us-west-2"


def cpu(aws: Aws, *dimensions: tuple[str, str]) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    answer = aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/ECS",
        MetricName="CPUUtilization",
        StartTime=now - timedelta(hours=1),
        EndTime=now,
        Period=600,
        Statistics=["Average", "Maximum"],
        ExtendedStatistics=["p95"],
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions],
    )
    return list(answer["Datapoints"])


def test_dimensions_match_exactly(aws: Aws) -> None:
    service, cluster = ("ServiceName", "safawinet-api-prod"), ("ClusterName", "safawinet-prod")
    assert cpu(aws, service) == []
    points = cpu(aws, cluster, service)
    assert len(points) >= 5
    for point in points:
        assert point["Average"] <= point["ExtendedStatistics"]["p95"] <= point["Maximum"]


def test_one_alarm_fires(aws: Aws) -> None:
    alarms = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert len(alarms) == 4
    assert [each["AlarmName"] for each in alarms if each["StateValue"] == "ALARM"] == ["Safawinet-RDS-Connections"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", {"a", "b", "c"}),
        ('{ $.level = "ERROR" }', {"a"}),
        ('{ $.level != "ERROR" }', {"b"}),
        ("{ $.status >= 400 && $.path = /v1/* }", {"a", "b"}),
        ('{ ($.status = 401) || ($.level = "ERROR") }', {"a", "b"}),
        ("{ $.user.id = 7 }", {"b"}),
        ("{ $.user.id EXISTS }", {"b"}),
        ("?401 ?plain", {"b", "c"}),
        ('plain -"other words"', {"c"}),
        ("%status.: 4%", {"b"}),
    ],
)
def test_filter_patterns(aws: Aws, pattern: str, expected: set[str]) -> None:
    logs = aws.client("logs")
    lines = {
        "a": json.dumps({"level": "ERROR", "status": 500, "path": "/v1/profile"}),
        "b": json.dumps({"level": "WARN", "status": 401, "path": "/v1/auth/login", "user": {"id": 7}}),
        "c": "plain words",
    }
    logs.create_log_group(logGroupName="mine")
    logs.create_log_stream(logGroupName="mine", logStreamName="one")
    events = [{"timestamp": int(time.time() * 1000), "message": line} for line in lines.values()]
    logs.put_log_events(logGroupName="mine", logStreamName="one", logEvents=events)
    found = {event["message"] for event in logs.filter_log_events(logGroupName="mine", filterPattern=pattern)["events"]}
    assert found == {lines[name] for name in expected}


def test_a_pattern_that_is_none_is_refused(aws: Aws, refused: Refused) -> None:
    logs = aws.client("logs")
    asked = {"logGroupName": "/ecs/safawinet-api", "filterPattern": "{ $.level = }"}
    assert refused(logs.filter_log_events, **asked) == "InvalidParameterException"


def test_events_come_in_pages(aws: Aws) -> None:
    pages = aws.client("logs").get_paginator("filter_log_events")
    asked = {"logGroupName": "/ecs/safawinet-api", "PaginationConfig": {"PageSize": 250}}
    found = [event["eventId"] for page in pages.paginate(**asked) for event in page["events"]]
    assert len(found) == len(set(found)) == 600


@pytest.mark.parametrize(("region", "group"), [("us-east-1", "/ecs/safawinet-api"), (WEST, "/aws/lambda/hh-lease")])
def test_other_parts_write_log_lines(aws: Aws, region: str, group: str) -> None:
    aws.part.log(group, {"event": "canary"})
    aws.part.log("/no/such/group", {"event": "canary"})
    logs = aws.client("logs", region)
    found = logs.filter_log_events(logGroupName=group, filterPattern='{ $.event = "canary" }')
    assert len(found["events"]) == 1


def insights(aws: Aws, query: str) -> list[dict[str, str]]:
    logs = aws.client("logs", WEST)
    now = int(aws.clock())
    asked = {"logGroupName": "/aws/lambda/hh-lease", "startTime": now - 86_400, "endTime": now + 60}
    query_id = logs.start_query(**asked, queryString=query)["queryId"]
    assert logs.get_query_results(queryId=query_id)["status"] == "Running"
    aws.clock.pass_by(1.1)
    results = logs.get_query_results(queryId=query_id)
    assert results["status"] == "Complete"
    return [{cell["field"]: cell["value"] for cell in row if cell["field"] != "@ptr"} for row in results["results"]]


def shipped(name: str) -> str:
    return (Path(__file__).parents[3] / "config" / "queries" / f"{name}.txt").read_text()


def test_insights_counts_outcomes(aws: Aws) -> None:
    rows = insights(
        aws,
        """fields @timestamp, type, reason, contactId, email
        | filter type in ["lease_ok", "lease_denied"]
        | stats count() by type, reason""",
    )
    assert {row["type"] for row in rows} == {"lease_ok", "lease_denied"}
    errors = insights(aws, 'filter type = "lease_error" | stats count(*) as failed')
    assert sum(int(row["count()"]) for row in rows) + int(errors[0]["failed"]) == 300


def test_insights_filters_sorts_and_limits(aws: Aws) -> None:
    rows = insights(aws, "fields @timestamp, type | filter type like /denied|error/ | sort @timestamp asc | limit 5")
    assert len(rows) == 5
    assert [row["@timestamp"] for row in rows] == sorted(row["@timestamp"] for row in rows)
    assert {row["type"] for row in rows} <= {"lease_denied", "lease_error"}


def test_the_runbook_s_queries_run_as_they_stand(aws: Aws) -> None:
    outcomes = insights(aws, shipped("lease-outcomes"))
    assert [row["type"] for row in outcomes] == ["lease_denied", "lease_denied", "lease_ok"]
    assert {row.get("reason") for row in outcomes} == {"invalid-token", "disabled", None}
    errors = insights(aws, shipped("lease-errors"))
    assert 0 < len(errors) <= 50
    assert set(errors[0]) == {"@timestamp", "type", "where", "detail"}
    assert [row["@timestamp"] for row in errors] == sorted((row["@timestamp"] for row in errors), reverse=True)
    assert sum(int(row["count()"]) for row in outcomes) + len(errors) == 300


def test_a_line_of_now_is_counted(aws: Aws) -> None:
    before = insights(aws, 'filter type = "lease_error" | stats count() as failed')
    aws.part.log("/aws/lambda/hh-lease", {"type": "lease_error", "where": "hubspot", "detail": "status 502"})
    after = insights(aws, 'filter type = "lease_error" | stats count() as failed')
    assert int(after[0]["failed"]) == int(before[0]["failed"]) + 1


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("fields @timestamp\n| fliter type = 1", "unexpected symbol found fliter at line 2 and position 3"),
        ("fields @timestamp | filter type == 1", "unexpected symbol found = at line 1 and position 34"),
        ("# it's one\nfilter type in [", "unexpected symbol found end of input at line 2 and position 17"),
        ("stats frequency(x) by y", "unexpected symbol found frequency at line 1 and position 7"),
        ("filter @message like /(/", "unexpected symbol found /(/ at line 1 and position 21"),
    ],
)
def test_a_malformed_query_is_told_with_its_place(aws: Aws, query: str, told: str) -> None:
    with pytest.raises(ClientError) as caught:
        aws.client("logs", WEST).start_query(logGroupName="/aws/lambda/hh-lease", startTime=1, endTime=2, queryString=query)
    answer: Any = caught.value.response
    assert (answer["Error"]["Code"], answer["Error"]["Message"]) == ("MalformedQueryException", told)
    assert answer["queryCompileError"]["message"] == told


def test_a_query_under_way_is_stopped(aws: Aws, refused: Refused) -> None:
    logs = aws.client("logs", WEST)
    asked = {"logGroupName": "/aws/lambda/hh-lease", "startTime": 1, "endTime": 2, "queryString": "fields @message"}
    query_id = logs.start_query(**asked)["queryId"]
    assert logs.stop_query(queryId=query_id)["success"]
    assert logs.get_query_results(queryId=query_id)["status"] == "Cancelled"
    assert refused(logs.stop_query, queryId=query_id) == "InvalidParameterException"


def test_a_page_without_events_may_be_followed_by_others(aws: Aws, refused: Refused) -> None:
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="long")
    logs.create_log_stream(logGroupName="long", logStreamName="one")
    now = int(time.time() * 1000)
    events = [{"timestamp": now + number, "message": "last" if number == 1_499 else "other"} for number in range(1_500)]
    logs.put_log_events(logGroupName="long", logStreamName="one", logEvents=events)
    first = logs.filter_log_events(logGroupName="long", filterPattern="last")
    assert first["events"] == []
    second = logs.filter_log_events(logGroupName="long", filterPattern="last", nextToken=first["nextToken"])
    assert ([event["message"] for event in second["events"]], second.get("nextToken")) == (["last"], None)
    assert refused(logs.filter_log_events, logGroupName="long", nextToken="1") == "InvalidParameterException"


@pytest.mark.parametrize("query", ["", "fliter type = 1", "filter type =", "stats frequency(x) by y", "limit many", "| |"])
def test_a_malformed_query_is_refused(aws: Aws, refused: Refused, query: str) -> None:
    asked = {"logGroupName": "/aws/lambda/hh-lease", "startTime": 1, "endTime": 2, "queryString": query}
    assert refused(aws.client("logs", WEST).start_query, **asked) == "MalformedQueryException"


def test_a_stale_revision_is_refused(aws: Aws, refused: Refused) -> None:
    functions = aws.client("lambda", WEST)
    before = functions.get_function_configuration(FunctionName="hh-authz")
    variables = {**before["Environment"]["Variables"], "EDGE_SHARED_SECRET": "new"}
    change = {
        "FunctionName": "hh-authz",
        "Environment": {"Variables": variables},
        "RevisionId": before["RevisionId"],
    }
    begun = functions.update_function_configuration(**change)
    assert begun["LastUpdateStatus"] == "InProgress"
    assert begun["RevisionId"] != before["RevisionId"]
    busy = {**change, "RevisionId": begun["RevisionId"]}
    assert refused(functions.update_function_configuration, **busy) == "ResourceConflictException"
    aws.clock.pass_by(2.5)
    after = functions.get_function_configuration(FunctionName="hh-authz")
    assert (after["LastUpdateStatus"], after["Environment"]["Variables"]) == ("Successful", variables)
    assert refused(functions.update_function_configuration, **change) == "PreconditionFailedException"
    stale = {"FunctionName": "hh-authz", "RevisionId": before["RevisionId"]}
    assert refused(functions.publish_version, **stale) == "PreconditionFailedException"


def test_calls_meet_the_former_environment_until_an_update_is_done(aws: Aws) -> None:
    functions = aws.client("lambda", WEST)
    before = aws.part.function_environment(WEST, "hh-authz")
    instance = aws.part.function_instance(WEST, "hh-authz")
    variables = {**before, "EDGE_SHARED_SECRET": "new"}
    seeded = functions.get_function_configuration(FunctionName="hh-authz")["LastModified"]
    assert datetime.fromisoformat(seeded).timestamp() < aws.clock() - 86_400
    functions.update_function_configuration(FunctionName="hh-authz", Environment={"Variables": variables})
    updated = functions.get_function_configuration(FunctionName="hh-authz")["LastModified"]
    assert datetime.fromisoformat(updated).timestamp() > aws.clock() - 60
    assert aws.part.function_environment(WEST, "hh-authz") == before
    assert aws.part.function_instance(WEST, "hh-authz") == instance
    aws.clock.pass_by(2.1)
    assert aws.part.function_environment(WEST, "hh-authz") == variables
    assert aws.part.function_instance(WEST, "hh-authz") != instance


def test_a_version_is_published_only_of_what_changed(aws: Aws) -> None:
    functions = aws.client("lambda", WEST)

    def publish() -> str:
        return str(functions.publish_version(FunctionName="hh-authz")["Version"])

    assert [publish(), publish()] == ["1", "1"]
    functions.update_function_configuration(FunctionName="hh-authz", Timeout=10)
    aws.clock.pass_by(2.1)
    assert publish() == "1"
    functions.update_function_configuration(FunctionName="hh-authz", Timeout=11)
    aws.clock.pass_by(2.1)
    assert [publish(), publish()] == ["2", "2"]


def test_calls_go_to_the_alias_where_there_is_one(aws: Aws, refused: Refused) -> None:
    functions = aws.client("lambda", WEST)
    alias = functions.get_alias(FunctionName="hh-lease", Name="live")
    instance = aws.part.function_instance(WEST, "hh-lease")
    variables = {**aws.part.function_environment(WEST, "hh-lease"), "LOG_LEVEL": "debug"}
    functions.update_function_configuration(FunctionName="hh-lease", Environment={"Variables": variables})
    assert refused(functions.publish_version, FunctionName="hh-lease") == "ResourceConflictException"
    aws.clock.pass_by(2.1)
    version = functions.publish_version(FunctionName="hh-lease")["Version"]
    assert version == "2"
    assert aws.part.function_environment(WEST, "hh-lease")["LOG_LEVEL"] == "info"
    assert aws.part.function_instance(WEST, "hh-lease") == instance
    change = {"FunctionName": "hh-lease", "Name": "live", "FunctionVersion": version, "RevisionId": alias["RevisionId"]}
    assert functions.update_alias(**change)["RevisionId"] != alias["RevisionId"]
    assert aws.part.function_environment(WEST, "hh-lease")["LOG_LEVEL"] == "debug"
    assert aws.part.function_instance(WEST, "hh-lease") != instance
    assert refused(functions.update_alias, **change) == "PreconditionFailedException"
    missing = {"FunctionName": "hh-lease", "Name": "live", "FunctionVersion": "99"}
    assert refused(functions.update_alias, **missing) == "ResourceNotFoundException"


def test_the_edge_secret_that_the_installer_reads_is_the_authorizer_s(aws: Aws) -> None:
    stored = aws.client("secretsmanager", WEST).get_secret_value(SecretId="/hh/prod/edge-shared-secret")["SecretString"]
    assert json.loads(stored) == {"secret": aws.part.function_environment(WEST, "hh-authz")["EDGE_SHARED_SECRET"]}


def test_an_environment_has_a_limit_and_reserved_names(aws: Aws, refused: Refused) -> None:
    functions = aws.client("lambda", WEST)
    for variables in ({"A": "x" * 5000}, {"AWS_REGION": "here"}):
        change = {"FunctionName": "hh-lease", "Environment": {"Variables": variables}}
        assert refused(functions.update_function_configuration, **change) == "InvalidParameterValueException"
