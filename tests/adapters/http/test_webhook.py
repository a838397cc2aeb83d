"""Events signed as HubSpot signs them, by the vectors of its own clients, and what they do to the stand-in of the webhook."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from opsctl.adapters.http.webhook import signature_v1, signature_v3
from opsctl.errors import ConfigurationError, CredentialsInvalid, OutcomeUnknown, ReadOnly
from opsctl.redaction import Secret
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule

SECRET = Secret("yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy")
URI = "https://www.example.com/webhook_uri"
BODY = b"{'example_field':'example_value'}"
CONTACT = "156855158284"


def test_the_published_vectors():
    assert signature_v1(SECRET, BODY) == "69fc6631a867edd4f9e9e627fc5c1148e3fbdd8b21837b6d2b8901c1fa57f750"
    assert signature_v3(SECRET, "POST", URI, BODY, "1693657560000") == "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="


def test_only_some_characters_of_the_address_are_decoded():
    def signed(uri):
        return signature_v3(SECRET, "POST", uri, b"", "1")

    coded = "%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B"
    assert signed(f"{URI}?a={coded}") == signed(f"{URI}?a={coded.lower()}") == signed(f"{URI}?a=:/?@!$'()*,;")
    for kept, plain in (("%20", " "), ("%26", "&"), ("%3D", "="), ("%25", "%"), ("%2B", "+"), ("%C3%A9", "é")):
        assert signed(f"{URI}?a={kept}") != signed(f"{URI}?a={plain}")
    # What is decoded once is not decoded again.
    assert signed(f"{URI}?a=%253A") != signed(f"{URI}?a=%3A")


@pytest.fixture
def token(systems):
    def read():
        return systems(writing=False).hubspot.contact(CONTACT, ["download_token"]).properties["download_token"]

    return read


def test_a_sent_event_mints_once_however_often_it_comes(systems, token):
    webhook = systems(writing=True).webhook
    before = token()
    first = webhook.send(CONTACT, "download_requested", "true", event=4711)
    minted = token()
    assert minted != before
    assert webhook.send(CONTACT, "download_requested", "true", event=4711, at=first.at) == first
    assert token() == minted
    webhook.send(CONTACT, "download_requested", "true", event=4712, at=first.at)
    assert token() != minted
    assert webhook.send(CONTACT, "download_requested", "true").event_id != webhook.send(CONTACT, "download_requested", "true").event_id


def test_an_event_is_shaped_and_signed_as_hubspots(systems, server, world):
    webhook = systems(writing=True, replace={'"world:hh_webhook/webhook"': f'"{server.base}/webhook%3A?x=%20y"'}).webhook
    sent = webhook.send(CONTACT, "download_requested", "true")
    method, path, headers, body = server.seen[0]
    assert (method, path) == ("POST", "/webhook%3A?x=%20y")
    assert json.loads(body) == [
        {
            "eventId": sent.event_id,
            "subscriptionId": 686627,
            "portalId": 891472211,
            "appId": 7906213,
            "occurredAt": round(sent.at.timestamp() * 1000),
            "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0,
            "objectId": int(CONTACT),
            "propertyName": "download_requested",
            "propertyValue": "true",
            "changeSource": "CRM_UI",
            "sourceId": "opsctl",
        }
    ]
    secret = webhook._secret
    stamp = headers["X-HubSpot-Request-Timestamp"]
    assert re.fullmatch(r"\d{13}", stamp)
    assert headers["X-HubSpot-Signature"] == signature_v1(secret, body)
    assert headers["X-HubSpot-Signature-Version"] == "v1"
    assert headers["X-HubSpot-Signature-v3"] == signature_v3(secret, "POST", f"{server.base}/webhook:?x=%20y", body, stamp)


def test_a_signature_with_another_secret_is_refused(systems, token, monkeypatch):
    monkeypatch.setenv("APP_SECRET", "another-app-secret")
    held = 'app-secret = { aws = "/hh/prod/hubspot/app_secret", key = "secret", region = "us-west-2" }'
    before = token()
    with pytest.raises(CredentialsInvalid) as failed:
        systems(writing=True, replace={held: 'app-secret = { env = "APP_SECRET" }'}).webhook.send(CONTACT, "download_requested", "true")
    assert "app-secret" in failed.value.next
    assert "another-app-secret" not in failed.value.what
    assert token() == before


def test_an_old_event_is_refused(systems, token):
    made = systems(writing=True)
    made.now = lambda: datetime.now(UTC) - timedelta(minutes=6)
    before = token()
    with pytest.raises(CredentialsInvalid):
        made.webhook.send(CONTACT, "download_requested", "true")
    assert token() == before


def test_an_event_whose_answer_was_lost_is_not_sent_again(systems, folder, token):
    before = token()
    lifecycle.set_fault(folder, Rule("hh", "POST /webhook", "timeout-after-effect"))
    with pytest.raises(OutcomeUnknown):
        systems(writing=True).webhook.send(CONTACT, "download_requested", "true")
    assert token() != before


def test_a_reading_one_sends_nothing(systems, server):
    webhook = systems(writing=False, replace={'"world:hh_webhook/webhook"': f'"{server.base}/webhook"'}).webhook
    with pytest.raises(ReadOnly):
        webhook.send(CONTACT, "download_requested", "true")
    with pytest.raises(ReadOnly):
        webhook._http.post("/webhook", b"[]", {})
    assert server.seen == []


def test_a_webhook_that_is_not_configured_says_so(systems):
    with pytest.raises(ConfigurationError, match="webhook"):
        systems(writing=True, replace={'webhook = "world:hh_webhook/webhook"': ""}).webhook  # noqa: B018
