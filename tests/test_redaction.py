"""A secret value is never shown, in any of the forms in which it could leak."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import urllib.parse
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.errors import Refused
from opsctl.redaction import HIDDEN, SHORTEST, Secret, Vault, mask_secrets

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


VALUES = st.text(
    st.characters(max_codepoint=126, min_codepoint=32) | st.sampled_from("éüß€ключ世😀\n\t"), min_size=SHORTEST, max_size=40
).filter(lambda text: len("".join(text.split())) >= SHORTEST)
WRAPPED: dict[str, Callable[[str], str]] = {
    "as it stands": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda value: json.dumps(json.dumps(value)),
    "JSON with slashes escaped": lambda value: json.dumps(value).replace("/", r"\/"),
    "JSON in HTML": lambda value: html.escape(json.dumps(value)),
    "JSON in a URL": lambda value: urllib.parse.quote(json.dumps(value)),
    "repr": repr,
    "ascii": ascii,
    "repr of bytes": lambda value: repr(value.encode()),
    "percent": urllib.parse.quote,
    "percent, all": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "form": urllib.parse.quote_plus,
    "HTML": html.escape,
    "SQL": lambda value: value.replace("'", "''"),
    "CSV": lambda value: value.replace('"', '""'),
    "blanks made one": lambda value: " ".join(value.split()),
    "folded header": lambda value: value.replace(" ", "\r\n "),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64, bare": lambda value: base64.b64encode(value.encode()).decode().rstrip("="),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 in lines": lambda value: base64.encodebytes(value.encode() * 3).decode(),
    "user:value in base64": lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    "users:value in base64": lambda value: base64.b64encode(f"users:{value}:".encode()).decode(),
    "an-user:value in base64": lambda value: base64.b64encode(f"an-user:{value}".encode()).decode(),
    "base64 in a URL": lambda value: urllib.parse.quote(base64.b64encode(value.encode()).decode(), safe=""),
    "base64 in JSON": lambda value: json.dumps(base64.b64encode(f"a:{value}".encode()).decode()).replace("/", r"\/"),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
}
TRICKY = [
    'ca"na\\ry/ü+ & value',
    "two  blanks and\ta tab",
    "a line\nand another\r\n",
    'quote" and é',
    "it's 'quoted'",
    "100%41 <&> \\u00e9",
    "ключ-0123456789",
]


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("value", TRICKY)
def test_every_form_is_hidden(value: str, wrap: str) -> None:
    vault = Vault()
    vault.remember(value.encode())
    form = WRAPPED[wrap](value)
    left = vault.hide(f"before {form} after")
    assert left.startswith("before ")
    assert left.endswith(" after")
    assert HIDDEN in left
    # Only quotes and the ends of lines stand beside what was hidden.
    assert len(left) <= len(f"before \\\"&quot;%22b'{HIDDEN}'&quot;%22\\\" after")


@given(VALUES, st.text(max_size=10))
def test_no_form_of_it_is_left(value: str, around: str) -> None:
    vault = Vault()
    vault.remember(value.encode())
    for wrap in WRAPPED.values():
        left = vault.hide(f"{around}{wrap(value)}{around}")
        assert HIDDEN in left or "".join(value.split()) in around


def test_a_longer_value_is_hidden_whole_where_it_holds_a_shorter_one() -> None:
    vault = Vault()
    vault.remember(b"password")
    vault.remember(b"password-of-the-admin")
    assert vault.hide("password-of-the-admin, password") == f"{HIDDEN}, {HIDDEN}"


STRONG = "pat-na1-7f3a9c51-e0d8-4b26-a5c1-f09e3d7b6482"


@pytest.mark.parametrize("kept", [13, 20, 30])
def test_a_value_that_another_program_has_cut_is_hidden(kept: int) -> None:
    vault = Vault()
    vault.remember(STRONG.encode())
    assert vault.redact(f"x-token: {STRONG[:kept]}") == f"x-token: {HIDDEN}"
    encoded = base64.b64encode(f"u:{STRONG}".encode()).decode()[: kept + 8]
    assert vault.redact(f"it said {encoded}") == f"it said {HIDDEN}"


WORDLIKE = ["safawinet", "before", "us-east-1x"[:9], "safawinet/prod/jwt", "2026-11-30", "123456789012", "AWSCURRENT", "sessions of users"]


@pytest.mark.parametrize("word", WORDLIKE)
def test_a_value_that_is_a_word_is_hidden_in_what_others_wrote_alone(word: str) -> None:
    """Our own text doesn't depend on it: to hide the word there would tell it."""
    vault = Vault()
    vault.remember(word.encode())
    assert vault.redact(f"it is {word}.") == f"it is {word}."
    assert vault.hide(f"it is {word}.") == f"it is {HIDDEN}."


@pytest.mark.parametrize("value", [STRONG, "a1b2c3", "correct horse battery staple", "qzjfkwpxmvbnr", "f" * 64, "x" * 13, "1234567890123"])
def test_any_other_value_is_hidden_wherever_text_leaves(value: str) -> None:
    vault = Vault()
    vault.remember(value.encode())
    assert vault.redact(f"it is {value}.") == f"it is {HIDDEN}."


def test_values_under_six_characters_are_left() -> None:
    vault = Vault()
    vault.remember(b"api")
    assert vault.hide("service api") == "service api"


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
    hidden = mask_secrets(line)
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
    assert mask_secrets(line) == line
