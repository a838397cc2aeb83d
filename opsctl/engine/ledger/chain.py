"""The hash chain that makes a quiet edit of the ledger show: each entry's hash is keyed, and covers the one before it.

A keyed hash is written `KEYID:HEX`. Entries of before there were keys have a plain one, `HEX`, which anybody can make.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Protocol

from opsctl.engine.ledger.rows import encode

START = "0" * 64


class Key(Protocol):
    """A root key, as far as the chain needs it."""

    @property
    def id(self) -> str:
        """What names it."""
        ...

    def derive(self, purpose: str) -> bytes:
        """The key for a purpose."""
        ...


class Keys(Protocol):
    """Root keys, as far as the chain needs them."""

    @property
    def current(self) -> Key:
        """The one that makes."""
        ...

    def find(self, id: str) -> Key | None:
        """One that verifies."""
        ...


def digest(entry: Sequence[Any]) -> str:
    """The plain hash of a row, to be held by an entry of the chain, which vouches for it."""
    return plain_link(START, entry)


def plain_link(previous: str, entry: Sequence[Any]) -> str:
    """The hash of an entry of before there were keys, given the hash of the one before it."""
    return hashlib.sha256(previous.encode() + encode(entry)).hexdigest()


class Chain:
    """Makes and checks the keyed hashes of one ledger."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._id = keys.current.id
        self._derived: dict[str, bytes | None] = {self._id: keys.current.derive("chain")}

    def link(self, previous: str, entry: Sequence[Any]) -> str:
        """The hash of `entry`, given the hash of the one before it."""
        return self._keyed(self._id, previous, entry) or ""

    def holds(self, hash: str, previous: str, entry: Sequence[Any]) -> bool | None:
        """Whether `hash` is that of `entry`; None where its key isn't here, so that nobody can tell."""
        id, colon, _ = hash.partition(":")
        found = self._keyed(id, previous, entry) if colon else plain_link(previous, entry)
        return None if found is None else found == hash

    def _keyed(self, id: str, previous: str, entry: Sequence[Any]) -> str | None:
        if id not in self._derived:
            known = self._keys.find(id)
            self._derived[id] = known.derive("chain") if known else None
        key = self._derived[id]
        return None if key is None else f"{id}:{hmac.digest(key, previous.encode() + encode(entry), 'sha256').hex()}"


def is_keyed(hash: str) -> bool:
    """Whether a hash was made with a key."""
    return ":" in hash


def run_mark(chain: Chain, run: str, state: Sequence[Any]) -> str:
    """What vouches for all that changes of a run: its head, how many events it has, when it was closed, its result, and what was asked."""
    return chain.link(START, [run, *state])
