"""Stand-ins for the notifiers Slack, PagerDuty and Statuspage, under `/slack`, `/pagerduty`, `/statuspage`.

`GET /sent` lists what they received: `{"slack": [...], "pagerduty": [...], "statuspage": [...]}`. The rate limits of
Slack and Statuspage scale with the sandbox's tempo; at tempo 0 there are none. Sentry's stand-in is here too.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from opsctl.sandbox.sentry import FakeSentry
from opsctl.sandbox.services import SandboxContext, SandboxService
from opsctl.sandbox.web import Routes, Window, answer, iso, json_object, refuse

SLACK_KEY = "sandbox"
"""The key of the incoming webhook that works: `/slack/services/T/B/<key>`; fact `slack_key`."""
SLACK_ARCHIVED_KEY = "archived"
SLACK_BURST = 5
PAGERDUTY_KEY = "sandbox-routing-key"
STATUSPAGE_KEY = "sandbox-statuspage-key"
STATUSPAGE_STATES = ("investigating", "identified", "monitoring", "resolved")
PAGE = 100
"""How many incidents Statuspage lists at most, and by default."""
EVENT_ACTIONS = ("trigger", "acknowledge", "resolve")
SEVERITIES = ("critical", "error", "warning", "info")


class FakeNotifiers:
    """The notifiers of a sandbox."""

    name = "notices"

    def __init__(self, world: SandboxContext) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._slack: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._incidents: list[dict[str, Any]] = []
        self._slack_pace = Window(SLACK_BURST, world.wait(SLACK_BURST), world.clock)
        self._statuspage_pace = Window(1, world.wait(1), world.clock)
        self._sentry = FakeSentry(world)
        self._routes = Routes(
            {
                "POST /slack/services/{team}/{channel}/{key}": self._post_message,
                "POST /pagerduty/v2/enqueue": self._enqueue,
                "GET /statuspage/v1/pages/{page}/incidents": self._list_incidents,
                "POST /statuspage/v1/pages/{page}/incidents": self._open_incident,
                "PATCH /statuspage/v1/pages/{page}/incidents/{incident}": self._update_incident,
                "GET /sent": self._sent,
                **self._sentry.routes,
            }
        )

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        return self._routes(environ, start_response)

    def operation(self, environ: Mapping[str, Any]) -> str:
        """`POST /pagerduty/v2/enqueue`."""
        return self._routes.operation(environ)

    def reset(self) -> None:
        """Forget everything that was sent."""
        with self._lock:
            for kept in (self._slack, self._events, self._incidents):
                kept.clear()
        self._slack_pace.clear()
        self._statuspage_pace.clear()
        self._sentry.reset()

    def _sent(self, _: Request) -> Response:
        with self._lock:
            return answer({"slack": self._slack, "pagerduty": self._events, "statuspage": self._incidents})

    def _post_message(self, request: Request, team: str, channel: str, key: str) -> Response:
        if key == SLACK_ARCHIVED_KEY:
            return _text_response("channel_is_archived", 410)
        if key != self._world.facts.get("slack_key", SLACK_KEY):
            return _text_response("no_service", 404)
        if not self._slack_pace.admit():
            return _text_response("rate_limited", 429, {"Retry-After": str(math.ceil(self._slack_pace.wait()))})
        try:
            message = json.loads(request.get_data())
        except ValueError:
            return _text_response("invalid_payload", 400)
        if not isinstance(message, dict):
            return _text_response("invalid_payload", 400)
        if not (message.get("text") or message.get("blocks")):
            return _text_response("no_text", 400)
        with self._lock:
            self._slack.append({"team": team, "channel": channel, "message": message, "at": self._now()})
        return _text_response("ok", 200)

    def _enqueue(self, request: Request) -> Response:
        event = json_object(request)
        problems = self._event_problems(event)
        if problems:
            invalid = {"status": "invalid event", "message": "Event object is invalid", "errors": problems}
            return answer(invalid, 400)
        key = event.get("dedup_key") or secrets.token_hex(16)
        with self._lock:
            self._events.append({**event, "dedup_key": key, "routing_key": "", "at": self._now()})
        return answer({"status": "success", "message": "Event processed", "dedup_key": key}, 202)

    def _event_problems(self, event: Mapping[str, Any]) -> list[str]:
        problems = []
        if event.get("routing_key") != self._world.facts.get("pagerduty_key", PAGERDUTY_KEY):
            problems.append("'routing_key' is invalid")
        action = event.get("event_action")
        if action not in EVENT_ACTIONS:
            problems.append("'event_action' is missing or invalid")
        if action in ("acknowledge", "resolve") and not event.get("dedup_key"):
            problems.append("'dedup_key' is missing or blank")
        if action == "trigger":
            given = event.get("payload")
            payload: dict[str, Any] = given if isinstance(given, dict) else {}
            problems += [f"'payload.{name}' is missing or blank" for name in ("summary", "source") if not payload.get(name)]
            if payload.get("severity") not in SEVERITIES:
                problems.append("'payload.severity' is invalid")
        return problems

    def _list_incidents(self, request: Request, page: str) -> Response:
        self._admit(request)
        size = min(int(request.args.get("limit", PAGE)), PAGE)
        first = (int(request.args.get("page", 1)) - 1) * size
        with self._lock:
            found = [incident for incident in reversed(self._incidents) if incident["page_id"] == page]
        return answer(found[first : first + size])

    def _open_incident(self, request: Request, page: str) -> Response:
        self._admit(request)
        given = _incident(request)
        if not given.get("name"):
            raise refuse({"error": ["Name can't be blank"]}, 422)
        incident: dict[str, Any] = {
            "id": secrets.token_hex(6),
            "page_id": page,
            "name": given["name"],
            "status": "investigating",
            "created_at": self._now(),
            "incident_updates": [],
        }
        self._apply(incident, given)
        with self._lock:
            self._incidents.append(incident)
            return answer(incident, 201)

    def _update_incident(self, request: Request, page: str, incident: str) -> Response:
        self._admit(request)
        given = _incident(request)
        with self._lock:
            for kept in self._incidents:
                if kept["id"] == incident and kept["page_id"] == page:
                    self._apply(kept, given)
                    return answer(kept)
        raise refuse({"error": "Record not found"}, 404)

    def _admit(self, request: Request) -> None:
        if request.headers.get("Authorization") != f"OAuth {self._world.facts.get('statuspage_key', STATUSPAGE_KEY)}":
            raise refuse({"error": "Could not authenticate"}, 401)
        if not self._statuspage_pace.admit():
            raise refuse({"error": "Too many requests"}, 429)

    def _apply(self, incident: dict[str, Any], given: Mapping[str, Any]) -> None:
        incident["name"] = given.get("name", incident["name"])
        incident["status"] = given.get("status", incident["status"])
        incident["updated_at"] = self._now()
        update = {
            "status": incident["status"],
            "body": given.get("body", ""),
            "components": given.get("components", {}),
            "deliver_notifications": given.get("deliver_notifications", True),
            "created_at": incident["updated_at"],
        }
        incident["incident_updates"] = [update, *incident["incident_updates"]]

    def _now(self) -> str:
        return iso(self._world.clock())


def build(world: SandboxContext) -> SandboxService:
    """The notices' part."""
    return FakeNotifiers(world)


def _incident(request: Request) -> dict[str, Any]:
    given = json_object(request).get("incident")
    if not isinstance(given, dict):
        raise refuse({"error": ["incident is missing"]}, 422)
    if given.get("status", STATUSPAGE_STATES[0]) not in STATUSPAGE_STATES:
        raise refuse({"error": ["Status is not included in the list"]}, 422)
    return given


def _text_response(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, headers, content_type="text/plain")
