"""Keyed hashes: standard ones, made by the current key, checked by any that is here."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest

from opsctl.engine.ledger.chain import START, Chain, Mac, plain_link
from opsctl.engine.ledger.keys import PREFIX, Keyring
from opsctl.errors import LedgerFailed, Refused


@pytest.mark.parametrize("size", [0, 1, 64, 300])
def test_a_keyed_hash_is_the_standard_one(size: int) -> None:
    assert Mac(b"k" * 32).hex(b"m" * size) == hmac.new(b"k" * 32, b"m" * size, "sha256").hexdigest()


def test_a_former_key_verifies_and_the_newest_makes(tmp_path: Path) -> None:
    former = Chain(Keyring(tmp_path)).link(START, [1])
    newer = Keyring(tmp_path).make()
    chain = Chain(Keyring(tmp_path))
    assert chain.link(START, [1]).startswith(f"{newer.id}:")
    assert chain.holds(former, START, [1]) is True
    assert chain.holds(former, START, [2]) is False
    assert chain.holds(plain_link(START, [1]), START, [1]) is True


def test_without_its_key_nobody_can_tell(tmp_path: Path) -> None:
    made = Chain(Keyring(tmp_path)).link(START, [1])
    next(tmp_path.glob(f"{PREFIX}*")).unlink()
    assert Chain(Keyring(tmp_path)).holds(made, START, [1]) is None


def test_keys_of_different_purposes_differ_and_stay(tmp_path: Path) -> None:
    key = Keyring(tmp_path).current
    purposes = ("chain", "plan", "fingerprint prod", "fingerprint test", "personal")
    assert len({key.derive(purpose) for purpose in purposes}) == len(purposes)
    assert [Keyring(tmp_path).current.derive(purpose) for purpose in purposes] == [key.derive(purpose) for purpose in purposes]
    assert key.derive("chain").hex() not in repr(key)


def test_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    Keyring(tmp_path).make()
    (path,) = tmp_path.glob(f"{PREFIX}*")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(Refused, match="0640") as caught:
        _ = Keyring(tmp_path).current
    assert f"chmod 600 {path}" in caught.value.next


@pytest.mark.parametrize("content", [b"", b"{}", b"nonsense", b"[" * 30_000, b"x" * 100_000])
def test_a_damaged_key_is_refused(tmp_path: Path, content: bytes) -> None:
    Keyring(tmp_path).make()
    (path,) = tmp_path.glob(f"{PREFIX}*")
    path.write_bytes(content)
    with pytest.raises((LedgerFailed, Refused)):
        _ = Keyring(tmp_path).current


def test_a_link_or_a_pipe_is_no_key(tmp_path: Path) -> None:
    Keyring(tmp_path).make()
    (path,) = tmp_path.glob(f"{PREFIX}*")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="it is a link"):
        _ = Keyring(tmp_path).current
