"""What reaches Slack, PagerDuty and Statuspage, as their stand-ins see it."""

from __future__ import annotations

import json
import threading
import urllib.request

import httpx
import pytest
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client
from world import table

from opsctl.errors import ConfigurationError, CredentialsInvalid, ExternalError, NotFound, OutcomeUnknown, ReadOnly
from opsctl.sandbox import lifecycle, notices
from opsctl.sandbox.faults import Rule
from opsctl.sandbox.notices import PAGERDUTY_KEY, SLACK_ARCHIVED_KEY, SLACK_KEY, STATUSPAGE_KEY
from opsctl.sandbox.services import SandboxContext

CHANNELS = """[channels]
slack = { env = "SLACK" }
page = { env = "PAGE" }
page-base = "%(pagerduty)s"
status-page = "safawinet"
status-key = { env = "STATUS" }
status-base = "%(statuspage)s"
"""


@pytest.fixture
def channels(systems, world, monkeypatch):
    def make(*, writing, slack=SLACK_KEY, page=PAGERDUTY_KEY, status=STATUSPAGE_KEY):
        monkeypatch.setenv("SLACK", f"{world['slack']}/services/T0/B0/{world.get('slack_key', slack) if slack == SLACK_KEY else slack}")
        monkeypatch.setenv("PAGE", world.get("pagerduty_key", page) if page == PAGERDUTY_KEY else page)
        monkeypatch.setenv("STATUS", world.get("statuspage_key", status) if status == STATUSPAGE_KEY else status)
        return systems(writing=writing, replace={table("channels"): CHANNELS % world})

    return make


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


@pytest.fixture
def paced(systems, tmp_path, monkeypatch):
    """The systems beside stand-ins of their own, which keep the pace of a tempo; with them, what was sent."""
    servers = []

    def make(tempo):
        part = notices.build(SandboxContext(tmp_path, tempo=tempo))
        server = make_server("127.0.0.1", 0, part.app, threaded=True, request_handler=Quiet)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        base = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("SLACK", f"{base}/slack/services/T0/B0/{SLACK_KEY}")
        monkeypatch.setenv("STATUS", STATUSPAGE_KEY)
        monkeypatch.setenv("PAGE", PAGERDUTY_KEY)
        channels = CHANNELS % {"pagerduty": f"{base}/pagerduty", "statuspage": f"{base}/statuspage"}
        made = systems(writing=True, replace={table("channels"): channels})
        return made, lambda: Client(part.app).get("/sent").get_json()

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def sent(world):
    def ask():
        base = world["slack"].removesuffix("/slack")
        with urllib.request.urlopen(f"{base}/sent") as answer:
            return json.load(answer)

    return ask


def test_slack_gets_a_message(channels, sent):
    channels(writing=True).slack.post("Token compromise: everybody was logged out")
    assert [each["message"] for each in sent()["slack"]] == [{"text": "Token compromise: everybody was logged out"}]


@pytest.mark.parametrize(("key", "error"), [(SLACK_ARCHIVED_KEY, ExternalError), ("gone-away", NotFound)])
def test_a_webhook_that_refuses_is_told_without_its_url(channels, key, error):
    with pytest.raises(error) as failed:
        channels(writing=True, slack=key).slack.post("x")
    assert f"B0/{key}" not in f"{failed.value!r} {failed.value.__cause__!r}"


def test_a_message_whose_answer_was_lost_is_not_sent_again(channels, folder, sent):
    lifecycle.set_fault(folder, Rule("notices", "POST /slack*", "timeout-after-effect"))
    with pytest.raises(OutcomeUnknown):
        channels(writing=True).slack.post("x")
    assert len(sent()["slack"]) == 1


def test_a_page_is_triggered_and_resolved_under_one_key(channels, sent):
    pager = channels(writing=True).pagerduty
    assert pager.trigger("Token compromise", "critical", "run-1") == "run-1"
    assert pager.acknowledge("run-1") == "run-1"
    assert pager.resolve("run-1") == "run-1"
    events = sent()["pagerduty"]
    assert [(event["event_action"], event["dedup_key"]) for event in events] == [
        ("trigger", "run-1"),
        ("acknowledge", "run-1"),
        ("resolve", "run-1"),
    ]
    assert events[0]["payload"] == {"summary": "Token compromise", "source": "opsctl sandbox", "severity": "critical"}


def test_a_page_that_is_throttled_is_tried_again(channels, folder, sent):
    lifecycle.set_fault(folder, Rule("notices", "POST /pagerduty*", "throttle"))
    channels(writing=True).pagerduty.trigger("x", "info", "run-1")
    assert len(sent()["pagerduty"]) == 1


def test_at_statuspage_s_own_pace_everything_is_posted_once(paced):
    made, kept = paced(1.0)
    page = made.statuspage
    assert page.incidents() == []
    opened = page.post("Logins", "investigating", "We look into it.")
    page.update(opened.id, "resolved", "It is over.")
    (incident,) = kept()["statuspage"]
    assert [update["status"] for update in incident["incident_updates"]] == ["resolved", "investigating"]


def test_more_messages_than_slack_takes_at_once_wait_their_turn(paced):
    made, kept = paced(0.2)
    for number in range(7):
        made.slack.post(f"message {number}")
    assert [each["message"]["text"] for each in kept()["slack"]] == [f"message {number}" for number in range(7)]


def test_a_wrong_routing_key_is_refused_without_being_shown(channels):
    with pytest.raises(ExternalError) as failed:
        channels(writing=True, page="wrong-routing-key").pagerduty.trigger("x", "info", "k")
    assert "wrong-routing-key" not in failed.value.what


def test_a_status_is_posted_listed_and_brought_to_its_end(channels):
    page = channels(writing=True).statuspage
    opened = page.post("Logins", "investigating", "We look into it.")
    assert channels(writing=False).statuspage.incidents() == [opened]
    closed = page.update(opened.id, "resolved", "It is over.")
    assert (opened.status, opened.body, opened.open) == ("investigating", "We look into it.", True)
    assert (closed.id, closed.status, closed.body, closed.open) == (opened.id, "resolved", "It is over.", False)
    assert closed.created_at == opened.created_at <= opened.said_at <= closed.said_at
    assert closed.created_at.tzinfo is not None
    with pytest.raises(NotFound):
        page.update("nothing", "resolved", "")
    with pytest.raises(CredentialsInvalid):
        channels(writing=False, status="wrong-status-key").statuspage.incidents()


def listed(id: str, **other):
    update = {"body": "b", "created_at": "2026-01-01T00:00:00Z"}
    return {"id": id, "name": id, "status": "resolved", "created_at": "2026-01-01T00:00:00Z", "incident_updates": [update], **other}


def test_one_that_cant_be_read_bars_no_other(channels, monkeypatch):
    page = channels(writing=False).statuspage
    answers = [
        listed("good"),
        listed("new status", status="paused"),
        listed("no updates", incident_updates=None),
        listed("no time", created_at="yesterday"),
        {"id": 7},
        "an incident",
        None,
        listed("report", status="postmortem"),
        listed("maintenance", status="in_progress"),
    ]
    monkeypatch.setattr(page._http.client, "send", lambda *_, **__: httpx.Response(200, json=answers))
    found = {incident.name or incident.id: incident for incident in page.incidents()}
    assert [name for name, each in found.items() if not each.problem] == ["good", "report", "maintenance"]
    assert found["new status"].problem == "opsctl doesn't know its status"
    assert {(each.open, each.over) for name, each in found.items() if name != "good" and name != "report"} == {(False, False)}


def test_every_status_of_statuspage_is_judged(channels, monkeypatch):
    """The list of the API's reference: five of an incident, four of a scheduled maintenance."""
    open_, over = ["investigating", "identified", "monitoring"], ["resolved", "postmortem"]
    others = ["scheduled", "in_progress", "verifying", "completed"]
    page = channels(writing=False).statuspage
    answers = [listed(each, status=each) for each in (*open_, *over, *others)]
    monkeypatch.setattr(page._http.client, "send", lambda *_, **__: httpx.Response(200, json=answers))
    found = page.incidents()
    assert [each.name for each in found if each.open] == open_
    assert [each.name for each in found if each.over] == over
    assert not [each for each in found if each.problem]


def test_an_incident_of_the_second_page_is_found(paced):
    made, _ = paced(0.0)
    first = made.statuspage.post("Old", "investigating", "x")
    for number in range(101):
        made.statuspage.post(f"Newer {number}", "resolved", "x")
    assert made.statuspage.incidents()[-1] == first


def test_a_reading_one_tells_nobody(channels, sent):
    made = channels(writing=False)
    for call in (
        lambda: made.slack.post("x"),
        lambda: made.pagerduty.trigger("x", "info", "k"),
        lambda: made.pagerduty.resolve("k"),
        lambda: made.statuspage.post("x", "resolved", ""),
        lambda: made.statuspage.update("x", "resolved", ""),
        lambda: made.slack._http.ask("POST", made.slack._path.reveal()),
    ):
        with pytest.raises(ReadOnly):
            call()
    assert sent() == {"slack": [], "pagerduty": [], "statuspage": []}


@pytest.mark.parametrize("name", ["slack", "pagerduty", "statuspage"])
def test_a_channel_that_is_not_configured_says_so(systems, name):
    with pytest.raises(ConfigurationError, match="channels"):
        getattr(systems(writing=True, replace={table("channels"): ""}), name)
