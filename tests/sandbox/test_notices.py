from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from opsctl.sandbox import notices
from opsctl.sandbox.notices import PAGERDUTY_KEY, STATUSPAGE_KEY
from opsctl.sandbox.services import SandboxContext

HOOK = "/slack/services/T1/B1/sandbox"
INCIDENTS = "/statuspage/v1/pages/p1/incidents"
KEY = {"Authorization": f"OAuth {STATUSPAGE_KEY}"}
EVENT = {
    "routing_key": PAGERDUTY_KEY,
    "event_action": "trigger",
    "dedup_key": "run-1",
    "payload": {"summary": "down", "source": "opsctl", "severity": "critical"},
}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(notices.build(SandboxContext(tmp_path, tempo=0)).app)


def _sent(client: Client, channel: str) -> list[dict[str, Any]]:
    return list(client.get("/sent").get_json()[channel])


def _report(client: Client, **incident: Any) -> TestResponse:
    return client.post(INCIDENTS, json={"incident": {"name": "Login", "body": "b", **incident}}, headers=KEY)


def test_slack_answers_ok_in_plain_text(client: Client) -> None:
    answer = client.post(HOOK, json={"text": "hello"})
    assert (answer.status_code, answer.text, answer.mimetype) == (200, "ok", "text/plain")
    assert [entry["message"] for entry in _sent(client, "slack")] == [{"text": "hello"}]


def test_slack_is_not_idempotent(client: Client) -> None:
    for _ in range(2):
        client.post(HOOK, json={"text": "hello"})
    assert len(_sent(client, "slack")) == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (HOOK, b"{", 400, "invalid_payload"),
        (HOOK, b"[]", 400, "invalid_payload"),
        (HOOK, b"{}", 400, "no_text"),
        ("/slack/services/T1/B1/other", b'{"text": "x"}', 404, "no_service"),
        ("/slack/services/T1/B1/archived", b'{"text": "x"}', 410, "channel_is_archived"),
    ],
)
def test_slack_s_errors_are_plain_text(client: Client, path: str, body: bytes, status: int, text: str) -> None:
    answer = client.post(path, data=body)
    assert (answer.status_code, answer.text, answer.mimetype) == (status, text, "text/plain")
    assert _sent(client, "slack") == []


def test_slack_takes_about_one_message_a_second(tmp_path: Path) -> None:
    now = [1000.0]
    client = Client(notices.build(SandboxContext(tmp_path, clock=lambda: now[0])).app)
    answers = [client.post(HOOK, json={"text": "x"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[5].headers["Retry-After"] == "5"
    now[0] += 3.5
    assert client.post(HOOK, json={"text": "x"}).headers["Retry-After"] == "2"
    now[0] += 1.5
    assert client.post(HOOK, json={"text": "x"}).status_code == 200


def test_pagerduty_takes_an_event_and_names_its_key(client: Client) -> None:
    answer = client.post("/pagerduty/v2/enqueue", json=EVENT)
    assert (answer.status_code, answer.get_json()["status"], answer.get_json()["dedup_key"]) == (202, "success", "run-1")
    without = {key: value for key, value in EVENT.items() if key != "dedup_key"}
    assert client.post("/pagerduty/v2/enqueue", json=without).get_json()["dedup_key"]
    assert _sent(client, "pagerduty")[0]["dedup_key"] == "run-1"


def test_what_was_sent_shows_no_routing_key(client: Client) -> None:
    client.post("/pagerduty/v2/enqueue", json=EVENT)
    assert PAGERDUTY_KEY not in client.get("/sent").text


@pytest.mark.parametrize(
    "changed",
    [
        {"routing_key": "wrong"},
        {"event_action": "shout"},
        {"event_action": "resolve", "dedup_key": ""},
        {"payload": {"summary": "down", "source": "opsctl", "severity": "bad"}},
        {"payload": {"source": "opsctl", "severity": "info"}},
        {"payload": None},
    ],
)
def test_pagerduty_refuses_an_invalid_event(client: Client, changed: dict[str, Any]) -> None:
    answer = client.post("/pagerduty/v2/enqueue", json=EVENT | changed)
    assert (answer.status_code, answer.get_json()["status"]) == (400, "invalid event")
    assert _sent(client, "pagerduty") == []


def test_statuspage_opens_lists_and_updates_an_incident(client: Client) -> None:
    opened = _report(client, status="identified")
    assert opened.status_code == 201
    listed = client.get(INCIDENTS, headers=KEY).get_json()
    assert [(each["id"], each["status"]) for each in listed] == [(opened.get_json()["id"], "identified")]
    path = f"{INCIDENTS}/{opened.get_json()['id']}"
    updated = client.patch(path, json={"incident": {"status": "resolved", "body": "over"}}, headers=KEY)
    assert (updated.status_code, updated.get_json()["status"]) == (200, "resolved")
    assert [update["body"] for update in updated.get_json()["incident_updates"]] == ["over", "b"]


def test_statuspage_notifies_subscribers_by_default(client: Client) -> None:
    assert _report(client).get_json()["incident_updates"][0]["deliver_notifications"] is True
    quiet = _report(client, deliver_notifications=False).get_json()
    assert quiet["incident_updates"][0]["deliver_notifications"] is False


def test_statuspage_knows_no_idempotency(client: Client) -> None:
    assert _report(client).get_json()["id"] != _report(client).get_json()["id"]
    assert len(_sent(client, "statuspage")) == 2


def test_statuspage_lists_the_newest_first_and_its_own_page_only(client: Client) -> None:
    first, second = _report(client).get_json()["id"], _report(client).get_json()["id"]
    assert [each["id"] for each in client.get(INCIDENTS, headers=KEY).get_json()] == [second, first]
    assert client.get("/statuspage/v1/pages/p2/incidents", headers=KEY).get_json() == []


def test_statuspage_wants_its_key(client: Client) -> None:
    for headers in ({}, {"Authorization": f"Bearer {STATUSPAGE_KEY}"}, {"Authorization": "OAuth wrong"}):
        assert client.post(INCIDENTS, json={"incident": {"name": "x"}}, headers=headers).status_code == 401
    assert _sent(client, "statuspage") == []


def test_statuspage_refuses_what_it_does_not_know(client: Client) -> None:
    assert _report(client, status="broken").status_code == 422
    assert _report(client, name="").status_code == 422
    assert client.post(INCIDENTS, json={}, headers=KEY).status_code == 422
    assert client.patch(f"{INCIDENTS}/none", json={"incident": {}}, headers=KEY).status_code == 404


def test_statuspage_takes_one_request_a_second(tmp_path: Path) -> None:
    now = [1000.0]
    client = Client(notices.build(SandboxContext(tmp_path, clock=lambda: now[0])).app)
    assert [client.get(INCIDENTS, headers=KEY).status_code for _ in range(2)] == [200, 429]
    now[0] += 1
    assert client.get(INCIDENTS, headers=KEY).status_code == 200


def test_reset_forgets_what_was_sent(tmp_path: Path) -> None:
    part = notices.build(SandboxContext(tmp_path, tempo=0))
    client = Client(part.app)
    client.post(HOOK, json={"text": "x"})
    client.post("/pagerduty/v2/enqueue", json=EVENT)
    _report(client)
    part.reset()
    assert client.get("/sent").get_json() == {"slack": [], "pagerduty": [], "statuspage": []}


def test_an_operation_is_the_route_s_template(tmp_path: Path) -> None:
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": HOOK, "SERVER_NAME": "127.0.0.1"}
    environ |= {"SERVER_PORT": "80", "wsgi.url_scheme": "http"}
    assert notices.build(SandboxContext(tmp_path)).operation(environ) == "POST /slack/services/{team}/{channel}/{key}"
