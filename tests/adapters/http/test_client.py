"""The wall, the place and the errors of every API that isn't AWS."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from accesses import access

from opsctl.adapters.http.client import Http, retry_after
from opsctl.errors import (
    ConfigurationError,
    CredentialsInvalid,
    Denied,
    ExternalError,
    NotFound,
    OutcomeUnknown,
    ReadOnly,
    Throttled,
    Unreachable,
    WrongPlace,
)
from opsctl.redaction import Secret
from opsctl.sandbox import world_file


@pytest.fixture
def open_http(server):
    made = []

    def open_it(*, writing, base=None, proxy=None, **other):
        made.append(Http(base or server.base, access(writing=writing, proxy=proxy), system="the API", **other))
        return made[-1]

    yield open_it
    for each in made:
        each.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "PURGE"])
def test_the_wall_alone_refuses_what_may_write(server, open_http, method):
    """Through the client itself, as a careless adapter would use it."""
    client = open_http(writing=False, reading_posts=["/search"]).client
    for path in ("/x", "/search/more", "/search/../x"):
        with pytest.raises(ReadOnly, match="this connection is read-only"):
            client.request(method, path)
    with pytest.raises(ReadOnly), client.stream(method, "/x"):
        pass
    assert server.seen == []


def test_the_wall_lets_reading_pass(server, open_http):
    for base in (server.base, f"{server.base}/prefix/"):
        client = open_http(writing=False, base=base, reading_posts=["/search"])
        client.ask("GET", "/x")
        client.ask("POST", "/search", json={})
    assert [(method, path) for method, path, _, _ in server.seen] == [
        ("GET", "/x"),
        ("POST", "/search"),
        ("GET", "/prefix/x"),
        ("POST", "/prefix/search"),
    ]


def test_the_sandbox_is_on_this_machine_and_elsewhere_is_behind_https():
    for base in ("https://api.safawinet.com", "http://203.0.113.1", "http://localhost.example.com"):
        with pytest.raises(WrongPlace):
            Http(base, access(writing=False), system="the API")
    with pytest.raises(WrongPlace, match="https"):
        Http("http://api.safawinet.com", access(writing=False, sandbox=False), system="the API")
    for base in ("", "api.safawinet.com", "ftp://127.0.0.1", "https://"):
        with pytest.raises(ConfigurationError):
            Http(base, access(writing=False, sandbox=False), system="the API")
    Http("https://api.safawinet.com", access(writing=False, sandbox=False), system="the API").close()


def test_no_request_leaves_for_another_host(server, open_http):
    with pytest.raises(WrongPlace, match="not at"):
        open_http(writing=True).client.get("https://203.0.113.1/x")
    server.answers = [(302, {"Location": "https://203.0.113.1/"}, "")]
    with pytest.raises(ExternalError):
        open_http(writing=True).ask("GET", "/x")


def test_proxies_of_the_environment_are_not_used(server, open_http, monkeypatch):
    dead = f"http://127.0.0.1:{world_file.free_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, dead)
    assert open_http(writing=False).ask("GET", "/x").status_code == 200


@pytest.mark.parametrize(
    ("status", "reading", "writing"),
    [
        (400, ExternalError, ExternalError),
        (401, CredentialsInvalid, CredentialsInvalid),
        (403, Denied, Denied),
        (404, NotFound, NotFound),
        (409, ExternalError, ExternalError),
        (500, ExternalError, OutcomeUnknown),
        (502, ExternalError, OutcomeUnknown),
        (503, ExternalError, OutcomeUnknown),
        (504, ExternalError, OutcomeUnknown),
        (501, ExternalError, ExternalError),
        (302, ExternalError, ExternalError),
    ],
)
def test_a_status_means_one_error(server, open_http, status, reading, writing):
    server.answers = [(status, {}, '{"error": "so"}')]
    with pytest.raises(reading) as failed:
        open_http(writing=True).ask("GET", "/x")
    assert type(failed.value) is reading
    with pytest.raises(writing) as failed:
        open_http(writing=True).ask("POST", "/x")
    assert type(failed.value) is writing
    assert len(server.seen) == 2
    assert "\n" not in failed.value.what


def test_an_answer_that_never_comes_is_a_doubt_only_for_a_write(server, open_http):
    server.answers = [None]
    with pytest.raises(ExternalError, match="closed the connection"):
        open_http(writing=True).ask("GET", "/x")
    with pytest.raises(OutcomeUnknown, match="may or may not have happened"):
        open_http(writing=True).ask("POST", "/x")
    with pytest.raises(ExternalError):
        open_http(writing=True, reading_posts=["/x"]).ask("POST", "/x")
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("error", "reading", "writing"),
    [
        (httpx.ReadTimeout, ExternalError, OutcomeUnknown),
        (httpx.WriteError, ExternalError, OutcomeUnknown),
        (httpx.ConnectTimeout, Unreachable, Unreachable),
        (httpx.PoolTimeout, Unreachable, Unreachable),
    ],
)
def test_every_way_to_lose_a_request_has_its_error(open_http, monkeypatch, error, reading, writing):
    http = open_http(writing=True)

    def fail(*_, **__):
        raise error("lost")

    monkeypatch.setattr(http.client, "send", fail)
    for method, expected in (("GET", reading), ("POST", writing)):
        with pytest.raises(expected) as failed:
            http.ask(method, "/x")
        assert type(failed.value) is expected


def test_nobody_there_means_that_nothing_was_sent(open_http):
    http = open_http(writing=True, base=f"http://127.0.0.1:{world_file.free_port()}")
    with pytest.raises(Unreachable, match="is unreachable"):
        http.ask("POST", "/x")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize("status", [420, 429])
def test_asked_to_slow_down_it_waits_as_long_and_not_for_ever(server, open_http, method, status):
    slow = (status, {"Retry-After": "0"}, "{}")
    server.answers = [slow, slow, (200, {}, '{"a": 1}')]
    http = open_http(writing=True)
    assert http.read(http.ask(method, "/x", json={"b": 2}), dict) == {"a": 1}
    assert [(seen[0], seen[3]) for seen in server.seen] == [(method, b'{"b":2}')] * 3
    server.answers, server.seen = [slow], []
    with pytest.raises(Throttled, match="was not done"):
        http.ask(method, "/x")
    assert len(server.seen) == 4
    server.answers, server.seen = [(status, {"Retry-After": "3600"}, "{}")], []
    with pytest.raises(Throttled):
        http.ask(method, "/x")
    assert len(server.seen) == 1


def test_retry_after_is_seconds_or_a_date():
    def asked(said):
        return retry_after(httpx.Response(429, headers={} if said is None else {"Retry-After": said}))

    assert asked("7") == 7
    assert 8 < asked(format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)) <= 10
    assert asked(format_datetime(datetime.now(UTC) - timedelta(seconds=10), usegmt=True)) == 0
    assert asked("soon") is asked(None) is None
    assert asked("9" * 400) == math.inf


def test_without_a_retry_after_the_pauses_grow(server, open_http):
    server.answers = [(429, {}, "{}")]
    http, waits = open_http(writing=False), []
    http.pause = waits.append
    with pytest.raises(Throttled):
        http.ask("GET", "/x")
    assert len(server.seen) == 4
    assert waits == sorted(waits)


def test_an_answer_that_is_no_object_is_a_doubt_after_an_effect(server, open_http):
    server.answers = [(200, {}, "<html>")]
    http = open_http(writing=True)
    with pytest.raises(ExternalError):
        http.read(http.ask("GET", "/x"), dict)
    with pytest.raises(OutcomeUnknown):
        http.read(http.ask("POST", "/x"), dict, effect=True)


def test_a_secret_in_path_or_answer_is_neither_shown_nor_logged(server, open_http, caplog):
    caplog.set_level(logging.DEBUG, "httpx")
    path = Secret("/services/T0/B0/very-secret-key")
    server.answers = [(400, {}, '{"error": "very-secret-key of /services/T0/B0/very-secret-key"}')]
    http = open_http(writing=True)
    with pytest.raises(ExternalError) as failed:
        http.ask("POST", path.reveal())
    assert "/services/T0/B0/very-secret-key" not in failed.value.what
    assert "very-secret-key" not in caplog.text
