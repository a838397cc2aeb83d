"""Whatever an HTTP server answers: only opsctl's own errors come out, with nothing of a credential in them."""

from __future__ import annotations

import json
import zlib
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from accesses import access
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsctl.adapters.access import Access
from opsctl.adapters.host.prompt import Prompt
from opsctl.adapters.http import answers, logins
from opsctl.adapters.http import client as http
from opsctl.adapters.http.answers import Unreadable, convert, decoded, moment, number, seconds
from opsctl.adapters.http.api import Api
from opsctl.adapters.http.client import Http
from opsctl.adapters.http.ghcr import Ghcr
from opsctl.adapters.http.lease import LeaseEndpoint
from opsctl.adapters.http.notifiers import PagerDuty, Slack, Statuspage
from opsctl.adapters.http.sentry import Sentry
from opsctl.adapters.http.webhook import Webhook
from opsctl.adapters.hubspot.contacts import HubSpot
from opsctl.errors import ConfigurationError, ExternalError, OpsctlError, OutcomeUnknown
from opsctl.redaction import CONTROL, Secret
from opsctl.settings import ApiSettings, ChannelSettings, HubSpotSettings, LeaseSettings, Reference, SentrySettings

BASE = "http://127.0.0.1:1"
TOKEN = "pat-na1-7f3a9c51-e0d8-4b26-a5c1-f09e3d7b6482"
WEAK = "safawinet-before"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Nobody(Prompt):
    """A person who isn't there."""

    present = False


REFERENCE = Reference(env="TOKEN")
HUBSPOT = HubSpotSettings(base=BASE, portal=1, app_id=2, token=REFERENCE, minted="minted", webhook=f"{BASE}/hook", app_secret=REFERENCE)
CHANNELS = ChannelSettings(
    slack=Reference(env="SLACK"), page=REFERENCE, page_base=BASE, status_page="x", status_key=REFERENCE, status_base=BASE
)


def resolving(token: str) -> Access:
    """Access that resolves every reference to one value, Slack's to a URL that holds it."""
    return access(writing=True, resolve=lambda which: Secret(token if which is REFERENCE else f"{BASE}/services/T0/B0/{token}"))


class Free:
    """A limiter that never waits."""

    window = 10.0

    def slot(self) -> Any:
        return nullcontext()

    def learn(self, most: int, window: float) -> None:
        assert 0 < most < 10**12
        assert 0 < window < 10**12


def hubspot(token: str) -> HubSpot:
    made = HubSpot(resolving(token), HUBSPOT, Free(), environment="x")  # type: ignore[arg-type]
    made._http.pause = lambda seconds: None
    return made


def every(token: str = TOKEN) -> dict[str, Any]:
    """Every call of every adapter that speaks HTTP."""
    it, secret = resolving(token), Secret(token)
    sentry = Sentry(it, SentrySettings(base=BASE, organization="o", project="slug", token=REFERENCE, suspicious=["attack"]))
    api = partial(Api, it, ApiSettings(base=BASE, token=REFERENCE), Nobody(), lambda keys: [None for _ in keys])
    lease = LeaseEndpoint(it, LeaseSettings(url=f"{BASE}/lease", edge_auth=REFERENCE, function="f", authorizer="a"))
    statuspage = Statuspage(it, CHANNELS)
    return {
        "hubspot account": lambda: hubspot(token).account(),
        "hubspot contact": lambda: hubspot(token).contact("7", ["minted"], ["minted"]),
        "hubspot read": lambda: hubspot(token).read(["7", "8"], ["minted"]),
        "hubspot resolve": lambda: hubspot(token).resolve(["a@b.c"]),
        "hubspot update": lambda: hubspot(token).update({"7": {"a": "b"}}),
        "hubspot set": lambda: hubspot(token).set("7", {"a": "b"}),
        "sentry rate": lambda: sentry.rate(),
        "sentry issues": lambda: sentry.issues(),
        "slack": lambda: Slack(it, CHANNELS).post("x"),
        "pagerduty": lambda: PagerDuty(it, CHANNELS, "x").trigger("x", "info", "key"),
        "statuspage incidents": lambda: statuspage.incidents(),
        "statuspage post": lambda: statuspage.post("x", "resolved", "y"),
        "statuspage update": lambda: statuspage.update("1", "resolved", "y"),
        "ghcr": lambda: Ghcr(it, BASE).pull("o/n:t", "user", secret),
        "api health": lambda: api().health(),
        "api login": lambda: api().login(Secret("user@example.com"), secret),
        "api who": lambda: api().user_of(secret),
        "api end": lambda: api().end(secret),
        "api force logout": lambda: api().force_logout("7", "key"),
        "api announce": lambda: api().announce("x", "1 hour", "key"),
        "lease take": lambda: lease.take(secret, secret),
        "lease authorized": lambda: lease.authorized(secret),
        "webhook": lambda: Webhook(it, HUBSPOT, lambda: NOW).send("7", "a", "true", at=NOW),
    }


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what every request is answered."""
    told: dict[str, Any] = {}

    def handle(self: Any, request: httpx.Request) -> httpx.Response:
        if "account-info" in request.url.path and not told.get("account"):
            return httpx.Response(200, json={"portalId": 1})
        if request.url.path.startswith("/api/0/projects/") and not told.get("account"):
            return httpx.Response(200, json={"id": "1"})
        made = told["make"](request)
        assert isinstance(made, httpx.Response)
        return made

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    monkeypatch.setattr(http.time, "sleep", lambda seconds: None)
    # Another process wouldn't get these answers.

    def exchange(self, asked):
        return msgspec.json.encode(logins._handle(self._process.client(), asked, {}))

    monkeypatch.setattr(logins.Logins, "_exchange", exchange)

    def set_(make: Any, *, account: bool = False) -> None:
        told.update(make=make, account=account)

    return set_


def run(call: Any) -> OpsctlError | None:
    try:
        call()
    except OpsctlError as error:
        return error
    return None


CALLS = list(every())
ATTACHED = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
NAMED = """
portalId timeZone id properties propertiesWithHistory minted email results errors context ids message category groups by totals
sum(quantity) outcome title count userCount lastSeen dedup_key name status created_at incident_updates body token accessToken
refreshToken expiresIn userId at revoked error timestamp value policyName requiredScopes propertyName
"""
KEYS = st.sampled_from(NAMED.split())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["\ud800", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00Z", 10**400, "9" * 5000, "1e999"]
    )
)
SHAPES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25)


@pytest.mark.parametrize("name", CALLS)
@ATTACHED
@given(found=SHAPES, status=st.sampled_from([200, 201, 207, 400, 401, 403, 404, 409, 423, 429, 477, 500, 502]))
def test_every_shape_of_json_is_read_or_refused(answer: Any, name: str, found: Any, status: int) -> None:
    answer(lambda request: httpx.Response(status, content=json.dumps(found).encode()), account=True)
    run(every()[name])


BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty": (b"", {}),
    "HTML": (b"<html>", {"Content-Type": "text/html"}),
    "not JSON": (b"ok", {}),
    "deep": (b"[" * 200_000, {}),
    "deep objects": (b'{"a":' * 100_000, {}),
    "UTF-16 that isn't": (b"{}x", {"Content-Type": "application/json; charset=utf-16"}),
    "UTF-16": ('{"message":"é"}'.encode("utf-16"), {"Content-Type": "application/json; charset=utf-16"}),
    "an unknown charset": (b"{}", {"Content-Type": "application/json; charset=nonsense"}),
    "a codec that is none for text": (b"{}", {"Content-Type": "text/plain; charset=base64"}),
    "no UTF-8": (b'{"message":"\xff\xfe"}', {}),
    "half a character": (b'{"message":"\\ud800","error":"\\udc00","title":"\\ud800"}', {}),
    "NaN": (b'{"portalId":NaN,"expiresIn":NaN}', {}),
    "infinite": (b'{"portalId":1e999,"revoked":1e999,"expiresIn":-1e999}', {}),
    "a number of 5,000 digits": (b'{"portalId":' + b"9" * 5000 + b"}", {}),
    "gzip that isn't": (b"{}", {"Content-Encoding": "gzip"}),
    "a wrong deflate": (zlib.compress(b"{}")[:-3], {"Content-Encoding": "deflate"}),
    "headers of 400 digits": (
        b"{}",
        {
            "Retry-After": "9" * 400,
            "X-HubSpot-RateLimit-Max": "9" * 400,
            "X-HubSpot-RateLimit-Interval-Milliseconds": "9" * 400,
            "Link": "9" * 400,
            "apigw-requestid": "9" * 400,
            "Docker-Content-Digest": "9" * 400,
        },
    ),
    "no number": (b"{}", {"Retry-After": "nan", "X-HubSpot-RateLimit-Max": "²", "X-HubSpot-RateLimit-Interval-Milliseconds": "0"}),
    "a date at the calendar's end": (b"{}", {"Retry-After": "Fri, 31 Dec 9999 23:59:59 -2359"}),
    "a date that is none": (b"{}", {"Retry-After": "Fri, 99 Foo 99999 99:99:99 GMT"}),
    "a strange link": (b"[]", {"Link": '<>;;=; rel="next"; results="true"; cursor'}),
}


@pytest.mark.parametrize("status", [200, 400, 429, 477, 500])
@pytest.mark.parametrize("body", BODIES)
def test_every_odd_body_is_read_or_refused(answer: Any, body: str, status: int) -> None:
    content, headers = BODIES[body]
    answer(lambda request: httpx.Response(status, headers=headers, stream=httpx.ByteStream(content)), account=True)
    for name, call in every().items():
        error = run(call)
        assert error is None or (len(error.what) < 1_500 and not CONTROL.search(error.what)), name


EFFECTS = ["hubspot set", "hubspot update", "pagerduty", "statuspage post", "statuspage update", "api force logout"]


@pytest.mark.parametrize("content", [b"ok", b"[" * 100_000, b"[1]", b'{"dedup_key": {}, "results": 1}'])
@pytest.mark.parametrize("name", EFFECTS)
def test_a_yes_that_cant_be_read_leaves_the_outcome_unknown(answer: Any, name: str, content: bytes) -> None:
    answer(lambda request: httpx.Response(200, content=content))
    assert type(run(every()[name])) is OutcomeUnknown


def test_a_body_without_end_is_let_go(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST", 10_000)

    class Endless(httpx.SyncByteStream):
        read = 0

        def __iter__(self) -> Any:
            while True:
                Endless.read += 1
                yield b"x" * 1000

    answer(lambda request: httpx.Response(200, stream=Endless()))
    assert type(run(every()["hubspot set"])) is OutcomeUnknown
    assert type(run(every()["sentry issues"])) is ExternalError
    assert Endless.read < 50


def test_a_body_that_only_drips_has_a_deadline(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 100_000, 50))
    monkeypatch.setattr(http.time, "monotonic", lambda: float(next(now)))
    answer(lambda request: httpx.Response(200, stream=httpx.ByteStream(b"{}")))
    answer(lambda request: httpx.Response(200, content=iter([b"x"] * 1000)))
    assert type(run(every()["pagerduty"])) is OutcomeUnknown


def echoed(request: httpx.Request, before: int, cut: int | None) -> bytes:
    """What a proxy says that shows the request: its headers, its address and its body, after some words."""
    said = "x" * before + "".join(f"{name}: {value}\n" for name, value in request.headers.items()) + f"{request.url}\n"
    return said.encode()[: None if cut is None else before + cut] + request.content


@pytest.mark.parametrize("token", [TOKEN, WEAK, "two  blanks and é\"'/+", "plain-0123456789abcdef"])
@pytest.mark.parametrize("before", [0, 265, 490])
@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_server_that_echoes_the_request_leaks_nothing(answer: Any, token: str, before: int, status: int) -> None:
    answer(lambda request: httpx.Response(status, content=echoed(request, before, None), headers={"Content-Type": "text/plain"}))
    pieces = {token[first : first + 8] for first in range(len(token) - 7)} - {"safawine"}
    for name, call in every(token).items():
        error = run(call)
        if error is not None:
            assert not any(piece in f"{error.what} {error.next}" for piece in pieces), name


@pytest.mark.parametrize("cut", range(20, 200, 17))
def test_a_server_that_cuts_what_it_echoes_leaks_nothing(answer: Any, cut: int) -> None:
    answer(lambda request: httpx.Response(400, content=json.dumps({"message": echoed(request, 10, cut).decode()}).encode()))
    for name, call in every().items():
        error = run(call)
        assert error is None or TOKEN[8:20] not in error.what, name


@pytest.mark.parametrize("token", ["abc\n0123456", "é-0123456789", "a\0b-0123456"])
def test_a_credential_that_no_header_can_hold_is_refused_before_it_is_sent(answer: Any, token: str) -> None:
    def never(request: httpx.Request) -> httpx.Response:
        # The transport's own check comes after ours; a value that it would refuse must not come here as a lost answer.
        raise httpx.LocalProtocolError("Illegal header value " + repr(token))

    answer(never)
    error = run(lambda: Http(BASE, access(writing=True), system="X").ask("POST", "/x", headers={"Authorization": f"Bearer {token}"}))
    assert type(error) is ConfigurationError
    assert token.strip() not in error.what


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "x", "", "99999-01-01", "2026-02-30"])
def test_a_time_that_is_none_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        moment(text)


def test_times_numbers_and_seconds_are_read() -> None:
    assert moment("2026-01-01T00:00:00+01:00") == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert moment("2026-01-01T00:00:00") == NOW
    assert [number(text) for text in ("7", " 7 ", "0.5", None, "", "nan", "inf", "1e9", "-1", "²", "1_0", "9" * 400)] == [7, 7, 0.5] + [
        None
    ] * 9
    assert seconds("Thu, 01 Jan 2026 00:00:10 GMT", NOW) == 10
    assert seconds("Wed, 31 Dec 2025 00:00:00 GMT", NOW) == 0
    assert [seconds(text, NOW) for text in (None, "soon", "Thu, 01 Jan 2026 00:00:10 -0000")] == [None] * 3


def test_half_characters_are_written_out_and_whole_ones_kept() -> None:
    assert decoded(b'{"a": "x\\ud800y\\ud83d\\ude00", "b": "\\\\ud800"}', dict[str, str]) == {"a": "x\\ud800y😀", "b": "\\ud800"}
    with pytest.raises(Unreadable):
        convert({"a": 1}, list[int])
    assert answers.words(httpx.Response(400, content=b"")) == "Bad Request."
