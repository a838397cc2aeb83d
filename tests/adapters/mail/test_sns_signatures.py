"""SNS's signatures: the string that is signed, the certificate, and everything that only looks like one."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from accesses import access
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import convert

from opsctl.adapters.mail import sns_signatures
from opsctl.adapters.mail.sns_signatures import Envelope, SnsSignatures, Unsigned, canonical, public_key
from opsctl.errors import ExternalError, Refused
from opsctl.sandbox.aws.sns_signing import Signer, certificate, new_key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REGION = "us-east-1"
BASE = f"https://sns.{REGION}.amazonaws.com"
KEY = new_key()
SIGNER = Signer(KEY, BASE)
NOTICE = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": f"arn:aws:sns:{REGION}:123456789012:MyTopic",
    "Subject": "My First Message",
    "Message": "Hello world!\nAnd \u00e9.",
    "Timestamp": "2012-05-02T00:54:06.655Z",
}
CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37",
    "TopicArn": NOTICE["TopicArn"],
    "Message": "You have chosen to subscribe",
    "SubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
    "Timestamp": "2012-04-26T20:45:04.751Z",
}


def envelope(message: dict[str, str], **other: str) -> Envelope:
    return convert(json.loads(json.dumps(message | other)), Envelope)


class Amazon:
    """Answers for SNS's hosts with certificates, and counts what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pem: bytes = SIGNER.certificate, status: int = 200) -> None:
        self.asked: list[str] = []
        self.pem, self.status = pem, status
        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: self._answer(request))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.status == 0:
            raise httpx.ConnectError("no route", request=request)
        return httpx.Response(self.status, content=self.pem, request=request)


def signatures(*, sandbox: bool = False, endpoint: str | None = None) -> SnsSignatures:
    regions = {REGION, "cn-north-1", "us-gov-west-1"}
    return SnsSignatures(access(writing=False, sandbox=sandbox), endpoint, lambda service: regions, lambda: NOW)


def test_the_string_that_is_signed_is_the_documented_one() -> None:
    """The example of the SNS Developer Guide, with its subject and without."""
    assert canonical(envelope(NOTICE)).decode().splitlines()[:4] == ["Message", "Hello world!", "And \u00e9.", "MessageId"]
    names = canonical(envelope(NOTICE | {"Message": "m"})).decode().splitlines()[::2]
    assert names == ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    without = {name: value for name, value in NOTICE.items() if name != "Subject"} | {"Message": "m"}
    assert canonical(envelope(without)).decode().splitlines()[::2] == ["Message", "MessageId", "Timestamp", "TopicArn", "Type"]
    names = canonical(envelope(CONFIRMATION)).decode().splitlines()[::2]
    assert names == ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    with pytest.raises(Unsigned):
        canonical(envelope(NOTICE | {"Type": "Wish"}))


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("message", [NOTICE, CONFIRMATION, CONFIRMATION | {"Type": "UnsubscribeConfirmation"}])
def test_what_sns_signed_passes_and_its_certificate_is_fetched_once(
    monkeypatch: pytest.MonkeyPatch, version: str, message: dict[str, str]
) -> None:
    amazon, found = Amazon(monkeypatch), signatures()
    for _ in range(2):
        found.verify(envelope(SIGNER.sign(message, version)))
    assert amazon.asked == [f"{BASE}{SIGNER.path}"]


@pytest.mark.parametrize("name", [*NOTICE, "SignatureVersion", "Signature", "SigningCertURL"])
def test_every_member_that_was_changed_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    Amazon(monkeypatch)
    signed = SIGNER.sign(NOTICE)
    for other in ("", "x", "2", signed[name][:-1], f"{signed[name]}A", f" {signed[name]}"):
        with pytest.raises(Unsigned):
            signatures().verify(envelope(signed, **{name: other}))
    if name != "Type":
        with pytest.raises(Unsigned):
            signatures().verify(envelope({each: value for each, value in signed.items() if each != name}))


URLS = [
    "",
    f"http://sns.{REGION}.amazonaws.com{SIGNER.path}",
    f"https://sns.{REGION}.amazonaws.com.evil.example{SIGNER.path}",
    f"https://evil.example/sns.{REGION}.amazonaws.com{SIGNER.path}",
    f"https://sns.{REGION}.amazonaws.com@evil.example{SIGNER.path}",
    f"https://sns.{REGION}.amazonaws.com:8443{SIGNER.path}",
    f"https://evil.{REGION}.amazonaws.com{SIGNER.path}",
    f"https://sns.{REGION}.amazonaws.com/bucket/..{SIGNER.path}",
    f"https://sns.{REGION}.amazonaws.com{SIGNER.path}?a=.pem",
    f"https://sns.{REGION}.amazonaws.com{SIGNER.path}#.pem",
    f"https://sns.{REGION}.amazonaws.com/anything",
    f"https://s3.amazonaws.com{SIGNER.path}",
    f"https://sns.eu-west-1.amazonaws.com{SIGNER.path}",
    f"https://sns.us-bogus-9.amazonaws.com{SIGNER.path}",
    f"http://127.0.0.1:4566{SIGNER.path}",
]


@pytest.mark.parametrize("url", URLS, ids=range(len(URLS)))
def test_a_certificate_from_elsewhere_is_never_asked_for(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    amazon = Amazon(monkeypatch)
    for found in (signatures(), signatures(endpoint="http://127.0.0.1:4566")):
        with pytest.raises(Unsigned, match="certificate"):
            found.verify(envelope(SIGNER.sign(NOTICE), SigningCertURL=url))
    assert amazon.asked == []


def test_a_sandbox_asks_its_own_endpoint_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    amazon = Amazon(monkeypatch)
    local = Signer(KEY, "http://127.0.0.1:4566")
    found = signatures(sandbox=True, endpoint="http://127.0.0.1:4566")
    found.verify(envelope(local.sign(NOTICE)))
    assert amazon.asked == [f"http://127.0.0.1:4566{SIGNER.path}"]
    for url in (f"{BASE}{SIGNER.path}", f"http://127.0.0.1:45660{SIGNER.path}", f"http://127.0.0.1:4566@evil.example{SIGNER.path}"):
        with pytest.raises(Unsigned, match=r"not from Amazon|from another region"):
            found.verify(envelope(local.sign(NOTICE), SigningCertURL=url))
    assert len(amazon.asked) == 1


@pytest.mark.parametrize(
    ("region", "suffix", "name"),
    [
        (REGION, "amazonaws.com", "sns.amazonaws.com"),
        (REGION, "amazonaws.com", f"sns.{REGION}.amazonaws.com"),
        (REGION, "amazonaws.com", f"sns-signing.{REGION}.amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn", "sns-cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "amazonaws.com", "sns-us-gov-west-1.amazonaws.com"),
    ],
)
def test_the_names_that_sns_has_in_a_region(monkeypatch: pytest.MonkeyPatch, region: str, suffix: str, name: str) -> None:
    key = load_pem_private_key(KEY.encode(), None)
    Amazon(monkeypatch, certificate(key, name))
    topic = f"arn:aws:sns:{region}:123456789012:MyTopic"
    signatures().verify(envelope(Signer(KEY, f"https://sns.{region}.{suffix}").sign(NOTICE | {"TopicArn": topic})))


def test_a_certificate_that_isnt_snss_is_none() -> None:
    key: Any = load_pem_private_key(KEY.encode(), None)
    names = frozenset({"sns.amazonaws.com"})
    day = timedelta(days=1)
    wrong = {
        "not for SNS": certificate(key, "ec2.amazonaws.com"),
        "has expired": certificate(key, end=NOW - day),
        "not valid yet": certificate(key, begin=NOW + day),
        "no RSA key": certificate(ec.generate_private_key(ec.SECP256R1())),
        "unreadable": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for why, pem in wrong.items():
        with pytest.raises(Unsigned, match=why):
            public_key(pem, names, NOW)
    for pem in (b"", b"<html>", b"\0" * 200_000):
        with pytest.raises(Unsigned, match="unreadable"):
            public_key(pem, names, NOW)
    assert isinstance(public_key(certificate(key), names, NOW), rsa.RSAPublicKey)


def test_a_certificate_that_amazon_doesnt_have_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    amazon, found = Amazon(monkeypatch, status=404), signatures()
    for _ in range(2):
        with pytest.raises(Unsigned, match="no such signing certificate"):
            found.verify(envelope(SIGNER.sign(NOTICE)))
    assert len(amazon.asked) == 1


@pytest.mark.parametrize("status", [0, 500, 503])
def test_a_bad_day_of_amazons_doesnt_make_a_forger_of_sns(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    amazon, found = Amazon(monkeypatch, status=status), signatures()
    with pytest.raises(ExternalError):
        found.verify(envelope(SIGNER.sign(NOTICE)))
    amazon.status = 200
    found.verify(envelope(SIGNER.sign(NOTICE)))


def test_forgers_dont_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    Amazon(monkeypatch, status=404)
    monkeypatch.setattr(sns_signatures, "MOST_KEPT", 3)
    found = signatures()
    for number in range(10):
        with pytest.raises(Unsigned):
            found.verify(envelope(SIGNER.sign(NOTICE), SigningCertURL=f"{BASE}/SimpleNotificationService-{number}.pem"))
    assert len(found._keys) <= 3


def test_without_the_library_nothing_is_taken_for_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(Refused, match="cryptography") as refused:
        signatures().verify(envelope(SIGNER.sign(NOTICE)))
    assert "[sns]" in refused.value.next
