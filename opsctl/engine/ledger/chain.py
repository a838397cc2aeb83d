"""The hash chain that reveals edits of the ledger: each entry's hash is keyed and covers the hash before it.

A keyed hash is written `KEYID:HEX`. Entries from before there were keys have a plain hash, `HEX`, which anybody can make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from opsctl.engine.ledger.rows import encode

START = "0" * 64
PREFIX = 9
"""Characters of a key's id and the colon."""


class ChainKey(Protocol):
    """The part of a root key that the chain needs."""

    @property
    def id(self) -> str:
        """The id of the key."""
        ...

    def derive(self, purpose: str) -> bytes:
        """The key for a purpose."""
        ...


class KeySource(Protocol):
    """The part of a keyring that the chain needs."""

    @property
    def current(self) -> ChainKey:
        """The key that signs."""
        ...

    def find(self, id: str) -> ChainKey | None:
        """A key that verifies, or None."""
        ...


def digest(entry: Sequence[Any]) -> str:
    """The plain hash of a row, to be stored in an entry of the chain."""
    return plain_link(START, entry)


def plain_link(previous: str, entry: Sequence[Any]) -> str:
    """The plain hash of an entry, given the hash of the one before it."""
    return hashlib.sha256(previous.encode() + encode(entry)).hexdigest()


class Chain:
    """Makes and checks the keyed hashes of one ledger."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys
        self._prefix = f"{keys.current.id}:"
        self._macs: dict[str, Mac | None] = {self._prefix: Mac(keys.current.derive("chain"))}

    def link(self, previous: str, entry: Sequence[Any]) -> str:
        """The hash of `entry`, given the hash of the one before it."""
        mac = self._macs[self._prefix]
        assert mac
        return self._prefix + mac.hex(previous.encode() + encode(entry))

    def holds(self, hash: str, previous: str, entry: Sequence[Any]) -> bool | None:
        """Whether `hash` is the hash of `entry`; None if its key is missing."""
        if not is_keyed(hash):
            return plain_link(previous, entry) == hash
        prefix = hash[:PREFIX]
        if prefix not in self._macs:
            key = self._keys.find(prefix.rstrip(":"))
            self._macs[prefix] = Mac(key.derive("chain")) if key else None
        mac = self._macs[prefix]
        return None if mac is None else mac.hex(previous.encode() + encode(entry)) == hash[PREFIX:]


class Mac:
    """HMAC-SHA-256 with one key. The key is processed once, because a ledger has many short entries."""

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner, self._outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))

    def hex(self, message: bytes) -> str:
        """The code of a message, as hex digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()


def is_keyed(hash: str) -> bool:
    """Whether a hash was made with a key."""
    return ":" in hash


def run_mark(chain: Chain, run: str, state: Sequence[Any]) -> str:
    """The keyed hash of a run's mutable columns: head, number of events, closing time, result and stop request."""
    return chain.link(START, [run, *state])
