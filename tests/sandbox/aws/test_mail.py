"""SES's stand-in: send statistics, the account, and the suppression list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from stand_in import Aws

Refused = Callable[..., str]


def test_two_weeks_of_mail_in_quarters_of_an_hour_in_no_order(aws: Aws) -> None:
    points = aws.client("ses").get_send_statistics()["SendDataPoints"]
    moments = [point["Timestamp"] for point in points]
    assert len(points) == 14 * 96
    assert moments != sorted(moments)
    assert max(moments) - min(moments) == timedelta(days=14) - timedelta(minutes=15)
    points.sort(key=lambda point: point["Timestamp"])
    early, late = (sum(p["Bounces"] for p in some) / sum(p["DeliveryAttempts"] for p in some) for some in (points[: 12 * 96], points[-48:]))
    assert 0.01 < early < 0.03
    assert 0.04 < late < 0.06


def test_the_account_may_send_and_its_reputation_is_a_metric(aws: Aws) -> None:
    account = aws.client("sesv2").get_account()
    assert (account["SendingEnabled"], account["EnforcementStatus"]) == (True, "HEALTHY")
    assert 0 < account["SendQuota"]["SentLast24Hours"] < account["SendQuota"]["Max24HourSend"]
    now = datetime.now(UTC)
    answer = aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SES",
        MetricName="Reputation.BounceRate",
        StartTime=now - timedelta(hours=1),
        EndTime=now,
        Period=900,
        Statistics=["Average"],
    )
    assert {round(point["Average"], 3) for point in answer["Datapoints"]} == {0.047}


def listed(aws: Aws, **how: object) -> list[str]:
    answer = aws.client("sesv2").list_suppressed_destinations(**how)
    return [each["EmailAddress"] for each in answer["SuppressedDestinationSummaries"]]


def test_the_suppression_list_comes_in_pages_and_is_narrowed(aws: Aws) -> None:
    client = aws.client("sesv2")
    whole, found, token = listed(aws), [], {}
    while True:
        answer = client.list_suppressed_destinations(PageSize=4, **token)
        found += [each["EmailAddress"] for each in answer["SuppressedDestinationSummaries"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert found == whole
    assert len(whole) > 8
    complaints = listed(aws, Reasons=["COMPLAINT"])
    assert sorted(complaints + listed(aws, Reasons=["BOUNCE"])) == whole
    month = datetime.now(UTC) - timedelta(days=10)
    assert 0 < len(listed(aws, StartDate=month)) < len(whole)
    assert sorted(listed(aws, StartDate=month) + listed(aws, EndDate=month)) == whole


def test_an_address_is_put_on_it_and_taken_off(aws: Aws, refused: Refused) -> None:
    client = aws.client("sesv2")
    assert refused(client.get_suppressed_destination, EmailAddress="new+tag@example.com") == "NotFoundException"
    client.put_suppressed_destination(EmailAddress="New+Tag@Example.com", Reason="COMPLAINT")
    found = client.get_suppressed_destination(EmailAddress="new+tag@example.com")["SuppressedDestination"]
    assert found["Reason"] == "COMPLAINT"
    assert abs(found["LastUpdateTime"].timestamp() - aws.clock()) < 300
    client.delete_suppressed_destination(EmailAddress="new+tag@example.com")
    assert "new+tag@example.com" not in listed(aws)
    assert refused(client.delete_suppressed_destination, EmailAddress="new+tag@example.com") == "NotFoundException"
    assert refused(client.put_suppressed_destination, EmailAddress="a@example.com", Reason="SPAM") == "BadRequestException"
    assert refused(client.list_suppressed_destinations, PageSize=0) == "BadRequestException"
