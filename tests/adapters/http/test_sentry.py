"""Sentry as opsctl asks it: over its stand-in, and over a server that answers oddly."""

from __future__ import annotations

import json

import pytest

from opsctl.errors import ConfigurationError, CredentialsInvalid, Denied, ExternalError, NotFound, Throttled
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule

TOKEN = 'token = { aws = "safawinet/prod/sentry", key = "token" }'
BASE, ID = 'base = "world:sentry"', 'project = "4507000000000001"'
ISSUE = {"id": "1", "title": "t", "culprit": "c", "count": "7", "userCount": 2, "lastSeen": "2026-01-01T00:00:00Z"}


def elsewhere(systems, server, **more):
    return systems(writing=False, replace={BASE: f'base = "{server.base}"', 'project = "safawinet-api"': ID, **more}).sentry


def test_the_error_rate_is_that_of_all_requests(systems):
    rate = systems(writing=False).sentry.rate()
    assert (rate.errors, rate.requests, rate.share) == (360, 72_000, 0.5)


@pytest.mark.parametrize("page", [2, 100])
def test_issues_of_the_last_hour_over_every_page(systems, page):
    found = systems(writing=False).sentry.issues(page=page)
    assert [issue.count for issue in found] == [412, 188, 64, 12, 5, 3]
    assert [issue.id for issue in found if issue.suspicious] == ["SAFAWINET-API-1", "SAFAWINET-API-2"]
    assert found[0].users == 37
    assert found[0].seen.tzinfo is not None


def test_no_more_issues_than_asked_for(systems):
    assert len(systems(writing=False).sentry.issues(most=3, page=2)) == 3


def test_what_is_suspicious_is_configured(systems):
    patterns = f"{TOKEN}\nsuspicious = ['^Card', 'timeout']"
    found = systems(writing=False, replace={TOKEN: patterns}).sentry.issues()
    assert {issue.title.partition(":")[0] for issue in found if issue.suspicious} == {"CardDeclined", "TimeoutError"}
    none = systems(writing=False, replace={TOKEN: f"{TOKEN}\nsuspicious = []"}).sentry.issues()
    assert not any(issue.suspicious for issue in none)


def test_a_pattern_that_is_none_is_named(systems):
    with pytest.raises(ConfigurationError) as caught:
        systems(writing=False, replace={TOKEN: f"{TOKEN}\nsuspicious = ['(']"})
    assert "suspicious" in caught.value.what


@pytest.mark.parametrize(
    ("replace", "error"),
    [
        ({'"safawinet-api"': '"nope"'}, NotFound),
        ({'organization = "safawinet"': 'organization = "nobody"', 'project = "safawinet-api"': ID}, NotFound),
        ({'project = "safawinet-api"': 'project = "42"'}, Denied),
        ({TOKEN: 'token = { aws = "safawinet/prod/jwt", key = "secret" }'}, CredentialsInvalid),
    ],
)
def test_what_it_refuses_is_named(systems, replace, error):
    with pytest.raises(error):
        systems(writing=False, replace=replace).sentry.rate()


def test_a_throttled_question_is_asked_again(systems, folder):
    lifecycle.set_fault(folder, Rule("notices", "GET /sentry/api/0/organizations/*/stats_v2/", "throttle"))
    assert systems(writing=False).sentry.rate().errors == 360


def test_one_that_stays_throttled_is_given_up(systems, server):
    server.answers = [(429, {"Retry-After": "0"}, "{}")]
    with pytest.raises(Throttled):
        elsewhere(systems, server).rate()


@pytest.mark.parametrize("body", ["[]", "{}", "null", '{"groups": [{}]}', '{"groups": [{"by": {}, "totals": {}}]}', "nonsense"])
def test_counts_that_cannot_be_read_are_no_counts(systems, server, body):
    server.answers = [(200, {}, body)]
    with pytest.raises(ExternalError):
        elsewhere(systems, server).rate()


@pytest.mark.parametrize("body", ["{}", "[1]", "[{}]", json.dumps([{**ISSUE, "count": "many"}]), "nonsense"])
def test_issues_that_cannot_be_read_are_no_issues(systems, server, body):
    server.answers = [(200, {}, body)]
    with pytest.raises(ExternalError):
        elsewhere(systems, server).issues()


def test_an_empty_page_ends_it_whatever_its_link_says(systems, server):
    server.answers = [(200, {"Link": '<http://x/?cursor=0:1:0>; rel="next"; results="true"; cursor="0:1:0"'}, "[]")]
    assert elsewhere(systems, server).issues() == []


def test_no_request_is_no_rate(systems, server):
    groups = [{"by": {"category": "error", "outcome": "accepted"}, "totals": {"sum(quantity)": 3}}]
    server.answers = [(200, {}, json.dumps({"groups": groups}))]
    rate = elsewhere(systems, server).rate()
    assert (rate.errors, rate.share) == (3, None)
    assert server.seen[0][1].count("groupBy=") == 2
