from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Request

from opsctl.sandbox import ghcr, hh, hubspot
from opsctl.sandbox.aws.wire import AwsError
from opsctl.sandbox.hubspot import FakeHubSpot
from opsctl.sandbox.hubspot_signatures import signature_v1, signature_v3
from opsctl.sandbox.services import SandboxContext

CONTACT = "156855158284"
VECTOR_SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
VECTOR_BODY = b"{'example_field':'example_value'}"


@dataclass
class FakeAws:
    values: dict[str, dict[str, str]]
    lines: list[tuple[str, dict[str, Any] | str]] = field(default_factory=list)
    name: str = "aws"
    edge: str = "edge"
    instance: str = "1"

    def secret(self, region: str, name: str) -> str:
        assert region == "us-west-2"
        if name not in self.values:
            raise AwsError("ResourceNotFoundException", "no such secret")
        return json.dumps(self.values[name])

    def function_instance(self, region: str, name: str) -> str:
        return self.instance

    def function_environment(self, region: str, name: str) -> dict[str, str]:
        assert (region, name) == ("us-west-2", "hh-authz")
        return {"EDGE_SHARED_SECRET": self.edge}

    def log(self, group: str, line: dict[str, Any] | str) -> None:
        self.lines.append((group, line))


class Rig:
    """HH with its HubSpot and an AWS that holds its secrets."""

    def __init__(self, folder: Path, tempo: float = 0.0) -> None:
        self.now = 1_700_000_000.0
        self.world = SandboxContext(folder, tempo, lambda: self.now)
        self.aws = FakeAws(
            {
                "/hh/prod/hubspot/app_secret": {"secret": "app"},
                "/hh/prod/hubspot/token": {"token": "pat-na1-sandbox"},
                "/hh/prod/ghcr/creds": {"username": "hh-partner", "pat": "ghp_sandbox"},
            }
        )
        part = hubspot.build(self.world)
        assert isinstance(part, FakeHubSpot)
        self.contacts = part.contacts
        self.world.parts |= {"aws": self.aws, "hubspot": part, "ghcr": ghcr.build(self.world)}  # type: ignore[dict-item]
        self.part = hh.FakeHh(self.world)
        self.client = Client(self.part.app)

    def token(self) -> str:
        contact = self.contacts.find(CONTACT)
        assert contact is not None
        return contact.value("download_token") or ""

    def webhook(self, *events: dict[str, Any], secret: str = "app", age: float = 0) -> TestResponse:
        body = json.dumps(events).encode()
        stamp = str(round((self.now - age) * 1000))
        signature = signature_v3(secret, "POST", "http://localhost/webhook", body, stamp)
        headers = {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp}
        return self.client.post("/webhook", data=body, headers=headers)

    def lease(self, token: str, edge: str = "edge") -> TestResponse:
        return self.client.get("/lease", query_string={"token": token}, headers={"X-Edge-Auth": edge})

    def logged(self, group: str) -> list[dict[str, Any]]:
        return [line for name, line in self.aws.lines if name == group and isinstance(line, dict)]

    def said(self, group: str) -> list[str]:
        return [line for name, line in self.aws.lines if name == group and isinstance(line, str)]

    def leases(self) -> dict[str, Any]:
        return dict(self.part.controls["GET /leases"](Request({})).get_json())


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
    signature = signature_v3(VECTOR_SECRET, "POST", uri, VECTOR_BODY, "1693657560000")
    assert signature == "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="


def test_a_v1_signature_is_the_one_of_hubspot_s_clients() -> None:
    assert signature_v1(VECTOR_SECRET, VECTOR_BODY) == "69fc6631a867edd4f9e9e627fc5c1148e3fbdd8b21837b6d2b8901c1fa57f750"


def test_a_signed_uri_is_decoded_where_hubspot_decodes_it() -> None:
    def sign(uri: str) -> str:
        return signature_v3("s", "POST", uri, b"", "1")

    assert sign("https://x/a?b=%3A%2f") == sign("https://x/a?b=:/")
    assert sign("https://x/a?b=%20") != sign("https://x/a?b= ")


def test_a_request_for_a_token_mints_one(rig: Rig) -> None:
    before = rig.token()
    assert rig.webhook(_event()).get_json() == {"minted": 1}
    assert rig.token() not in ("", before)
    assert rig.said("/aws/lambda/hh-webhook") == [f"minted_token {CONTACT} {rig.token()}"]
    (line,) = rig.logged("/aws/lambda/hh-webhook")
    assert line == {"type": "token_minted", "contactId": CONTACT, "eventId": 1, "attemptNumber": 0}
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
    assert [line["reason"] for line in rig.logged("/aws/lambda/hh-webhook")] == [
        "wrong-signature",
        "stale-timestamp",
        "missing-signature",
    ]
    assert rig.webhook(_event(), age=299).status_code == 200


def test_a_webhook_holds_a_hundred_events(rig: Rig) -> None:
    assert rig.webhook(*[_event(number, "false") for number in range(101)]).status_code == 400


def test_a_lease_gives_a_login_of_its_own_for_a_while(rig: Rig) -> None:
    answer = rig.lease(rig.token())
    body = answer.get_json()
    assert (body["registry"], body["username"], body["expiresAt"]) == ("ghcr.io", "hh-partner", "2023-11-14T22:28:20.000Z")
    assert body["password"] not in ("", "ghp_sandbox")
    (line,) = rig.logged("/aws/lambda/hh-lease")
    number = answer.headers["apigw-requestid"]
    assert line == {"type": "lease_ok", "requestId": number, "contactId": CONTACT, "email": "contact0@example.com"}
    leases = rig.leases()
    assert (leases["count"], leases["leases"][0]["contactId"], leases["leases"][0]["requestId"]) == (1, CONTACT, number)
    assert body["password"] not in json.dumps(leases)


def test_a_refused_lease_grants_nothing(rig: Rig) -> None:
    rig.lease(f"{CONTACT}-wrong")
    assert rig.leases() == {"count": 0, "leases": []}


def test_a_lease_is_asked_for_by_header_and_body_too(rig: Rig) -> None:
    edge = {"X-Edge-Auth": "edge"}
    assert rig.client.post("/lease", json={"token": rig.token()}, headers=edge).status_code == 200
    bearer = {"Authorization": f"Bearer {rig.token()}", **edge}
    assert rig.client.get("/lease", headers=bearer).status_code == 200


def test_a_missing_and_a_wrong_edge_header_are_401_in_the_authorizer_s_log(rig: Rig) -> None:
    missing = rig.client.get("/lease", query_string={"token": rig.token()})
    wrong = rig.lease(rig.token(), edge="wrong")
    assert (missing.status_code, wrong.status_code) == (401, 401)
    lines = rig.logged("/aws/lambda/hh-authz")
    assert [(line["type"], line["reason"]) for line in lines] == [
        ("authz_denied", "missing-edge-auth"),
        ("authz_denied", "wrong-edge-auth"),
    ]
    assert lines[1]["requestId"] == wrong.headers["apigw-requestid"]
    assert rig.logged("/aws/lambda/hh-lease") == []
    rig.lease(rig.token())
    assert rig.logged("/aws/lambda/hh-authz")[-1]["type"] == "authz_ok"


def test_the_gateway_lets_a_header_pass_for_five_minutes_after_it_was_right(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tempo=1.0)
    assert rig.lease(rig.token(), edge="new").status_code == 401
    assert rig.lease(rig.token()).status_code == 200
    rig.aws.edge = "new"
    assert rig.lease(rig.token(), edge="new").status_code == 200
    assert rig.lease(rig.token()).status_code == 200
    rig.now += 301
    assert rig.lease(rig.token()).status_code == 401


def test_a_function_keeps_a_secret_for_five_minutes_or_until_it_is_replaced(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tempo=1.0)
    assert rig.lease(rig.token()).status_code == 200
    rig.aws.values["/hh/prod/hubspot/token"] = {"token": "stale"}
    assert rig.lease(rig.token()).status_code == 200
    rig.aws.instance = "2"
    assert rig.lease(rig.token()).status_code == 502
    rig.aws.values["/hh/prod/hubspot/token"] = {"token": "pat-na1-sandbox"}
    assert rig.lease(rig.token()).status_code == 502
    rig.now += 301
    assert rig.lease(rig.token()).status_code == 200


def test_a_pat_that_may_not_pull_is_500(rig: Rig) -> None:
    rig.aws.values["/hh/prod/ghcr/creds"]["pat"] = "ghp_wrong"
    answer = rig.lease(rig.token())
    assert (answer.status_code, answer.get_json()) == (500, {"error": "internal-error"})
    (line,) = rig.logged("/aws/lambda/hh-lease")
    assert (line["type"], line["where"], line["detail"]) == ("lease_error", "ghcr", "status 403")
    assert rig.leases()["count"] == 0


@pytest.mark.parametrize("name", ["/hh/prod/ghcr/creds", "/hh/prod/hubspot/token"])
@pytest.mark.parametrize("value", [None, {}])
def test_a_secret_that_cannot_be_read_is_500(rig: Rig, name: str, value: dict[str, str] | None) -> None:
    del rig.aws.values[name]
    if value is not None:
        rig.aws.values[name] = value
    assert rig.lease(rig.token()).status_code == 500
    assert rig.logged("/aws/lambda/hh-lease")[0]["where"] == "secrets"


def test_a_failure_that_a_fault_made_is_logged(rig: Rig) -> None:
    rig.part.failed("POST /lease", 500)
    rig.part.failed("POST /webhook", 502)
    (line,) = rig.logged("/aws/lambda/hh-lease")
    assert (line["type"], line["where"], line["detail"]) == ("lease_error", "handler", "status 500")
    assert rig.logged("/aws/lambda/hh-webhook")[0]["type"] == "mint_error"


def test_a_mint_for_a_contact_that_does_not_exist_is_an_error_and_not_sent_again(rig: Rig) -> None:
    answer = rig.webhook(_event(objectId=1))
    assert (answer.status_code, answer.get_json()) == (200, {"minted": 0})
    (line,) = rig.logged("/aws/lambda/hh-webhook")
    assert (line["type"], line["contactId"], line["detail"]) == ("mint_error", "1", "status 404 OBJECT_NOT_FOUND")
    assert rig.said("/aws/lambda/hh-webhook") == []


@pytest.mark.parametrize("token", ["", "x", f"{CONTACT}-wrong", "1-x"])
def test_a_wrong_code_is_an_invalid_token(rig: Rig, token: str) -> None:
    answer = rig.lease(token)
    assert (answer.status_code, answer.get_json()) == (403, {"error": "invalid-token"})
    (line,) = rig.logged("/aws/lambda/hh-lease")
    assert (line["type"], line["reason"]) == ("lease_denied", "invalid-token")


def test_a_disabled_contact_is_denied(rig: Rig) -> None:
    token = rig.token()
    rig.contacts.write(CONTACT, {"download_enabled": "false"})
    answer = rig.lease(token)
    assert (answer.status_code, answer.get_json()) == (403, {"error": "disabled"})
    (line,) = rig.logged("/aws/lambda/hh-lease")
    assert (line["type"], line["reason"], line["email"]) == ("lease_denied", "disabled", "contact0@example.com")


def test_a_cleared_token_is_invalid(rig: Rig) -> None:
    token = rig.token()
    rig.contacts.write(CONTACT, {"download_token": ""})
    assert rig.lease(token).get_json() == {"error": "invalid-token"}


def test_a_hubspot_that_refuses_is_502(rig: Rig) -> None:
    token = rig.token()
    rig.aws.values["/hh/prod/hubspot/token"] = {"token": "stale"}
    assert rig.lease(token).status_code == 502
    assert rig.webhook(_event()).status_code == 502
    (line,) = rig.logged("/aws/lambda/hh-lease")
    assert (line["type"], line["where"], line["detail"]) == ("lease_error", "hubspot", "status 401 INVALID_AUTHENTICATION")
    (line,) = rig.logged("/aws/lambda/hh-webhook")
    assert (line["type"], line["contactId"], line["where"]) == ("mint_error", CONTACT, "hubspot")


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
