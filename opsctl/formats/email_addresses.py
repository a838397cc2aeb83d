"""Parsing and normalization of e-mail addresses.

Two addresses are the same when they differ only in case, in Unicode's composition (é in one character or two), or in how the domain is
spelled (`müller.example` or `xn--mller-kva.example`). By the standard the part before the @ may be case-sensitive; no provider does that.
A database in the C locale lowercases only ASCII: there an address matches if its other letters are all lowercase, all uppercase, or as
given.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

LONGEST = 320
"""Characters: 64, an @, and 255 (RFC 5321, 4.5.3.1)."""
PLAIN = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
NEVER = re.compile(r"[\s<>,;:()\[\]\\@\x00-\x1f\x7f]")
ASCII_UPPER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class Address(NamedTuple):
    """An address: normalized, its domain, and other spellings that the application may store."""

    recipient: str
    domain: str
    others: tuple[str, ...] = ()


def parse(text: str) -> Address:
    """Read `a@b`, `<a@b>` or `Name <a@b>`; raises ValueError for what is no address."""
    bare = text.strip()
    if bare.endswith(">"):
        bare = bare[bare.rfind("<") + 1 : -1].strip()
    lower = bare.lower()
    if len(lower) <= LONGEST and lower.isascii() and "xn--" not in lower and PLAIN.fullmatch(lower):
        return Address(lower, lower.rpartition("@")[2])
    return _unusual(bare)


def _unusual(bare: str) -> Address:
    """A quoted local part, or one with letters beyond ASCII."""
    local, _, domain = bare.rpartition("@")
    quoted = re.fullmatch(r'"[^"\\\x00-\x1f\x7f]+"', local)
    if not domain or not (quoted or (local and not NEVER.search(local))) or NEVER.search(domain) or len(bare) > LONGEST:
        raise ValueError("not an e-mail address")
    composed = unicodedata.normalize("NFC", local)
    wire, shown = _domain(domain, encode=True), _domain(domain, encode=False)
    if not all(wire.split(".")):
        raise ValueError("not an e-mail address")
    recipient = f"{composed.lower()}@{wire}"
    # A database in the C locale lowercases only ASCII: lowercase, as given, or uppercase.
    names = {wire, shown, unicodedata.normalize("NFC", domain).translate(ASCII_UPPER), _capitals(shown)}
    boxes = {composed.lower(), composed.translate(ASCII_UPPER), _capitals(composed.lower())}
    others = {f"{each}@{name}" for each in boxes for name in names}
    others |= {unicodedata.normalize("NFD", each) for each in others}
    return Address(recipient, wire, tuple(sorted(others - {recipient})))


def _capitals(small: str) -> str:
    """Non-ASCII letters in uppercase, except those that don't round-trip (ß, ı)."""
    return "".join(each if each.isascii() or each.upper().lower() != each else each.upper() for each in small)


def _domain(domain: str, *, encode: bool) -> str:
    return ".".join(_wire(label) if encode else _readable_label(label) for label in domain.split("."))


def _wire(label: str) -> str:
    """A label in Punycode (RFC 3492)."""
    plain = _readable_label(label)
    return plain if plain.isascii() else f"xn--{plain.encode('punycode').decode()}"


def _readable_label(label: str) -> str:
    """A label in Unicode; an invalid encoding stays as it is."""
    label = unicodedata.normalize("NFKC", label).lower()
    if not label.startswith("xn--"):
        return label
    try:
        plain = unicodedata.normalize("NFKC", label[4:].encode("ascii").decode("punycode")).lower()
    except UnicodeError:
        return label
    return label if plain.isascii() or NEVER.search(plain) else plain
