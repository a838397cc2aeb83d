"""Secret values: the type that can't be shown, and the list of what must never leave this process."""

from __future__ import annotations

import base64
import json
import re
import secrets
import urllib.parse

from opsctl.errors import Refused

HIDDEN = "[secret]"
SHORTEST = 6


NAMES = r"(?:token|secret|password|authorization|edge[_-]auth|pat)"
FOREIGN = re.compile(
    rf"""(?P<head>minted_token\s+\S+\s+"""
    rf"""|"[\w-]*{NAMES}\\?"\s*:\s*\\?"(?:(?:bearer|basic)\s+)?"""
    r"""|\bbearer\s+|\b(?:x-edge-auth|authorization):\s*(?:(?:bearer|basic)\s+)?)(?P<value>[^\s"\\]+)"""
    r"""|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*|gh[pousr]_\w{16,}|pat-[a-z]{2}\d-[\w-]{8,}|AKIA[A-Z0-9]{16}""",
    re.IGNORECASE,
)
"""What looks like a secret in text that others wrote: log lines above all."""

UNQUOTED = re.compile(
    rf"""(?P<head>{NAMES}'\s*:\s*'(?:(?:bearer|basic)\s+)?|{NAMES}=["']?(?:(?:bearer|basic)\s+)?)[^\s"'\\&]+"""
    r"""|(?<![\w.-])\d{9,20}-[\w-]{8,}""",
    re.IGNORECASE,
)
"""The same in a URL's query, in Python's quotes, and a pairing code wherever it stands: a contact's id, a hyphen, what is secret."""


def masked(text: str) -> str:
    """Hide what looks like a secret in a stranger's text; our own are found by value."""
    for pattern in (FOREIGN, UNQUOTED):
        text = pattern.sub(lambda match: f"{match['head'] or ''}{HIDDEN}", text)
    return text


class Vault:
    """Every secret value that this process has seen, with the forms in which it might leak."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._longest_first: list[str] = []

    def remember(self, value: bytes) -> None:
        """From now on hide `value` wherever text leaves; values under six characters can't be told from words."""
        text = value.decode(errors="replace")
        encoded = base64.b64encode(value).decode()
        forms = {text, encoded, value.hex(), urllib.parse.quote(text), json.dumps(text)[1:-1], repr(text)[1:-1]}
        self._forms |= {f for f in forms if len(f) >= SHORTEST}
        self._longest_first = sorted(self._forms, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """Return `text` with every remembered value replaced."""
        for form in self._longest_first:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text


vault = Vault()
"""One a process: what has been read can leak anywhere in it."""


class Secret:
    """A secret value. Only `reveal` gives it; every other way of showing it says `[secret]`."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else value
        vault.remember(self._value)

    @property
    def is_text(self) -> bool:
        """Whether it can be revealed."""
        try:
            self._value.decode()
        except UnicodeDecodeError:
            return False
        return True

    def reveal(self) -> str:
        """The value as text; raises Refused when it isn't text."""
        if not self.is_text:
            raise Refused("The secret is binary; it has no text.", "Use a text secret here.")
        return self._value.decode()

    def raw(self) -> bytes:
        """The value's bytes."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        raise TypeError("a secret is no key")

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


def sentence(said: object) -> str:
    """What another program said, as one line without any secret that this process knows, ended by a full stop."""
    return (vault.redact(" ".join(str(said).split())).rstrip(".") or "it gave no reason") + "."
