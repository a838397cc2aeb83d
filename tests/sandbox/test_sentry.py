"""Sentry's stand-in: counts, issues in pages, and who may ask."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from werkzeug.test import Client

from opsctl.sandbox import notices
from opsctl.sandbox.sentry import PER_SECOND, PROJECT_ID, TOKEN
from opsctl.sandbox.services import SandboxContext

BASE = "/sentry/api/0/organizations/safawinet"
COUNTS = f"{BASE}/stats_v2/?field=sum(quantity)&groupBy=category&groupBy=outcome&statsPeriod=1h&project={PROJECT_ID}"
ISSUES = f"{BASE}/issues/?project={PROJECT_ID}"
KEY = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(notices.build(SandboxContext(tmp_path, tempo=0)).app)


def titles(client: Client, query: str) -> list[str]:
    return [issue["title"].partition(":")[0] for issue in client.get(f"{ISSUES}&{query}", headers=KEY).get_json()]


def test_counts_are_grouped_as_asked(client: Client) -> None:
    groups = client.get(COUNTS, headers=KEY).get_json()["groups"]
    assert {(g["by"]["category"], g["by"]["outcome"]) for g in groups} >= {("error", "accepted"), ("transaction", "filtered")}
    (errors,) = client.get(f"{COUNTS}&category=error".replace("groupBy=outcome", ""), headers=KEY).get_json()["groups"]
    assert errors == {"by": {"category": "error"}, "totals": {"sum(quantity)": 385}, "series": {"sum(quantity)": [385]}}


def test_issues_are_searched_and_sorted(client: Client) -> None:
    assert titles(client, "query=is:unresolved+lastSeen:-1h&sort=freq")[:2] == ["InvalidTokenError", "TooManyAttempts"]
    assert "TokenExpiredError" not in titles(client, "query=lastSeen:-1h")
    assert titles(client, "query=is:resolved") == ["AuthError"]
    assert titles(client, "query=cart") == ["TypeError"]
    (issue,) = client.get(f"{ISSUES}&query=cart", headers=KEY).get_json()
    assert (issue["count"], issue["userCount"]) == ("12", 9)


def test_pages_follow_the_links(client: Client) -> None:
    first = client.get(f"{ISSUES}&limit=5", headers=KEY)
    cursors = re.findall(r'rel="(\w+)"; results="(\w+)"; cursor="([\d:]+)"', first.headers["Link"])
    assert cursors == [("previous", "false", "0:0:1"), ("next", "true", "0:5:0")]
    last = client.get(f"{ISSUES}&limit=5&cursor=0:5:0", headers=KEY)
    assert 'rel="next"; results="false"' in last.headers["Link"]
    assert not {issue["id"] for issue in first.get_json()} & {issue["id"] for issue in last.get_json()}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (COUNTS, {}, 401),
        (COUNTS, {"Authorization": "Bearer another"}, 401),
        (COUNTS.replace("safawinet", "nobody"), KEY, 404),
        (COUNTS.replace(PROJECT_ID, "42"), KEY, 403),
        (COUNTS.replace(PROJECT_ID, "a-slug"), KEY, 400),
        (COUNTS.replace("1h", "soon"), KEY, 400),
        (COUNTS.replace("groupBy=outcome", "groupBy=colour"), KEY, 400),
        (f"{ISSUES}&query=colour:red", KEY, 400),
        (f"{ISSUES}&sort=colour", KEY, 400),
        ("/sentry/api/0/projects/safawinet/nope/", KEY, 404),
        ("/sentry/api/0/projects/safawinet/safawinet-api/", KEY, 200),
    ],
)
def test_who_may_ask_and_what(client: Client, path: str, headers: dict[str, str], status: int) -> None:
    assert client.get(path, headers=headers).status_code == status


def test_too_many_requests_are_turned_away_until_the_next_second(tmp_path: Path) -> None:
    now = [1_000.0]
    client = Client(notices.build(SandboxContext(tmp_path, tempo=1, clock=lambda: now[0])).app)
    answers = [client.get(COUNTS, headers=KEY) for _ in range(PER_SECOND + 1)]
    assert [each.status_code for each in answers] == [200] * PER_SECOND + [429]
    assert answers[-1].headers["Retry-After"] == "1"
    assert answers[-1].headers["X-Sentry-Rate-Limit-Remaining"] == "0"
    now[0] += 1.1
    assert client.get(COUNTS, headers=KEY).status_code == 200
