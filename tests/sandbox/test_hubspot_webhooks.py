"""From a property to a pairing code: HubSpot's stand-in tells HH's one, which mints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from opsctl.sandbox import hh, hubspot
from opsctl.sandbox.hubspot import TOKENS, FakeHubSpot
from opsctl.sandbox.hubspot_contacts import FIRST
from opsctl.sandbox.hubspot_signatures import signature_v1, signature_v3
from opsctl.sandbox.services import SandboxContext

ENABLED = str(FIRST)
NEVER_ASKED = str(FIRST + 9)


class Target:
    """A webhook that answers as a test says, and keeps what it got."""

    name = "hh"

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        self.got.append((dict(request.headers), request.get_data()))
        return Response(status=self.answers.pop(0) if self.answers else 200)(environ, start_response)

    def operation(self, environ: Any) -> str:
        return "POST /webhook"

    def reset(self) -> None:
        self.got.clear()

    def events(self) -> list[dict[str, Any]]:
        return [event for _, body in self.got for event in json.loads(body)]


class Portal:
    """HubSpot beside a webhook in one world."""

    def __init__(self, folder: Path, target: Any = None) -> None:
        self.world = SandboxContext(folder, 0)
        part = hubspot.build(self.world)
        assert isinstance(part, FakeHubSpot)
        self.part, self.client = part, Client(part.app)
        self.target: Any = target or hh.build(self.world)
        self.world.parts |= {"hubspot": part, "hh": self.target}

    def patch(self, contact: str, **properties: str) -> None:
        headers = {"Authorization": f"Bearer {TOKENS['hs_token']}"}
        answer = self.client.patch(f"/crm/v3/objects/contacts/{contact}", json={"properties": properties}, headers=headers)
        assert answer.status_code == 200

    def control(self, name: str, body: Any = None, **values: str) -> Any:
        environ = Request.from_values(json=body, method="POST").environ
        return self.part.controls[name](Request(environ), **values).get_json()

    def token(self, contact: str) -> str:
        found = self.part.contacts.find(contact)
        assert found is not None
        return found.value("download_token") or ""

    def settled(self) -> list[dict[str, Any]]:
        """Every delivery, once all of them have ended."""
        return list(until(lambda: self.part.webhooks.deliveries() if self._ended() else None))

    def _ended(self) -> bool:
        return all(each["ended"] for each in self.part.webhooks.deliveries())


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.005)
    raise AssertionError("nothing came")


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    portal = Portal(tmp_path)
    yield portal
    portal.part.reset()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Portal]:
    portal = Portal(tmp_path, Target())
    yield portal
    portal.part.reset()


def test_asking_for_a_token_mints_one_a_little_later(portal: Portal) -> None:
    assert portal.token(NEVER_ASKED) == ""
    portal.patch(NEVER_ASKED, download_requested="true")
    assert until(lambda: portal.token(NEVER_ASKED)).startswith(f"{NEVER_ASKED}-")


def test_a_value_that_is_there_already_tells_nobody(portal: Portal) -> None:
    portal.patch(ENABLED, download_token="", download_requested="true")
    assert portal.part.webhooks.deliveries() == []
    assert portal.token(ENABLED) == ""


def test_off_then_on_mints_again(portal: Portal) -> None:
    before = portal.token(ENABLED)
    portal.patch(ENABLED, download_requested="false")
    portal.patch(ENABLED, download_requested="true")
    portal.settled()
    assert portal.token(ENABLED) not in ("", before)


def test_a_revoke_with_a_request_that_is_new_mints_again(portal: Portal) -> None:
    portal.patch(ENABLED, download_requested="false")
    portal.patch(ENABLED, download_token="", download_requested="true")
    assert until(lambda: portal.token(ENABLED))


def test_history_tells_who_asked(portal: Portal) -> None:
    portal.control("POST /edit/{id}", {"properties": {"download_requested": "true"}}, id=NEVER_ASKED)
    assert until(lambda: portal.token(NEVER_ASKED))
    found = portal.part.contacts.find(NEVER_ASKED)
    assert found is not None
    history = found.shown([], ["download_requested", "download_token"])["propertiesWithHistory"]
    (edit, seeded), (minted, _) = history["download_requested"], history["download_token"]
    assert (edit["sourceType"], edit["sourceId"], edit["updatedByUserId"]) == ("CRM_UI", "userId:9586504", 9586504)
    assert (minted["sourceType"], minted["sourceId"], minted["updatedByUserId"]) == ("INTEGRATION", "7906213", None)
    assert seeded["sourceType"] == "IMPORT"


def test_an_event_is_hubspot_s_and_signed(told: Portal) -> None:
    told.patch(ENABLED, download_requested="false", lastname="Ada")
    told.settled()
    ((headers, body),) = told.target.got
    (event,) = json.loads(body)
    assert (event["objectId"], event["propertyName"], event["propertyValue"]) == (FIRST, "download_requested", "false")
    assert (event["portalId"], event["appId"], event["subscriptionId"]) == (891472211, 7906213, 686627)
    assert (event["subscriptionType"], event["attemptNumber"], event["sourceId"]) == ("contact.propertyChange", 0, "7906213")
    stamp = headers["X-Hubspot-Request-Timestamp"]
    assert headers["X-Hubspot-Signature"] == signature_v1("sandbox-app-secret", body)
    assert headers["X-Hubspot-Signature-V3"] == signature_v3("sandbox-app-secret", "POST", "http://localhost/webhook", body, stamp)


def test_a_batch_is_one_delivery(told: Portal) -> None:
    inputs = [{"id": str(FIRST + number), "properties": {"download_requested": "false"}} for number in range(5)]
    headers = {"Authorization": f"Bearer {TOKENS['hs_token']}"}
    told.client.post("/crm/v3/objects/contacts/batch/update", json={"inputs": inputs}, headers=headers)
    (delivery,) = told.settled()
    assert [event["objectId"] for event in delivery["events"]] == [FIRST + number for number in range(5)]


def test_a_refused_event_is_sent_again_a_few_times(told: Portal) -> None:
    told.target.answers = [500, 401]
    told.patch(ENABLED, download_requested="false")
    (delivery,) = told.settled()
    assert delivery["statuses"] == [500, 401, 200]
    assert [event["attemptNumber"] for event in told.target.events()] == [0, 1, 2]
    told.target.answers = [503] * 9
    told.patch(ENABLED, download_requested="true")
    assert told.settled()[-1]["statuses"] == [503] * 5


def test_an_event_that_comes_twice_mints_once(portal: Portal) -> None:
    portal.patch(NEVER_ASKED, download_requested="true")
    portal.settled()
    before = portal.token(NEVER_ASKED)
    assert portal.control("POST /redeliver") == {"sent": True}
    assert [delivery["statuses"] for delivery in portal.settled()] == [[200], [200]]
    assert portal.token(NEVER_ASKED) == before != ""


class Holder:
    """An AWS that holds the app's secret as HH has it."""

    name = "aws"
    held = "sandbox-app-secret"

    def secret(self, region: str, name: str) -> str:
        return json.dumps({"secret": self.held, "token": TOKENS["hs_token"]})


def test_the_next_app_secret_signs_from_when_hh_holds_it(portal: Portal) -> None:
    aws = Holder()
    portal.world.parts["aws"] = aws  # type: ignore[assignment]
    aws.held = "sandbox-next-app-secret"
    portal.patch(NEVER_ASKED, download_requested="true")
    assert until(lambda: portal.token(NEVER_ASKED))


def test_with_an_app_secret_that_is_not_hubspot_s_nothing_is_minted(portal: Portal) -> None:
    aws = Holder()
    portal.world.parts["aws"] = aws  # type: ignore[assignment]
    aws.held = "made up"
    portal.patch(NEVER_ASKED, download_requested="true")
    assert portal.settled()[0]["statuses"] == [401] * 5
    assert portal.token(NEVER_ASKED) == ""


def test_nothing_comes_after_a_reset(told: Portal) -> None:
    told.target.answers = [500] * 50
    told.patch(ENABLED, download_requested="false")
    told.part.reset()
    sent = len(told.target.got)
    assert told.part.webhooks.deliveries() == []
    told.patch(ENABLED, download_requested="false")
    told.settled()
    assert len(told.target.got) == sent + 5
