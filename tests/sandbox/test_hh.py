from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from opsctl.sandbox import hh, hubspot
from opsctl.sandbox.hubspot import HubSpot
from opsctl.sandbox.parts import World

CONTACT = "156855158284"
VECTOR_SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
VECTOR_BODY = b"{'example_field':'example_value'}"


@dataclass
class FakeAws:
    values: dict[str, dict[str, str]]
    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    name: str = "aws"

    def secret(self, region: str, name: str) -> str:
        assert region == "us-west-2"
        return json.dumps(self.values[name])

    def function_environment(self, region: str, name: str) -> dict[str, str]:
        assert (region, name) == ("us-west-2", "hh-authz")
        return {"EDGE_SHARED_SECRET": "edge"}

    def log(self, group: str, line: dict[str, Any]) -> None:
        self.lines.append((group, line))


class Rig:
    """HH with its HubSpot and an AWS that holds its secrets."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_700_000_000.0
        self.world = World(folder, 0, lambda: self.now)
        self.aws = FakeAws(
            {
                "/hh/prod/hubspot/app_secret": {"secret": "app"},
                "/hh/prod/hubspot/token": {"token": "pat-na1-sandbox"},
                "/hh/prod/ghcr/creds": {"username": "hh-partner", "pat": "ghp_x"},
            }
        )
        part = hubspot.build(self.world)
        assert isinstance(part, HubSpot)
        self.contacts = part.contacts
        self.world.parts |= {"aws": self.aws, "hubspot": part}  # type: ignore[dict-item]
        self.client = Client(hh.build(self.world).app)

    def token(self) -> str:
        contact = self.contacts.find(CONTACT)
        assert contact is not None
        return contact.value("download_token") or ""

    def webhook(self, *events: dict[str, Any], secret: str = "app", age: float = 0) -> TestResponse:
        body = json.dumps(events).encode()
        stamp = str(round((self.now - age) * 1000))
        signature = hh.signature_v3(secret, "POST", "http://localhost/webhook", body, stamp)
        headers = {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp}
        return self.client.post("/webhook", data=body, headers=headers)

    def lease(self, token: str, edge: str = "edge") -> TestResponse:
        return self.client.get("/lease", query_string={"token": token}, headers={"X-Edge-Auth": edge})

    def logged(self, group: str) -> list[dict[str, Any]]:
        return [line for name, line in self.aws.lines if name == group]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def _event(number: int = 1, value: str = "true", **changed: Any) -> dict[str, Any]:
    return {
        "eventId": number,
        "subscriptionType": "contact.propertyChange",
        "objectId": int(CONTACT),
        "occurredAt": 1_699_999_999_000,
        "propertyName": "download_requested",
        "propertyValue": value,
        **changed,
    }


def test_a_v3_signature_is_the_one_of_hubspot_s_clients() -> None:
    uri = "https://www.example.com/webhook_uri"
    signature = hh.signature_v3(VECTOR_SECRET, "POST", uri, VECTOR_BODY, "1693657560000")
    assert signature == "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="


def test_a_signed_uri_is_decoded_where_hubspot_decodes_it() -> None:
    def sign(uri: str) -> str:
        return hh.signature_v3("s", "POST", uri, b"", "1")

    assert sign("https://x/a?b=%3A%2f") == sign("https://x/a?b=:/")
    assert sign("https://x/a?b=%20") != sign("https://x/a?b= ")


def test_a_request_for_a_token_mints_one(rig: Rig) -> None:
    before = rig.token()
    assert rig.webhook(_event()).get_json() == {"minted": 1}
    assert rig.token() not in ("", before)
    assert rig.logged("/aws/lambda/hh-webhook")[0]["message"] == f"minted_token {CONTACT} {rig.token()}"
    assert rig.lease(rig.token()).status_code == 200
    assert rig.lease(before).status_code == 403


@pytest.mark.parametrize(
    "event", [_event(value="false"), _event(propertyName="email"), _event(subscriptionType="contact.creation"), "text"]
)
def test_another_event_mints_nothing(rig: Rig, event: Any) -> None:
    before = rig.token()
    assert rig.webhook(event).get_json() == {"minted": 0}
    assert rig.token() == before


def test_an_event_that_comes_twice_mints_once(rig: Rig) -> None:
    rig.webhook(_event())
    once = rig.token()
    assert rig.webhook(_event()).status_code == 200
    assert rig.token() == once
    rig.webhook(_event(2))
    assert rig.token() != once


def test_a_wrong_or_old_signature_is_refused(rig: Rig) -> None:
    before = rig.token()
    assert rig.webhook(_event(), secret="another").status_code == 401
    assert rig.webhook(_event(), age=301).status_code == 401
    assert rig.client.post("/webhook", json=[_event()]).status_code == 401
    assert rig.token() == before
    assert rig.webhook(_event(), age=299).status_code == 200


def test_a_webhook_holds_a_hundred_events(rig: Rig) -> None:
    assert rig.webhook(*[_event(number, "false") for number in range(101)]).status_code == 400


def test_a_lease_gives_the_registry_s_login(rig: Rig) -> None:
    answer = rig.lease(rig.token())
    assert answer.get_json() == {"registry": "ghcr.io", "username": "hh-partner", "password": "ghp_x"}
    (line,) = rig.logged("/aws/lambda/hh-lease")
    assert (line["type"], line["contactId"], line["email"]) == ("lease_ok", CONTACT, "contact0@example.com")


def test_a_lease_is_asked_for_by_header_and_body_too(rig: Rig) -> None:
    edge = {"X-Edge-Auth": "edge"}
    assert rig.client.post("/lease", json={"token": rig.token()}, headers=edge).status_code == 200
    bearer = {"Authorization": f"Bearer {rig.token()}", **edge}
    assert rig.client.get("/lease", headers=bearer).status_code == 200


def test_a_missing_edge_header_is_401_and_a_wrong_one_403(rig: Rig) -> None:
    assert rig.client.get("/lease", query_string={"token": rig.token()}).status_code == 401
    assert rig.lease(rig.token(), edge="wrong").status_code == 403


@pytest.mark.parametrize("token", ["", "x", f"{CONTACT}-wrong", "1-x"])
def test_a_wrong_code_is_an_invalid_token(rig: Rig, token: str) -> None:
    answer = rig.lease(token)
    assert (answer.status_code, answer.get_json()) == (403, {"error": "invalid-token"})
    assert rig.logged("/aws/lambda/hh-lease")[0]["reason"] == "invalid-token"


def test_a_disabled_contact_is_denied(rig: Rig) -> None:
    token = rig.token()
    rig.contacts.write(CONTACT, {"download_enabled": "false"})
    answer = rig.lease(token)
    assert (answer.status_code, answer.get_json()) == (403, {"error": "disabled"})
    assert rig.logged("/aws/lambda/hh-lease")[0]["type"] == "lease_denied"


def test_a_cleared_token_is_invalid(rig: Rig) -> None:
    token = rig.token()
    rig.contacts.write(CONTACT, {"download_token": ""})
    assert rig.lease(token).get_json() == {"error": "invalid-token"}


def test_a_hubspot_that_refuses_is_502(rig: Rig) -> None:
    token = rig.token()
    rig.aws.values["/hh/prod/hubspot/token"] = {"token": "stale"}
    assert rig.lease(token).status_code == 502
    assert rig.webhook(_event()).status_code == 502
    assert rig.logged("/aws/lambda/hh-lease")[0]["type"] == "lease_error"


def test_an_event_whose_mint_failed_may_come_again(rig: Rig) -> None:
    before = rig.token()
    right = rig.aws.values["/hh/prod/hubspot/token"]
    rig.aws.values["/hh/prod/hubspot/token"] = {"token": "stale"}
    assert rig.webhook(_event()).status_code == 502
    rig.aws.values["/hh/prod/hubspot/token"] = right
    assert rig.webhook(_event()).get_json() == {"minted": 1}
    assert rig.token() != before


def test_without_an_aws_that_offers_secrets_the_world_s_facts_stand_for_them(rig: Rig) -> None:
    rig.world.parts["aws"] = object()  # type: ignore[assignment]
    rig.world.facts |= {"hs_app_secret": "fact", "edge_shared_secret": "fact-edge"}
    assert rig.webhook(_event(), secret="fact").status_code == 200
    assert rig.lease(rig.token(), edge="fact-edge").status_code == 200
