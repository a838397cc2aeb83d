"""CloudTrail's odd answers: its rate, its pages, and what of an event is unusual."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opsctl.adapters.aws.cloudtrail import CloudTrail, EventSource
from opsctl.adapters.aws.patience import THROTTLED
from opsctl.errors import Retry, Throttled

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Asked:
    """A session that answers from a list, and a clock that moves only while somebody waits."""

    writing = False

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked, self.waited, self.now = list(answers), [], [], 0.0

    def call(self, service: str, operation: str, /, *, region: str, **parameters: Any) -> dict[str, Any]:
        self.asked.append({"region": region, **parameters})
        answer = self.answers.pop(0) if self.answers else {"Events": []}
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pause(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    @property
    def trail(self) -> CloudTrail:
        return CloudTrail(self, clock=lambda: self.now, pause=self.pause)  # type: ignore[arg-type]


def raw(hours: int = 1, name: str = "ListUsers", user: str = "jo", **told: Any) -> dict[str, Any]:
    return {
        "EventId": f"{name}-{hours}",
        "EventName": name,
        "EventTime": NOW - timedelta(hours=hours),
        "EventSource": "iam.amazonaws.com",
        "Username": user,
        "ReadOnly": "false",
        "CloudTrailEvent": json.dumps({"sourceIPAddress": "203.0.113.66", **told}),
    }


def found(asked: Asked, *regions: str, **how: Any) -> list[Any]:
    return list(asked.trail.events(regions or ("us-east-1",), NOW - DAY, NOW, **how))


def test_pages_of_all_regions_come_newest_first_and_within_the_rate() -> None:
    pages = [{"Events": [raw(hour)], "NextToken": f"t{hour}"} for hour in (1, 3, 5)]
    asked = Asked(pages[0], {"Events": [raw(2)]}, *pages[1:], {"Events": []})
    assert [(NOW - event.time) // timedelta(hours=1) for event in found(asked, "us-east-1", "us-west-2")] == [1, 2, 3, 5]
    assert [each.get("NextToken") for each in asked.asked if each["region"] == "us-east-1"] == [None, "t1", "t3", "t5"]
    assert asked.waited == [1.0]


def test_throttled_it_waits_and_loses_nothing() -> None:
    asked = Asked({"Events": [raw(1)], "NextToken": "more"}, Throttled("slow"), Throttled("slow"), {"Events": [raw(2)]})
    assert len(found(asked)) == 2
    assert asked.asked[1] == asked.asked[3]
    for failed in (1, 2):
        assert any(0 < seconds <= THROTTLED.pause(failed) for seconds in asked.waited)
    assert sum(asked.waited) > THROTTLED.pause(1)


def test_throttled_for_good_it_says_how_far_it_came() -> None:
    asked = Asked({"Events": [raw(4)], "NextToken": "more"}, *[Throttled("AWS asks to slow down.")] * 4)
    events = asked.trail.events(["us-east-1"], NOW - DAY, NOW)
    next(events)
    with pytest.raises(Throttled) as caught:
        next(events)
    assert "newer than 2026-03-01 08:00:00 UTC in us-east-1" in caught.value.what
    assert caught.value.next.endswith("--until 2026-03-01T08:00:00")


def test_throttled_from_the_beginning_it_says_just_that() -> None:
    cause = Throttled("AWS asks to slow down.", Retry("Wait a minute"))
    with pytest.raises(Throttled) as caught:
        found(Asked(*[cause] * 4))
    assert (caught.value.what, caught.value.next) == (cause.what, cause.next)


def test_one_attribute_is_looked_up_and_the_rest_filtered() -> None:
    answer = {"Events": [raw(1, user="jo"), raw(2, user="JO"), raw(3, user="jo", sourceIPAddress="198.51.100.1")]}
    asked = Asked(answer)
    assert [each.id for each in found(asked, user="jo", source=EventSource.parse("203.0.113.0/24"))] == ["ListUsers-1"]
    assert asked.asked[0]["LookupAttributes"] == [{"AttributeKey": "Username", "AttributeValue": "jo"}]
    asked = Asked(answer)
    assert len(found(asked, source=EventSource.parse("iam"))) == 3
    assert asked.asked[0]["LookupAttributes"] == [{"AttributeKey": "EventSource", "AttributeValue": "iam.amazonaws.com"}]
    asked = Asked(answer)
    assert len(found(asked, source=EventSource.parse("203.0.113.66"))) == 2
    assert "LookupAttributes" not in asked.asked[0]


def test_a_service_in_place_of_an_address_is_no_address() -> None:
    assert found(Asked({"Events": [raw(1, sourceIPAddress="ecs.amazonaws.com")]}), source=EventSource.parse("0.0.0.0/0")) == []


@pytest.mark.parametrize("text", ["", "!!", "1.2.3.4.5", "-", "a b", "300.1.1.1", ".amazonaws.com"])
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an address"):
        EventSource.parse(text)


@pytest.mark.parametrize(
    ("event", "error", "unusual"),
    [
        (raw(name="ListUsers"), "", ""),
        (raw(name="CreateAccessKey"), "", "changes rights"),
        (raw(name="StopLogging"), "", "hides traces"),
        (raw(name="PutBucketPolicy"), "", "opens access to others"),
        (raw(errorCode="AccessDeniedException"), "AccessDeniedException", "denied"),
        (raw(errorCode="Client.UnauthorizedOperation"), "Client.UnauthorizedOperation", "denied"),
        (raw(errorCode="NoSuchEntityException"), "NoSuchEntityException", ""),
        (raw(userIdentity={"type": "Root"}), "", "the root user"),
        (raw(name="ConsoleLogin", responseElements={"ConsoleLogin": "Failure"}, errorMessage="No"), "No", "failed sign-in"),
        (raw(name="ConsoleLogin", responseElements={"ConsoleLogin": "Failure"}), "Failure", "failed sign-in"),
        (raw(name="ConsoleLogin", additionalEventData={"MFAUsed": "No"}), "", "signed in without MFA"),
        (raw(name="ConsoleLogin", additionalEventData={"MFAUsed": "Yes"}, responseElements=None), "", ""),
    ],
)
def test_what_is_unusual(event: dict[str, Any], error: str, unusual: str) -> None:
    (one,) = found(Asked({"Events": [event]}))
    assert (one.error, one.unusual) == (error, unusual)


def test_an_event_that_says_little_is_shown_all_the_same() -> None:
    (one,) = found(Asked({"Events": [{"EventName": "Odd", "EventTime": NOW, "Resources": [{"ResourceType": "x"}]}]}))
    assert (one.user, one.source, one.address, one.region, one.resources) == ("", "", "", "us-east-1", [])


def test_a_secret_that_was_asked_for_is_named() -> None:
    (one,) = found(Asked({"Events": [raw(name="GetSecretValue", requestParameters={"secretId": "jwt"})]}))
    assert one.resources == ["jwt"]


@pytest.mark.parametrize(
    ("names", "unusual"),
    [
        (
            "CreateRole CreatePolicy UpdateAccessKey CreateSAMLProvider CreateOpenIDConnectProvider",
            "changes rights",
        ),
        ("DeleteUserPolicy DetachUserPolicy DeleteUserPermissionsBoundary RemoveUserFromGroup DeleteAccessKey", "changes rights"),
        ("StopLogging DeleteLogGroup StopConfigurationRecorder DisableSecurityHub DisableAlarmActions", "hides traces"),
        ("PutResourcePolicy PutKeyPolicy CreateGrant AddPermission20150331v2 ModifyImageAttribute", "opens access to others"),
        ("GetSecretValue ListUsers UpdateService CreateServiceLinkedRole PutMetricAlarm", ""),
    ],
)
def test_every_way_of_changing_rights_is_unusual(names: str, unusual: str) -> None:
    events = found(Asked({"Events": [raw(name=name) for name in names.split()]}))
    assert [(one.event, one.unusual) for one in events] == [(name, unusual) for name in names.split()]
