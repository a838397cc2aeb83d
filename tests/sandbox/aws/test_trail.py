"""CloudTrail in the sandbox: what was there before, what is noted since, and the limits that the real one has."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from stand_in import Aws

Refused = Callable[..., str]


@pytest.fixture
def trail(aws: Aws) -> Any:
    aws.world.tempo = 0.0
    return aws.client("cloudtrail")


def events(trail: Any, key: str = "", value: str = "", **how: Any) -> list[dict[str, Any]]:
    attributes = [{"AttributeKey": key, "AttributeValue": value}] if key else []
    pages = trail.get_paginator("lookup_events").paginate(LookupAttributes=attributes, **how)
    return [event for page in pages for event in page["Events"]]


def now(aws: Aws) -> datetime:
    """The world's time."""
    return datetime.fromtimestamp(aws.clock(), UTC)


def test_two_weeks_were_there_before_newest_first(aws: Aws, trail: Any) -> None:
    found = events(trail)
    times = [event["EventTime"] for event in found]
    assert times == sorted(times, reverse=True)
    assert timedelta(days=13) < now(aws) - times[-1] < timedelta(days=14)
    strange = [event for event in found if json.loads(event["CloudTrailEvent"])["sourceIPAddress"] == "203.0.113.66"]
    assert {event["Username"] for event in strange} == {"former-contractor"}
    assert [event["EventName"] for event in strange].count("ConsoleLogin") == 5


def test_it_is_looked_up_by_each_attribute(aws: Aws, trail: Any) -> None:
    assert {event["EventName"] for event in events(trail, "Username", "deploy")} == {"RegisterTaskDefinition", "UpdateService"}
    assert {event["Username"] for event in events(trail, "EventName", "CreateAccessKey")} == {"former-contractor"}
    assert {event["EventName"] for event in events(trail, "EventSource", "iam.amazonaws.com")} == {"CreateAccessKey", "AttachUserPolicy"}
    assert len(events(trail, "ResourceName", "prod-debug")) == 1
    assert {event["EventName"] for event in events(trail, "ReadOnly", "true")} == {"GetSecretValue"}
    (one,) = events(trail, "EventName", "StopLogging")
    assert events(trail, "EventId", one["EventId"]) == [one]
    assert events(trail, "AccessKeyId", one["AccessKeyId"])[-1]["Username"] == "former-contractor"
    assert [event["EventName"] for event in events(aws.client("cloudtrail", "us-west-2"))] == ["GetSecretValue"]


def test_what_is_changed_or_fails_or_reads_a_secret_is_noted(aws: Aws, trail: Any) -> None:
    aws.client("iam").update_access_key(UserName="deploy", AccessKeyId="AKIASANDBOXDEPLOY001", Status="Inactive")
    aws.client("secretsmanager").get_secret_value(SecretId="safawinet/prod/jwt")
    aws.client("ecs").describe_services(cluster="safawinet-prod", services=["safawinet-api-prod"])
    with suppress(ClientError):
        aws.client("iam").delete_user(UserName="nobody")
    found = events(trail, "Username", "oncall", StartTime=now(aws) - timedelta(minutes=5))
    assert [(e["EventName"], e["Resources"][0]["ResourceName"]) for e in found] == [
        ("DeleteUser", "nobody"),
        ("GetSecretValue", "safawinet/prod/jwt"),
        ("UpdateAccessKey", "deploy"),
    ]
    assert json.loads(found[0]["CloudTrailEvent"])["errorCode"] == "NoSuchEntity"
    assert aws.world.facts["jwt_secret"] not in str(found)


def test_a_roles_session_goes_by_its_own_name(aws: Aws, trail: Any) -> None:
    role = "arn:aws:iam::123456789012:role/deployer"
    lent = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="al@example.com")["Credentials"]
    aws.client("sqs", key=lent["AccessKeyId"]).create_queue(QueueName="made-by-a-session")
    assert [event["EventName"] for event in events(trail, "Username", "al@example.com")] == ["CreateQueue"]
    assert [event["EventName"] for event in events(trail, "ResourceName", role)] == ["AssumeRole"]


def test_a_call_that_cannot_be_read_is_noted_without_what_it_named(aws: Aws, trail: Any) -> None:
    scope = f"{aws.world.facts['access_key_id']}/20260101/us-east-1/secretsmanager/aws4_request"
    headers = {"X-Amz-Target": "secretsmanager.PutSecretValue", "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, Signature=none"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{aws.port}", b"{nonsense", headers))
    assert caught.value.code == 400
    (event,) = events(trail, "EventName", "PutSecretValue")
    assert (event["Username"], event["Resources"]) == ("oncall", [])


def test_pages_hold_fifty_and_a_token_belongs_to_its_question(trail: Any, refused: Refused) -> None:
    page = trail.lookup_events(MaxResults=20)
    more = trail.lookup_events(MaxResults=50, NextToken=page["NextToken"])
    assert (len(page["Events"]), page["Events"][-1] in more["Events"]) == (20, False)
    assert (
        refused(trail.lookup_events, NextToken=page["NextToken"], StartTime=datetime(2020, 1, 1, tzinfo=UTC)) == "InvalidNextTokenException"
    )
    assert refused(trail.lookup_events, NextToken="made-up") == "InvalidNextTokenException"
    assert refused(trail.lookup_events, MaxResults=51) in ("InvalidMaxResultsException", "ParamValidationError")


def test_it_takes_one_attribute_and_a_span_of_time(aws: Aws, trail: Any, refused: Refused) -> None:
    two = [{"AttributeKey": "Username", "AttributeValue": "jo"}, {"AttributeKey": "EventName", "AttributeValue": "StopLogging"}]
    assert refused(trail.lookup_events, LookupAttributes=two) == "InvalidLookupAttributesException"
    today, day = now(aws), timedelta(days=1)
    assert refused(trail.lookup_events, StartTime=today, EndTime=today - day) == "InvalidTimeRangeException"
    assert events(trail, StartTime=today - 40 * day, EndTime=today - 30 * day) == []


def test_it_answers_twice_a_second(aws: Aws, refused: Refused) -> None:
    trail = aws.client("cloudtrail")
    for _ in range(2):
        trail.lookup_events(MaxResults=1)
    assert refused(trail.lookup_events) == "ThrottlingException"
    assert aws.client("cloudtrail", "us-west-2").lookup_events()["Events"]
    aws.clock.pass_by(1.1)
    assert trail.lookup_events()["Events"]
