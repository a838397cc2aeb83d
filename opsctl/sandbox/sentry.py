"""A stand-in for Sentry's API under `/sentry`: event counts, issues in pages, and the project, behind a bearer token.

Shapes: Sentry's API reference, "Retrieve Event Counts for an Organization (v2)", "List an Organization's Issues", "Paginating Results",
"Rate Limits". The rate limit scales with the world's tempo; at tempo 0 there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

from opsctl.sandbox.services import SandboxContext
from opsctl.sandbox.web import Handler, Window, answer, bearer, iso, refuse

ORGANIZATION, PROJECT, PROJECT_ID = "safawinet", "safawinet-api", "4507000000000001"
TOKEN = "sandbox-sentry-token"
PER_SECOND = 40
PAGE = 100
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
SORTS = {"date": "lastSeen", "new": "firstSeen", "freq": "count", "user": "userCount"}

PER_HOUR = {
    ("error", "accepted"): 360,
    ("error", "filtered"): 25,
    ("transaction", "accepted"): 7_200,
    ("transaction", "filtered"): 64_800,
}
"""Events by category and outcome; of ten transactions that the application sends, Sentry's dynamic sampling keeps one."""


@dataclass(frozen=True)
class Issue:
    """One issue as it is seeded; `minutes` ago it was last seen."""

    title: str
    culprit: str
    count: int
    users: int
    minutes: float
    status: str = "unresolved"


ISSUES = (
    Issue("InvalidTokenError: signature verification failed", "POST /v1/auth/refresh", 412, 37, 2),
    Issue("TooManyAttempts: 60 failed logins from one address", "POST /v1/auth/login", 188, 3, 4),
    Issue("TimeoutError: no database connection within 5000 ms", "GET /v1/items", 64, 51, 7),
    Issue("TypeError: Cannot read properties of undefined (reading 'price')", "GET /v1/cart", 12, 9, 20),
    Issue("CardDeclined: card_declined", "POST /v1/payments", 5, 5, 40),
    Issue("SMTPError: 454 Temporary service failure", "worker.mail", 3, 0, 50),
    Issue("RangeError: Invalid time value", "GET /v1/reports", 2, 2, 180),
    Issue("TokenExpiredError: jwt expired", "GET /v1/auth/me", 9, 8, 2_000),
    Issue("AuthError: no such user", "POST /v1/auth/login", 71, 1, 12, "resolved"),
)


class FakeSentry:
    """The routes of Sentry's stand-in, for the part that serves them."""

    def __init__(self, world: SandboxContext) -> None:
        self._world = world
        self._pace = Window(PER_SECOND, world.wait(1), world.clock)
        base = "GET /sentry/api/0"
        self.routes: dict[str, Handler] = {
            f"{base}/organizations/{{organization}}/stats_v2/": self._stats,
            f"{base}/organizations/{{organization}}/issues/": self._issues,
            f"{base}/projects/{{organization}}/{{project}}/": self._project,
        }

    def reset(self) -> None:
        """Forget how often it was asked."""
        self._pace.clear()

    def _stats(self, request: Request, organization: str) -> Response:
        headers = self._admit(request, organization)
        given = request.args
        by, categories = given.getlist("groupBy"), given.getlist("category")
        if not by or set(by) - {"outcome", "category"} or given.get("field") not in ("sum(quantity)", "sum(times_seen)"):
            raise _invalid("Invalid field or groupBy")
        hours = max(1, round(_seconds(given.get("statsPeriod", "")) / 3600))
        self._projects(request)
        groups: dict[tuple[str, ...], int] = {}
        for (category, outcome), quantity in PER_HOUR.items():
            if not categories or category in categories:
                key = tuple({"outcome": outcome, "category": category}[name] for name in by)
                groups[key] = groups.get(key, 0) + quantity * hours
        now = self._world.clock()
        shown = [
            {"by": dict(zip(by, key, strict=True)), "totals": {given["field"]: total}, "series": {given["field"]: [total]}}
            for key, total in groups.items()
        ]
        return answer({"start": iso(now - hours * 3600), "end": iso(now), "intervals": [iso(now)], "groups": shown}, 200, headers)

    def _issues(self, request: Request, organization: str) -> Response:
        headers = self._admit(request, organization)
        self._projects(request)
        if request.args.get("statsPeriod"):
            _seconds(request.args["statsPeriod"])
        order, query = request.args.get("sort", "date"), request.args.get("query", "is:unresolved")
        if order not in SORTS:
            raise _invalid("Invalid sort parameter")
        found = [issue for issue in self._seeded() if all(_fits(issue, word, self._world.clock()) for word in query.split())]
        found.sort(key=lambda issue: int(issue[SORTS[order]]) if order in ("freq", "user") else issue[SORTS[order]], reverse=True)
        first, most = _cursor(request), min(int(request.args.get("limit", PAGE)), PAGE)
        return answer(found[first : first + most], 200, {**headers, "Link": _links(request, first, most, len(found))})

    def _project(self, request: Request, organization: str, project: str) -> Response:
        headers = self._admit(request, organization)
        if project not in (PROJECT, PROJECT_ID):
            raise refuse({"detail": "The requested resource does not exist"}, 404)
        return answer({"id": PROJECT_ID, "slug": PROJECT, "name": PROJECT}, 200, headers)

    def _seeded(self) -> Iterator[dict[str, Any]]:
        now = self._world.clock()
        for number, issue in enumerate(ISSUES, 1):
            yield {
                "id": str(6_000_000_000 + number),
                "shortId": f"SAFAWINET-API-{number}",
                "title": issue.title,
                "culprit": issue.culprit,
                "count": str(issue.count),
                "userCount": issue.users,
                "level": "error",
                "status": issue.status,
                "firstSeen": iso(now - issue.minutes * 60 - 86_400),
                "lastSeen": iso(now - issue.minutes * 60),
                "permalink": f"https://{ORGANIZATION}.sentry.io/issues/{6_000_000_000 + number}/",
                "project": {"id": PROJECT_ID, "slug": PROJECT, "name": PROJECT},
            }

    def _admit(self, request: Request, organization: str) -> dict[str, str]:
        """The rate limit's headers; refuses a request without the token, of another organization, or one too many."""
        given = bearer(request)
        if given != self._world.facts.get("sentry_token", TOKEN):
            raise refuse({"detail": "Invalid token" if given else "Authentication credentials were not provided."}, 401)
        headers = {
            "X-Sentry-Rate-Limit-Limit": str(PER_SECOND),
            "X-Sentry-Rate-Limit-Reset": str(int(self._world.clock()) + 1),
            "X-Sentry-Rate-Limit-ConcurrentLimit": "25",
            "X-Sentry-Rate-Limit-ConcurrentRemaining": "24",
        }
        if not self._pace.admit():
            said = f"You are attempting to use this endpoint too frequently. Limit is {PER_SECOND} requests in 1 seconds"
            raise refuse({"detail": said}, 429, {**headers, "X-Sentry-Rate-Limit-Remaining": "0", "Retry-After": "1"})
        if organization != ORGANIZATION:
            raise refuse({"detail": "The requested resource does not exist"}, 404)
        return {**headers, "X-Sentry-Rate-Limit-Remaining": str(self._pace.remaining())}

    def _projects(self, request: Request) -> None:
        """Sentry wants ids here, and says of those it doesn't know that they aren't this token's."""
        for project in request.args.getlist("project"):
            if not re.fullmatch(r"-?[0-9]+", project):
                raise _invalid("Invalid project parameter. Values must be numbers.")
            if project not in (PROJECT_ID, "-1"):
                raise refuse({"detail": "You do not have permission to perform this action."}, 403)


def _invalid(detail: str) -> Exception:
    return refuse({"detail": detail}, 400)


def _seconds(period: str) -> int:
    """The seconds of `90m`, `1h`, `14d`."""
    match = re.fullmatch(r"([0-9]+)([smhdw])", period)
    if not match:
        raise _invalid("Invalid statsPeriod")
    return int(match[1]) * UNITS[match[2]]


def _fits(issue: Mapping[str, Any], word: str, now: float) -> bool:
    """Whether an issue fits one word of a search: `is:unresolved`, `lastSeen:-1h`, or text."""
    name, colon, value = word.partition(":")
    if not colon:
        return word.lower() in f"{issue['title']} {issue['culprit']}".lower()
    if name == "is" and value in ("resolved", "unresolved"):
        return bool(issue["status"] == value)
    if name == "lastSeen" and value.startswith("-"):
        return bool(issue["lastSeen"] >= iso(now - _seconds(value[1:])))
    raise _invalid(f"Error parsing search query: {word} is not a term that the sandbox knows")


def _cursor(request: Request) -> int:
    match = re.fullmatch(r"0:([0-9]+):[01]", request.args.get("cursor", "0:0:0"))
    if not match:
        raise _invalid("Invalid cursor parameter.")
    return int(match[1])


def _links(request: Request, first: int, most: int, total: int) -> str:
    """Both neighbours are always named; `results` says whether there is anything."""
    sides = {"previous": (max(first - most, 0), 1, first > 0), "next": (first + most, 0, first + most < total)}
    return ", ".join(
        f'<{request.base_url}?&cursor=0:{at}:{back}>; rel="{side}"; results="{str(more).lower()}"; cursor="0:{at}:{back}"'
        for side, (at, back, more) in sides.items()
    )
