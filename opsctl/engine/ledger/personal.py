"""Personal data beside the chain: an e-mail stands in it as a keyed digest, so that the text can be purged and the chain holds."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from opsctl.engine.ledger.rows import encode
from opsctl.engine.ledger.store import PersonalStore

# Linear: a part starts only where none goes on, and nothing is given back.
EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]++(?:'[\w.+%-]++){0,8}+@[\w-]++(?:\.[\w-]++)++")
DIGEST = re.compile(r"personal:[0-9a-f]{24}")


def pseudonym(text: str, key: bytes) -> str:
    """The keyed digest that stands for a text."""
    return "personal:" + hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:24]


def hide(text: str, key: bytes) -> tuple[str, dict[str, str]]:
    """Replace every e-mail in `text`; return the new text and what each digest stood for."""
    if "@" not in text:
        return text, {}
    found: dict[str, str] = {}

    def swap(match: re.Match[str]) -> str:
        digest = pseudonym(match[0], key)
        found[digest] = match[0]
        return digest

    return EMAIL.sub(swap, text), found


def show(text: str, known: dict[str, str]) -> str:
    """Put back what is still known; a purged one stays a digest."""
    return DIGEST.sub(lambda match: known.get(match[0], match[0]), text)


class Pseudonyms:
    """Keeps the e-mails of texts aside in a store, and puts them back."""

    def __init__(self, store: PersonalStore, key: bytes, stamp: Callable[[], str]) -> None:
        self._store, self._key, self._stamp = store, key, stamp

    def pseudonymize(self, text: str) -> str:
        """`text` with its e-mails kept aside; inside a transaction."""
        text, found = hide(text, self._key)
        if found:
            self._store.remember(found, self._stamp())
        return text

    def serialize(self, value: Any) -> str:
        """`value` as JSON, its e-mails kept aside; inside a transaction."""
        return self.pseudonymize(encode(value).decode())

    def lookup_key(self, text: str) -> str:
        """`text` as the columns hold it, each e-mail a digest: what to compare them with."""
        if "@" not in text:
            return text
        found: str = msgspec.json.decode(hide(encode(text).decode(), self._key)[0])
        return found

    def reveal(self, text: str) -> str:
        """Put e-mails back that haven't been purged."""
        return self.reveal_all([text])[0]

    def reveal_all(self, texts: Iterable[str]) -> list[str]:
        """The same of many texts, by one look at the store."""
        texts = list(texts)
        digests = {digest for text in texts if "personal:" in text for digest in DIGEST.findall(text)}
        if not digests:
            return texts
        known = self._store.texts(digests)
        return [show(text, known) for text in texts]
