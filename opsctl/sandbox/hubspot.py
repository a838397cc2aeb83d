"""HubSpot's stand-in: contacts v3 with its limits and error bodies, the account's details, and webhooks.

It keeps state, counts requests against the burst, search and daily limits, and answers as HubSpot's reference
documents. The windows of the burst and search limits scale with the sandbox's tempo; at tempo 0 there are none.
Setting a property to its present value is no change and sends no webhook.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from opsctl.sandbox.aws.wire import AwsError
from opsctl.sandbox.hubspot_contacts import (
    APP,
    PERSON,
    ContactStore,
    DuplicateEmail,
    InvalidProperties,
    PropertyAuthor,
    StoredContact,
    check,
)
from opsctl.sandbox.hubspot_webhooks import PropertyChange, WebhookSender
from opsctl.sandbox.services import SandboxContext, SandboxService
from opsctl.sandbox.web import Handler, Routes, Window, answer, bearer, json_object, refuse

TOKENS = {
    "hs_token": "pat-na1-sandbox",
    "hs_next_token": "pat-na1-sandbox-next",
    "hs_reading_token": "pat-na1-sandbox-reading",
    "hs_expired_token": "pat-na1-sandbox-expired",
}
"""The sandbox's facts with tokens, with their defaults; the first two may do everything."""

APP_SECRETS = {"hs_app_secret": "sandbox-app-secret", "hs_next_app_secret": "sandbox-next-app-secret"}
"""The sandbox's facts with the app's secret and the one that replaces it, with their defaults."""
APP_SECRET = ("us-west-2", "/hh/prod/hubspot/app_secret", "secret")
"""Region, name and JSON key of the secret that HH keeps its copy in."""

PORTAL = "891472211"
BATCH = 100
BATCH_WITH_HISTORY = 50
BURST, BURST_SECONDS = 190, 10
SEARCHES, SEARCH_SECONDS = 5, 1
SEARCH_PAGE, SEARCH_RESULTS = 200, 10_000
SEARCH_LAG = 5
"""Seconds by which the search index is behind."""
DAILY = 625_000
DAY = 86_400

_READING = ("GET", "POST /crm/v3/objects/contacts/search", "POST /crm/v3/objects/contacts/batch/read")
_GONE = "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid."


class FakeHubSpot:
    """The HubSpot service. `contacts` is its state, for other services and tests."""

    name = "hubspot"

    def __init__(self, world: SandboxContext) -> None:
        self._world = world
        self.contacts = ContactStore(world.clock)
        self.webhooks = WebhookSender(world, int(world.facts.get("hs_portal", PORTAL)), self._app_secret)
        self._refusals: Counter[str] = Counter()
        self._requests = 0
        self._counting = threading.Lock()
        self._set_limits(None)
        self.controls: dict[str, Handler] = {
            "GET /counts": lambda request: answer({"requests": self._requests, "refused": dict(self._refusals)}),
            "GET /deliveries": lambda request: answer(self.webhooks.deliveries()),
            "POST /redeliver": lambda request: answer({"sent": self.webhooks.repeat()}),
            "POST /limits": self._limit,
            "POST /merge": self._merge,
            "POST /edit/{id}": self._edit,
        }
        self._routes = Routes(
            {
                "GET /account-info/v3/details": self._account,
                "POST /crm/v3/objects/contacts": self._create,
                "GET /crm/v3/objects/contacts/{id}": self._get,
                "PATCH /crm/v3/objects/contacts/{id}": self._patch,
                "POST /crm/v3/objects/contacts/search": self._search,
                "POST /crm/v3/objects/contacts/batch/read": self._batch_read,
                "POST /crm/v3/objects/contacts/batch/update": self._batch_update,
            },
            _error,
        )

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        operation = self.operation(environ)
        response = self._refused(request, operation) or self._answer(request)
        if not operation.endswith("/search"):
            response.headers.update(self._rate_headers())
        return response(environ, start_response)

    def operation(self, environ: Mapping[str, Any]) -> str:
        """`PATCH /crm/v3/objects/contacts/{id}`."""
        return self._routes.operation(environ)

    def reset(self) -> None:
        """Restore the seeded contacts and limits, and clear counters and waiting webhooks."""
        self.webhooks.clear()
        self.contacts.reset()
        self._refusals.clear()
        self._requests = 0
        self._set_limits(None)

    def _set_limits(self, given: Mapping[str, Any] | None) -> None:
        world, wanted = self._world, given or {}
        burst = int(wanted.get("burst", world.facts.get("hs_burst", BURST)))
        seconds = float(wanted.get("burst_seconds", world.wait(BURST_SECONDS)))
        self._burst = Window(burst, seconds, world.clock)
        self._searches = Window(SEARCHES, world.wait(SEARCH_SECONDS), world.clock)
        self._day = Window(int(wanted.get("daily", world.facts.get("hs_daily", DAILY))), DAY, self._midnight)

    def _answer(self, request: Request) -> Response:
        try:
            return self._routes.answer(request)
        except InvalidProperties as invalid:
            return answer(_problem("VALIDATION_ERROR", f"Property values were not valid: {invalid}", invalid.problems), 400)

    def _refused(self, request: Request, operation: str) -> Response | None:
        tokens = {name: self._world.facts.get(name, default) for name, default in TOKENS.items()}
        token = bearer(request)
        if token == tokens["hs_expired_token"]:
            return answer(_problem("EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired."), 401)
        if token not in tokens.values():
            return answer(_problem("INVALID_AUTHENTICATION", "Authentication credentials not found or wrong."), 401)
        if token == tokens["hs_reading_token"] and not operation.startswith(_READING):
            scopes = {"requiredGranularScopes": ["crm.objects.contacts.write"]}
            missing = {"message": "One or more of the following scopes are required.", "context": scopes}
            return answer(_problem("MISSING_SCOPES", "This app hasn't been granted all required scopes.", [missing]), 403)
        policy = self._exceeded(operation)
        with self._counting:
            self._requests += 1
            if policy:
                self._refusals[policy] += 1
        return _limited(policy) if policy else None

    def _exceeded(self, operation: str) -> str:
        if operation.endswith("/search"):
            return "" if self._searches.admit() else "SECONDLY"
        if not self._day.admit():
            return "DAILY"
        return "" if self._burst.admit() else "TEN_SECONDLY_ROLLING"

    def _midnight(self) -> float:
        """The last midnight in the portal's time zone (UTC), when the daily limit resets."""
        return self._world.clock() // DAY * DAY

    def _rate_headers(self) -> dict[str, str]:
        return {
            "X-HubSpot-RateLimit-Max": str(self._burst.limit),
            "X-HubSpot-RateLimit-Remaining": str(self._burst.remaining()),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(round(self._burst.seconds * 1000)),
            "X-HubSpot-RateLimit-Daily": str(self._day.limit),
            "X-HubSpot-RateLimit-Daily-Remaining": str(self._day.remaining()),
        }

    def _account(self, _: Request) -> Response:
        portal = int(self._world.facts.get("hs_portal", PORTAL))
        return answer({"portalId": portal, "accountType": "STANDARD", "timeZone": "UTC", "uiDomain": "app.hubspot.com"})

    def _get(self, request: Request, id: str) -> Response:
        contact = self._find(request, id)
        wanted, history = _names(request, "properties"), _names(request, "propertiesWithHistory")
        return answer(contact.shown(wanted, history))

    def _patch(self, request: Request, id: str) -> Response:
        contact = self._find(request, id)
        properties = _properties(json_object(request))
        changes = self._write(contact.id, properties, APP)
        self.webhooks.tell(changes)
        return answer(contact.shown(sorted(properties)))

    def _create(self, request: Request) -> Response:
        properties = _properties(json_object(request))
        try:
            contact = self.contacts.create(properties)
        except DuplicateEmail as other:
            raise refuse(_problem("CONFLICT", f"Contact already exists. Existing ID: {other.held_by}"), 409) from None
        return answer(contact.shown(sorted(properties)), 201)

    def _write(self, id: str, properties: Mapping[str, Any], author: PropertyAuthor) -> list[PropertyChange]:
        contact, changed = self.contacts.write(id, properties, author)
        return [PropertyChange(contact.id, name, properties[name], contact.values(name)[-1].at, author) for name in changed]

    def _find(self, request: Request, key: str) -> StoredContact:
        contact = self.contacts.find(key, request.args.get("idProperty") == "email")
        if contact is None:
            raise refuse(_problem("OBJECT_NOT_FOUND", "resource not found"), 404)
        return contact

    def _batch_read(self, request: Request) -> Response:
        body = json_object(request)
        history = body.get("propertiesWithHistory") or []
        inputs = _inputs(body, BATCH_WITH_HISTORY if history else BATCH)
        by_email = body.get("idProperty") == "email"
        found = {item["id"]: self.contacts.find(item["id"], by_email) for item in inputs if not self._merged(item["id"])}
        results = [contact.shown(body.get("properties") or [], history) for contact in found.values() if contact]
        return _batch_answer(results, [item for item in inputs if found.get(item["id"], item) is None])

    def _batch_update(self, request: Request) -> Response:
        inputs = _inputs(json_object(request), BATCH)
        if any(item.get("idProperty", "hs_object_id") != "hs_object_id" for item in inputs):
            raise _invalid("idProperty is not supported for updates of a batch")
        for item in inputs:
            check(_properties(item))
        results, missing, refused, changes = [], [], [], []
        for item in inputs:
            if self._merged(item["id"]):
                continue
            contact = self.contacts.find(item["id"])
            if contact is None:
                missing.append(item)
                continue
            properties = _properties(item)
            try:
                changes += self._write(contact.id, properties, APP)
            except InvalidProperties as invalid:
                refused.append(_batch_error("VALIDATION_ERROR", str(invalid), [item]))
            else:
                results.append(contact.shown(sorted(properties)))
        self.webhooks.tell(changes)
        return _batch_answer(results, missing, refused)

    def _merged(self, id: str) -> bool:
        return self.contacts.is_merged(id)

    def _search(self, request: Request) -> Response:
        body = json_object(request)
        limit, after = _whole(body, "limit", 10), _whole(body, "after", 0)
        if not 0 < limit <= SEARCH_PAGE:
            raise _invalid(f"limit must be between 1 and {SEARCH_PAGE}")
        if after + limit > SEARCH_RESULTS:
            raise _invalid(f"a search gives {SEARCH_RESULTS} results at most")
        indexed = self._world.clock() - self._world.wait(SEARCH_LAG)
        groups = body.get("filterGroups") or []
        for email in _emails(groups):
            self.contacts.find(email, by_email=True)
        matching = [contact for contact in self.contacts.all() if _matches(contact, groups, indexed)]
        page = [contact.shown(body.get("properties") or []) for contact in matching[after : after + limit]]
        following = {"paging": {"next": {"after": str(after + limit)}}} if after + limit < len(matching) else {}
        return answer({"total": len(matching), "results": page, **following})

    def _app_secret(self) -> str:
        """The app's secret; the next one after HH has stored it."""
        now, following = (self._world.facts.get(name, default) for name, default in APP_SECRETS.items())
        region, name, key = APP_SECRET
        read = getattr(self._world.parts.get("aws"), "secret", None)
        try:
            held = json.loads(read(region, name)).get(key) if read else now
        except (AwsError, ValueError, AttributeError):
            return now
        return following if held == following else now

    def _limit(self, request: Request) -> Response:
        self._set_limits(json_object(request))
        return answer({})

    def _merge(self, request: Request) -> Response:
        body = json_object(request)
        try:
            self.contacts.merge(str(body.get("loser")), str(body.get("winner")))
        except KeyError:
            raise refuse({"error": "loser and winner are not two contacts"}, 400) from None
        return answer({})

    def _edit(self, request: Request, id: str) -> Response:
        """Write as a user of HubSpot's web pages."""
        contact = self.contacts.find(id)
        if contact is None:
            raise refuse({"error": f"no contact {id}"}, 400)
        try:
            self.webhooks.tell(self._write(contact.id, _properties(json_object(request)), PERSON))
        except InvalidProperties as invalid:
            raise refuse({"error": str(invalid)}, 400) from invalid
        return answer({})


def build(world: SandboxContext) -> SandboxService:
    """HubSpot's part, with its seeded contacts."""
    return FakeHubSpot(world)


def _names(request: Request, parameter: str) -> list[str]:
    return [name for given in request.args.getlist(parameter) for name in given.split(",") if name]


def _properties(body: Mapping[str, Any]) -> dict[str, Any]:
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise _invalid("Invalid input JSON: properties is missing")
    return properties


def _whole(body: Mapping[str, Any], name: str, default: int) -> int:
    given = str(body.get(name, default))
    if not given.isdecimal():
        raise _invalid(f"{name} is not a number")
    return int(given)


def _inputs(body: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(item, dict) and "id" in item for item in inputs):
        raise _invalid("Invalid input JSON: inputs is missing")
    if len(inputs) > most:
        raise _invalid(f"The maximum number of inputs supported in a batch request is {most}")
    items = [{**item, "id": str(item["id"])} for item in inputs]
    if len({item["id"] for item in items}) < len(items):
        raise _invalid("Duplicate IDs found in batch input")
    return items


def _batch_answer(
    results: Sequence[Mapping[str, Any]], missing: Sequence[Mapping[str, Any]], refused: Sequence[Mapping[str, Any]] = ()
) -> Response:
    body: dict[str, Any] = {"status": "COMPLETE", "results": results}
    errors = [*([_batch_error("OBJECT_NOT_FOUND", _GONE, missing)] if missing else []), *refused]
    return answer({**body, "numErrors": len(errors), "errors": errors}, 207) if errors else answer(body)


def _batch_error(category: str, message: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    context = {"ids": [item["id"] for item in items]}
    traces = [item["objectWriteTraceId"] for item in items if "objectWriteTraceId" in item]
    if traces:
        context["objectWriteTraceId"] = traces
    return {"status": "error", "category": category, "message": message, "context": context}


def _emails(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    conditions = [item for group in groups for item in group.get("filters", []) if item.get("propertyName") == "email"]
    return [str(email) for item in conditions for email in [item.get("value", ""), *item.get("values", [])]]


def _matches(contact: StoredContact, groups: Sequence[Mapping[str, Any]], at: float) -> bool:
    fits = [all(_fits(contact, item, at) for item in group.get("filters", [])) for group in groups]
    return any(fits) or not groups


def _fits(contact: StoredContact, condition: Mapping[str, Any], at: float) -> bool:
    value = contact.value(str(condition.get("propertyName")), at)
    match condition.get("operator"):
        case "EQ":
            return value == condition.get("value")
        case "NEQ":
            return value != condition.get("value")
        case "IN":
            return value in condition.get("values", [])
        case "HAS_PROPERTY":
            return value is not None
        case "NOT_HAS_PROPERTY":
            return value is None
    raise _invalid(f"operator {condition.get('operator')} is not supported")


def _problem(category: str, message: str, errors: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    body = {"status": "error", "message": message, "correlationId": str(uuid.uuid4()), "category": category}
    return {**body, "errors": list(errors)} if errors else body


def _invalid(message: str) -> HTTPException:
    return refuse(_problem("VALIDATION_ERROR", message), 400)


def _limited(policy: str) -> Response:
    return answer(
        {
            "status": "error",
            "message": f"You have reached your {policy.lower()} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": str(uuid.uuid4()),
            "policyName": policy,
            "requestId": str(uuid.uuid4()),
        },
        429,
    )


def _error(error: HTTPException) -> Response:
    category = {400: "VALIDATION_ERROR", 404: "OBJECT_NOT_FOUND"}.get(error.code or 500, "METHOD_NOT_ALLOWED")
    return answer(_problem(category, error.description or error.name), error.code or 500)
