import base64
import json

import pytest

from opsctl.sandbox.tokens import (
    AccessToken,
    TokenRefused,
    access_token,
    password_hash,
    password_matches,
    refresh_token,
    sign,
    token_hash,
    verify,
)

KEY = "a" * 64
ACCESS = AccessToken(user_id=7, role="user", session_id=31, issued_at=1_700_000_000_123)


def test_a_token_says_what_was_signed_until_it_expires() -> None:
    token = access_token(ACCESS, KEY)
    assert verify(token, KEY, now=1_700_000_899.9) == ACCESS
    with pytest.raises(TokenRefused, match="expired-token"):
        verify(token, KEY, now=1_700_000_900)


def test_a_token_is_refused_under_another_key() -> None:
    with pytest.raises(TokenRefused, match="bad-signature"):
        verify(access_token(ACCESS, KEY), "b" * 64, now=1_700_000_000)


def test_a_claim_changed_afterwards_is_refused() -> None:
    head, body, signature = access_token(ACCESS, KEY).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"role": "admin"}).encode()).rstrip(b"=").decode()
    with pytest.raises(TokenRefused, match="bad-signature"):
        verify(f"{head}.{forged}.{signature}", KEY, now=1_700_000_000)


def test_an_unsigned_token_is_refused() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    body = access_token(ACCESS, KEY).split(".")[1]
    with pytest.raises(TokenRefused, match="bad-signature"):
        verify(f"{head}.{body}.", KEY, now=1_700_000_000)


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c.d", "é.é.é", sign({"sub": "7"}, KEY)])
def test_text_that_is_no_access_token_is_malformed(text: str) -> None:
    with pytest.raises(TokenRefused, match="malformed-token"):
        verify(text, KEY, now=0)


def test_a_signature_is_the_one_that_other_libraries_write() -> None:
    # The example of jwt.io.
    token = sign({"sub": "1234567890", "name": "John Doe", "iat": 1516239022}, "your-256-bit-secret")
    assert token.endswith(".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c")


def test_refresh_tokens_differ_and_are_stored_as_hashes() -> None:
    first, second = refresh_token(), refresh_token()
    assert first != second
    assert len(base64.urlsafe_b64decode(first + "=")) == 32
    assert token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_password_matches_its_own_hash_only() -> None:
    stored = password_hash("correct horse", "salt")
    assert stored.startswith("sha256:salt:")
    assert password_matches("correct horse", stored)
    assert not password_matches("battery staple", stored)
    assert not password_matches("", "broken")
