"""What opsctl asks HubSpot, and what the stand-in answers, held against one description of both."""

from __future__ import annotations

import json
import queue
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from contract import Broken, Contract
from jsonschema import Draft202012Validator
from portal import Portal, contact_id
from werkzeug.wrappers import Request, Response

from opsctl.adapters.http import webhook
from opsctl.errors import OpsctlError
from opsctl.redaction import Secret
from opsctl.settings import Reference

DESCRIPTION = Path(__file__).parent / "hubspot.yaml"
FIRST = contact_id(0)
CONTACTS = "/crm/v3/objects/contacts"
OFF = {"download_enabled": "false"}


@pytest.fixture
def contract():
    return Contract(DESCRIPTION)


@pytest.fixture
def open_portal(tmp_path):
    made = []

    def open_it(**facts):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Portal(folder, **facts))
        return made[-1]

    yield open_it
    for each in made:
        each.close()


def use(portal, token="hs_token"):
    """Everything that the adapter can ask, with good and bad arguments."""
    hubspot = portal.systems(writing=True, token=token).hubspot
    for call in (
        hubspot.account,
        lambda: hubspot.contact(FIRST, ["download_enabled"], ["download_enabled", "download_requested"]),
        lambda: hubspot.contact("contact1+x@example.com"),
        lambda: hubspot.contact("12"),
        lambda: hubspot.read([contact_id(number) for number in range(120)], ["download_enabled", "download_token"]),
        lambda: hubspot.read([FIRST, "12"]),
        lambda: hubspot.resolve([f"contact{number}@example.com" for number in range(101)]),
        lambda: hubspot.resolve(["nobody@example.com"]),
        lambda: hubspot.set(FIRST, {"download_enabled": "false", "download_token": ""}),
        lambda: hubspot.set("12", OFF),
        lambda: hubspot.set(FIRST, {"shoe_size": "42"}),
        lambda: hubspot.update({contact_id(number): OFF for number in range(120)}),
        lambda: hubspot.update({FIRST: OFF, "12": OFF, "13": OFF}),
        lambda: hubspot.update({FIRST: {"shoe_size": "42"}}),
        # Only a careless caller could: opsctl never asks for one twice.
        lambda: hubspot._http.call("POST", f"{CONTACTS}/batch/read", "x", json={"inputs": [{"id": "12"}] * 2, "properties": []}),
    ):
        with suppress(OpsctlError):
            call()


def refused(portal, token="hs_token"):
    """Each operation once, whatever is answered."""
    hubspot = portal.systems(writing=True, token=token).hubspot
    hubspot._http._learn = lambda answer: None
    hubspot._http.pause = lambda seconds: None
    batch = {"inputs": [{"id": FIRST, "properties": OFF}]}
    for method, path, body in (
        ("GET", "/account-info/v3/details", None),
        ("GET", f"{CONTACTS}/{FIRST}", None),
        ("PATCH", f"{CONTACTS}/{FIRST}", {"properties": OFF}),
        ("POST", f"{CONTACTS}/batch/read", {"inputs": [{"id": FIRST}], "properties": []}),
        ("POST", f"{CONTACTS}/batch/update", batch),
    ):
        with suppress(OpsctlError):
            hubspot._http.call(method, path, "x", json=body)


def test_every_request_and_every_answer_is_as_described(contract, open_portal):
    merged = open_portal()
    merged.contacts.merge(contact_id(5), FIRST)
    use(merged)
    for token in ("hs_reading_token", "hs_expired_token", "of-nobody"):
        refused(merged, token)
    for limited in (open_portal(hs_daily="1"), open_portal(tempo=1, hs_burst="1")):
        refused(limited)
        refused(limited)
        merged.calls += limited.calls
    for call in merged.calls:
        if is_careless(call):
            with pytest.raises(Broken):
                contract.check(call)
            call = replace(call, body={"inputs": [{"id": "12"}], "properties": []})
        contract.check(call)
    # Nothing is described that was not met.
    assert contract.operations() == contract.met


def is_careless(call):
    inputs = (call.body or {}).get("inputs", [])
    return len({each["id"] for each in inputs}) < len(inputs)


class Listener:
    """A part in the place of the webhook, which takes everything."""

    name = "hh"

    def __init__(self):
        self.seen = queue.Queue()

    def app(self, environ, start_response):
        request = Request(environ)
        self.seen.put((dict(request.headers), request.get_json()))
        return Response("{}")(environ, start_response)

    def operation(self, environ):
        return ""

    def reset(self):
        pass


def test_an_event_of_the_stand_in_is_as_described(contract, open_portal):
    portal = open_portal()
    portal.world.parts["hh"] = listener = Listener()
    portal.systems(writing=True).hubspot.set(contact_id(9), {"download_requested": "true"})
    headers, body = listener.seen.get(timeout=10)
    contract.check_webhook("contactPropertyChange", {name.lower(): value for name, value in headers.items()}, body)


def test_an_event_of_ours_is_as_described(contract, open_portal, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("an-app-secret")
    secret = Reference(file=str(tmp_path / "secret"))
    systems = open_portal().systems(writing=True, webhook="http://127.0.0.1:1/webhook", app_secret=secret)
    sent = []
    monkeypatch.setattr(systems.webhook._http, "post", lambda path, body, headers: sent.append((headers, json.loads(body))))
    systems.webhook.send(FIRST, "download_requested", "true")
    headers, body = sent[0]
    contract.check_webhook("contactPropertyChange", {name.lower(): value for name, value in headers.items()}, body)


def test_the_check_notices_an_event_that_is_not_described(contract):
    event = {
        "eventId": 3029365631,
        "subscriptionId": 686627,
        "portalId": 891472211,
        "appId": 7906213,
        "occurredAt": 1715203101896,
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": 847297356,
        "propertyName": "download_requested",
        "propertyValue": "true",
        "changeSource": "CRM_UI",
        "sourceId": "userId:1",
    }
    signed = webhook.signed_headers(Secret("an-app-secret"), "POST", "https://x.example/", b"[]", datetime.now(UTC))
    headers = {name.lower(): value for name, value in signed.items()}
    contract.check_webhook("contactPropertyChange", headers, [event])
    for name in list(headers):
        if name.startswith("x-"):
            with pytest.raises(Broken):
                contract.check_webhook("contactPropertyChange", {**headers, name: "bad"}, [event])
    for bad in ({**event, "occurredAt": 1715203101}, {**event, "surprise": 1}, {**event, "objectId": "847297356"}):
        with pytest.raises(Broken):
            contract.check_webhook("contactPropertyChange", headers, [bad])


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/crm/v3/objects/contacts/1/associations"},
        {"method": "PUT"},
        {"query": {"archived": "true"}},
        {"query": {"properties": "a, b"}},
        {"headers": {}},
        {"status": 418},
        {"answer": {"id": 1}},
        {"answer_headers": {"Content-Type": "application/json"}},
    ],
)
def test_the_check_notices_what_is_not_described(contract, open_portal, change):
    portal = open_portal()
    portal.systems(writing=False).hubspot.contact(FIRST)
    call = portal.calls[-1]
    contract.check(call)
    with pytest.raises(Broken):
        contract.check(replace(call, **change))


def test_the_check_notices_a_body_that_is_not_described(contract, open_portal):
    portal = open_portal()
    portal.systems(writing=True).hubspot.update({FIRST: OFF})
    call = portal.calls[-1]
    one = call.body["inputs"][0]
    for body in (
        None,
        {"inputs": []},
        {"inputs": [one] * 101},
        {"inputs": [{**one, "idProperty": "email"}]},
        {"inputs": [{"id": int(FIRST), "properties": OFF}]},
        {"inputs": [{"id": FIRST, "properties": {"download_enabled": False}}]},
        {"inputs": [one], "properties": []},
    ):
        with pytest.raises(Broken):
            contract.check(replace(call, body=body))


def test_the_descriptions_own_schemas_are_json_schemas(contract):
    for schema in contract._whole["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
