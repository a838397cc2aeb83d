"""Fingerprints: equal for the same value under the same key, refused across keys."""

from __future__ import annotations

import re

import pytest

from opsctl import fingerprints
from opsctl.errors import Refused

ONE, OTHER = b"k" * 32, b"q" * 32


def test_a_fingerprint_names_its_value_and_its_key() -> None:
    value = fingerprints.of(ONE, b"value")
    assert re.fullmatch(fingerprints.PATTERN, value)
    assert value == fingerprints.of(ONE, b"value")
    assert value[:6] == fingerprints.of(ONE, b"another")[:6] != fingerprints.of(OTHER, b"value")[:6]
    assert fingerprints.same(value, fingerprints.of(ONE, b"value"))
    assert not fingerprints.same(value, fingerprints.of(ONE, b"another"))


@pytest.mark.parametrize("value", [b"value", b"another"])
def test_another_keys_fingerprint_proves_nothing(value: bytes) -> None:
    with pytest.raises(Refused, match="different keys"):
        fingerprints.same(fingerprints.of(ONE, b"value"), fingerprints.of(OTHER, value))


def test_one_without_a_keys_id_proves_nothing() -> None:
    with pytest.raises(Refused, match="different keys"):
        fingerprints.same("0123456789ab", fingerprints.of(ONE, b"value"))


def test_no_value_is_no_value() -> None:
    assert fingerprints.same(None, None)
    assert not fingerprints.same(None, fingerprints.of(ONE, b"value"))
