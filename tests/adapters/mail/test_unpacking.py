"""A packed stream is read unpacked, and no further than a bound."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.adapters.mail import unpacking
from opsctl.adapters.mail.unpacking import unpacked
from opsctl.errors import ConfigurationError

TEXT = b"one line\nanother\n" * 10_000
PACKED = gzip.compress(TEXT)


@given(content=st.binary(max_size=100_000))
def test_what_was_packed_comes_back(content: bytes) -> None:
    assert unpacked(io.BytesIO(gzip.compress(content)), "it").read() == content


@given(content=st.binary(max_size=1_000).filter(lambda b: not b.startswith(unpacking.MAGIC)))
def test_what_was_not_packed_is_left_as_it_is(content: bytes) -> None:
    assert unpacked(io.BytesIO(content), "it").read() == content


def test_it_is_read_by_lines() -> None:
    assert list(unpacked(io.BytesIO(gzip.compress(TEXT)), "it")) == TEXT.splitlines(keepends=True)


@pytest.mark.parametrize("broken", [PACKED[:-9], PACKED[:40] + b"xxxx" + PACKED[44:], b"\x1f\x8bno gzip"])
def test_a_broken_file_is_named(broken: bytes) -> None:
    with pytest.raises(ConfigurationError, match="It is a broken gzip file"):
        unpacked(io.BytesIO(broken), "It").read()


def test_a_small_file_that_unpacks_to_more_than_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LARGEST", 1_000_000)
    stream, parts = unpacked(io.BytesIO(gzip.compress(bytes(100_000_000))), "It"), []
    with pytest.raises(ConfigurationError, match="unpacks to more than 1,000,000 bytes"):
        parts.extend(iter(lambda: stream.read(65_536), b""))
    assert sum(map(len, parts)) <= 1_000_000
