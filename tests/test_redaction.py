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
from opsctl.redaction import HIDDEN, SHORTEST, Secret, Vault

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
