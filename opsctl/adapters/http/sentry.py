"""Sentry: the application's error rate and issues.

Shapes: Sentry's API reference, "Retrieve Event Counts for an Organization (v2)", "List an Organization's Issues", "Paginating Results".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from msgspec import Struct

from opsctl.adapters.base import Adapter
from opsctl.adapters.http.answers import moment
from opsctl.adapters.http.client import Http
from opsctl.redaction import clean_text

if TYPE_CHECKING:
    import httpx

    from opsctl.adapters.access import Access
    from opsctl.settings import SentrySettings

PERIOD = "1h"
"""The period: the shortest of stats_v2."""
AT_ONCE = 100
"""How many issues come in one page, at most."""
MOST = 300

ERRORS = frozenset(("accepted", "rate_limited"))
"""The outcomes that count as errors; `filtered` ones are from browser extensions and crawlers."""
NO_REQUEST = frozenset(("invalid", "abuse"))
"""The outcomes that don't count as transactions; those that were sampled away (`filtered`, `client_discard`) do count."""


LABEL = 1000
SEARCHED = 10_000
"""Characters of a title that are kept, and that are looked at for what is suspicious."""


class _By(Struct):
    category: str
    outcome: str


class _Totals(Struct, rename={"quantity": "sum(quantity)"}):
    quantity: int | float


class _Group(Struct):
    by: _By
    totals: _Totals


class _Counts(Struct):
    groups: list[_Group]


class _Project(Struct):
    id: str | int


class _Issue(Struct, rename="camel"):
    id: str
    title: str
    count: int
    user_count: int
    last_seen: str
    short_id: str | None = None
    culprit: str | None = None
    permalink: str | None = None


class ErrorRate(Struct, frozen=True):
    """Errors of the last hour, and the requests (transactions) that there were; `share` is None without any request."""

    errors: int
    requests: int

    @property
    def share(self) -> float | None:
        """Errors among requests, in percent."""
        return 100 * self.errors / self.requests if self.requests else None


class SentryIssue(Struct, frozen=True):
    """One unresolved issue: how often it came in the last hour, to how many users, and whether it looks like an attack's."""

    id: str
    title: str
    where: str
    count: int
    users: int
    seen: datetime
    link: str
    suspicious: bool


class Sentry(Adapter):
    """The Sentry project that [sentry] names. Safe between threads."""

    def __init__(self, access: Access, settings: SentrySettings) -> None:
        super().__init__(writing=access.writing)
        self._config = settings
        self._token = access.resolve(settings.token)
        self._suspicious = re.compile("|".join(f"(?:{each})" for each in settings.suspicious) or "(?!)", re.IGNORECASE)
        login = f"Check the token in {settings.token}: it needs org:read, project:read and event:read."
        self._http = Http(settings.base, access, system="Sentry", ca=settings.ca, login=login)
        self._organization = f"/api/0/organizations/{quote(settings.organization, safe='')}"

    def rate(self) -> ErrorRate:
        """Count the last hour's errors and requests; Sentry counts by whole hours, so that it may be up to two."""
        asked = [("statsPeriod", PERIOD), ("interval", PERIOD), ("field", "sum(quantity)")]
        asked += [("groupBy", name) for name in ("category", "outcome")] + [("category", name) for name in ("error", "transaction")]
        answer = self._ask(f"{self._organization}/stats_v2/", [*asked, ("project", self._project)])
        groups = self._http.read(answer, _Counts).groups
        counted = [(group.by.category, group.by.outcome, int(group.totals.quantity)) for group in groups]
        return ErrorRate(
            errors=sum(n for category, outcome, n in counted if category == "error" and outcome in ERRORS),
            requests=sum(n for category, outcome, n in counted if category == "transaction" and outcome not in NO_REQUEST),
        )

    def issues(self, most: int = MOST, page: int = AT_ONCE) -> list[SentryIssue]:
        """The unresolved issues of the last hour, the most frequent first, at most `most`; `page` come at once."""
        found: list[SentryIssue] = []
        for raw in self._pages(page):
            found.append(self._issue(raw))
            if len(found) == most:
                break
        return found

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _pages(self, page: int) -> Iterator[_Issue]:
        asked = [("query", f"is:unresolved lastSeen:-{PERIOD}"), ("statsPeriod", PERIOD), ("sort", "freq"), ("limit", str(page))]
        asked.append(("project", self._project))
        cursor: list[tuple[str, str]] = []
        while True:
            answer = self._ask(f"{self._organization}/issues/", [*asked, *cursor])
            found = self._http.read(answer, list[_Issue])
            yield from found
            following = answer.links.get("next", {})
            if following.get("results") != "true" or not found:
                return
            cursor = [("cursor", following.get("cursor", ""))]

    def _issue(self, raw: _Issue) -> SentryIssue:
        where = raw.culprit or ""
        with self._http.reading():
            seen = moment(raw.last_seen)
        return SentryIssue(
            id=clean_text(raw.short_id or raw.id, LABEL),
            title=clean_text(raw.title, LABEL),
            where=clean_text(where, LABEL),
            count=raw.count,
            users=raw.user_count,
            seen=seen,
            link=clean_text(raw.permalink or "", LABEL),
            suspicious=bool(self._suspicious.search(f"{raw.title} {where}"[:SEARCHED])),
        )

    @cached_property
    def _project(self) -> str:
        """The project's id, which is all that counts and issues are asked by; a slug is looked up."""
        name = self._config.project
        if name.isdigit():
            return name
        path = f"/api/0/projects/{quote(self._config.organization, safe='')}/{quote(name, safe='')}/"
        return str(self._http.read(self._ask(path, []), _Project).id)

    def _ask(self, path: str, asked: list[tuple[str, str]]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        return self._http.ask("GET", f"{path}?{urlencode(asked)}" if asked else path, headers=headers)
