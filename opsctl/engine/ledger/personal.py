"""Personal data outside the chain: the chain contains a keyed digest of each e-mail address, so the text can be purged."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from opsctl.engine.ledger.rows import encode
from opsctl.engine.ledger.store import PersonalStore

# Runs in linear time: possessive quantifiers, no backtracking.
EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]++(?:'[\w.+%-]++){0,8}+@[\w-]++(?:\.[\w-]++)++")
DIGEST = re.compile(r"personal:[0-9a-f]{24}")


def pseudonym(text: str, key: bytes) -> str:
    """The keyed digest that stands for a text."""
    return "personal:" + hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:24]


def hide(text: str, key: bytes) -> tuple[str, dict[str, str]]:
    """Replace every e-mail address in `text`. Returns the new text, and the address of each digest."""
    if "@" not in text:
        return text, {}
    found: dict[str, str] = {}

    def swap(match: re.Match[str]) -> str:
        digest = pseudonym(match[0], key)
        found[digest] = match[0]
        return digest

    return EMAIL.sub(swap, text), found


def show(text: str, known: dict[str, str]) -> str:
    """Replace digests by the known addresses; a purged one stays a digest."""
    return DIGEST.sub(lambda match: known.get(match[0], match[0]), text)


class Pseudonyms:
    """Replaces e-mail addresses by digests, keeps them in a store, and restores them."""

    def __init__(self, store: PersonalStore, key: bytes, stamp: Callable[[], str]) -> None:
        self._store, self._key, self._stamp = store, key, stamp

    def pseudonymize(self, text: str) -> str:
        """`text` with its e-mail addresses replaced and stored. Call it inside a transaction."""
        text, found = hide(text, self._key)
        if found:
            self._store.remember(found, self._stamp())
        return text

    def serialize(self, value: Any) -> str:
        """`value` as JSON with its e-mail addresses replaced and stored. Call it inside a transaction."""
        return self.pseudonymize(encode(value).decode())

    def lookup_key(self, text: str) -> str:
        """`text` as the columns contain it, with e-mail addresses replaced: for lookups."""
        if "@" not in text:
            return text
        found: str = msgspec.json.decode(hide(encode(text).decode(), self._key)[0])
        return found

    def reveal(self, text: str) -> str:
        """Restore the e-mail addresses that haven't been purged."""
        return self.reveal_all([text])[0]

    def reveal_all(self, texts: Iterable[str]) -> list[str]:
        """Restore the addresses in many texts with one query."""
        texts = list(texts)
        digests = {digest for text in texts if "personal:" in text for digest in DIGEST.findall(text)}
        if not digests:
            return texts
        known = self._store.texts(digests)
        return [show(text, known) for text in texts]
