"""A secret value is never shown, in any of the forms in which it could leak."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import urllib.parse

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.errors import Refused
from opsctl.redaction import HIDDEN, SHORTEST, Secret, Vault, masked

VALUE = 'ca"na\\ry/ü+ & value'


@pytest.mark.parametrize("form", [str, repr, "{}".format, "{!r}".format, "%s".__mod__, lambda secret: f"{[secret]}"])
def test_every_way_of_showing_it_hides_it(form: object) -> None:
    assert VALUE not in form(Secret(VALUE))  # type: ignore[operator]
    assert HIDDEN in form(Secret(VALUE))  # type: ignore[operator]


def test_it_is_neither_pickled_nor_copied_nor_encoded_nor_a_key() -> None:
    secret = Secret(VALUE)
    for act in (pickle.dumps, copy.deepcopy, hash, json.dumps, msgspec.json.encode):
        with pytest.raises(TypeError):
            act(secret)


def test_only_reveal_gives_it() -> None:
    assert Secret(VALUE).reveal() == VALUE
    assert Secret(VALUE) == Secret(VALUE.encode())
    assert Secret(VALUE) != Secret("another value")
    assert Secret(b"\xff\x00").raw() == b"\xff\x00"
    with pytest.raises(Refused):
        Secret(b"\xff\xfe\xfd\xfc\xfb\xfa").reveal()


@given(st.text(min_size=SHORTEST, max_size=40).filter(lambda text: len(text.strip()) >= SHORTEST), st.text(max_size=10))
def test_no_form_of_it_leaves(value: str, around: str) -> None:
    vault = Vault()
    vault.remember(value.encode(errors="replace"))
    plain = value.encode(errors="replace").decode()
    for form in (plain, json.dumps(plain), repr(plain), urllib.parse.quote(plain), base64.b64encode(plain.encode()).decode()):
        assert plain not in vault.redact(f"{around}{form}{around}") or plain in around


def test_a_longer_value_is_hidden_whole_where_it_holds_a_shorter_one() -> None:
    vault = Vault()
    vault.remember(b"password")
    vault.remember(b"password-of-the-admin")
    assert vault.redact("password-of-the-admin, password") == f"{HIDDEN}, {HIDDEN}"


def test_values_that_could_be_words_are_left() -> None:
    vault = Vault()
    vault.remember(b"api")
    assert vault.redact("service api") == "service api"


CODE = "156855158284-0123456789abcdef"


@pytest.mark.parametrize(
    "line",
    [
        f"GET /lease?token={CODE}&x=1 HTTP/1.1",
        "GET /lease?token=canary-0123456789 HTTP/1.1",
        "download_token=canary-0123456789",
        "x-edge-auth=canary-0123456789",
        "authorization=Bearer canary-0123456789",
        "{'token': 'canary-0123456789', 'status': 403}",
        "{'Authorization': 'Bearer canary-0123456789'}",
        f'{{"type": "lease_error", "code": "{CODE}"}}',
        f"the code {CODE} is unknown",
        f"Authorization: Bearer {CODE}",
        "minted_token 156855158284 canary-0123456789",
        '{"download_token": "canary-0123456789"}',
    ],
)
def test_what_looks_like_a_secret_in_a_strangers_line_is_hidden(line: str) -> None:
    hidden = masked(line)
    assert "0123456789" not in hidden
    assert HIDDEN in hidden


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "lease_ok", "contactId": "156855158284", "requestId": "12345678-90ab-4def-8123-567890123456"}',
        "2030-01-02T03:04:05Z GET /path=/lease status=403 reason=invalid-token",
        "arn:aws:lambda:us-west-2:123456789012:function:hh-lease",
        '{"code": "ECONNRESET", "errno": -104}',
    ],
)
def test_other_words_of_a_line_are_left(line: str) -> None:
    assert masked(line) == line
