"""The type of a secret, the known secrets of this process, and the cleaning of text that other programs wrote.

Foreign text is cleaned once, where it enters (`clean_text`, `clean_sentence`); every known secret in it is hidden, even one that is a
common word. Output is checked again (`Vault.redact`), but there a secret that could be a common word stays: opsctl's own text doesn't
depend on secrets, and hiding the word would reveal that it is one.
"""

from __future__ import annotations

import base64
import re
import secrets
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

from opsctl.errors import Refused
from opsctl.secret_patterns import HIDDEN as HIDDEN
from opsctl.secret_patterns import mask_secrets as mask_secrets

SHORTEST = 6
START = 6
"""Length of the prefix by which a form is looked up."""
PART = 12
"""Length of a secret's prefix that identifies a secret which another program has cut."""
DEEP = 2
"""How many layers of escapes are decoded: JSON in JSON, JSON in a URL."""
FEW = 64

LONGEST = 65_536
"""Maximum length of a foreign text."""
LINE = 2000
SENTENCE = 500
"""Maximum length of one line, and of a sentence in an error."""
READ = 4
"""How many times the maximum length is read. The last TAIL characters read are dropped, as a secret may be cut there."""
TAIL = 8192


# C0, DEL and C1; surrogates; characters that break lines, join, are invisible, or change the direction of writing.
_ODD = (
    "\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
CONTROL = re.compile(f"[\x00-\x1f{_ODD}]")
IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_ODD}]")
"""CONTROL without line ends and tabs."""


def visible(text: str, which: re.Pattern[str] = CONTROL) -> str:
    """`text` with its control characters escaped, such as `\\x1b`; by default on one line."""
    return which.sub(lambda found: ascii(found[0])[1:-1], text)


def clean_text(text: str, most: int = LONGEST) -> str:
    """Foreign text, safe to store and show: known secrets, text that looks like a secret and control characters are replaced; bounded."""
    read = READ * max(most, TAIL)
    clean = visible(mask_secrets(vault.hide(text if len(text) <= read else text[: read - TAIL])), IN_LINES)
    return clean if len(clean) <= most and len(text) <= read else _cut(clean, most, len(text))


def clean_sentence(message: object, most: int = SENTENCE) -> str:
    """The message of another program, cleaned, on one line that ends with a full stop."""
    line = " ".join(clean_text(str(message), READ * most).split()).rstrip(".") or "it gave no reason"
    return (line if len(line) <= most else _cut(line, most, len(line))) + "."


def escape_surrogates(value: Any) -> Any:
    """`value` (lists, dicts and texts) with lone surrogates escaped, so that it can be encoded as UTF-8."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {escape_surrogates(name): escape_surrogates(member) for name, member in value.items()}
    return [escape_surrogates(each) for each in value] if isinstance(value, list | tuple) else value


def redact_output(text: str) -> str:
    """opsctl's own text for output: known secrets replaced, and control characters escaped, except line ends and tabs."""
    return visible(vault.redact(text), IN_LINES)


def redact_record(text: str, most: int = LINE) -> str:
    """opsctl's own text for the ledger: as for output, and bounded."""
    clean = redact_output(text)
    return clean if len(clean) <= most else _cut(clean, most, len(clean))


def _cut(text: str, most: int, total: int) -> str:
    return f"{text[:most]} ... (cut, of {total:,} characters)"


BLANK = re.compile(r"\s+")
ESCAPES = {
    "\\": re.compile(r"\s+|(?:\\u[0-9a-fA-F]{4})+|(?:\\U000[0-9a-fA-F]{5})+|(?:\\x[0-9a-fA-F]{2})+|'\\''|\\[\s\S]"),
    "%": re.compile(r"\s+|(?:%[0-9a-fA-F]{2})+"),
    "&": re.compile(r"\s+|&(?:\#[xX][0-9a-fA-F]{1,6}|\#[0-9]{1,7}|[a-zA-Z]{2,8});"),
    "''": re.compile(r"\s+|''"),
    '""': re.compile(r'\s+|""'),
}
"""Escapes by a mark that the text contains: of JSON and Python, URLs, HTML, SQL, CSV."""


class _Piece(NamedTuple):
    """The position in the source of a piece of the decoded text; an `escaped` piece is indivisible."""

    start: int
    end: int
    escaped: bool


class _Reading:
    """A text without blanks and with one kind of escapes decoded; it maps each character to its position in the source."""

    def __init__(self, source: str, pattern: re.Pattern[str]) -> None:
        self._at: list[int] = []
        self._pieces: list[_Piece] = []
        self._length = 0
        parts: list[str] = []
        last = 0
        for found in pattern.finditer(source):
            self._add(parts, source[last : found.start()], _Piece(last, found.start(), False))
            self._add(parts, _unescape(found[0]), _Piece(found.start(), found.end(), True))
            last = found.end()
        self._add(parts, source[last:], _Piece(last, len(source), False))
        self.text = "".join(parts)

    def _add(self, parts: list[str], text: str, piece: _Piece) -> None:
        if text:
            parts.append(text)
            self._at.append(self._length)
            self._pieces.append(piece)
            self._length += len(text)

    def source(self, start: int, end: int) -> tuple[int, int]:
        """The range in the source of the decoded characters `start` to `end`."""
        first, last = (bisect_right(self._at, place) - 1 for place in (start, end - 1))
        a, z = self._pieces[first], self._pieces[last]
        begin = a.start if a.escaped else a.start + start - self._at[first]
        return begin, z.end if z.escaped else z.start + end - self._at[last]


_SHORT = {"n": "", "r": "", "t": "", "b": "\b", "f": "", "v": "", "0": "\0"}


def _unescape(escaped: str) -> str:
    """The text of an escape, without blanks."""
    if escaped.isspace():
        return ""
    head = escaped[:2]
    if len(escaped) == 2 and head[0] == "\\":
        found = _SHORT.get(head[1], head[1])
    elif head == "\\u":
        units = b"".join(int(unit, 16).to_bytes(2, "big") for unit in escaped.split("\\u")[1:])
        found = units.decode("utf-16-be", "replace")
    elif head == "\\U":
        found = "".join(chr(min(int(code, 16), 0x10FFFF)) for code in escaped.split("\\U")[1:])
    elif head == "\\x" or head[0] == "%":
        raw = bytes.fromhex(escaped.replace("\\x", "").replace("%", ""))
        try:
            found = raw.decode()
        except UnicodeDecodeError:
            found = raw.decode("latin-1")
    elif head[0] == "&":
        import html

        found = html.unescape(escaped)
    else:
        # A doubled quote, or a quote outside of a shell's quotes.
        found = escaped[0]
    return "".join(found.split())


BASE64 = re.compile(r"[\w+/=-]*+")
TOKEN = re.compile(r"""[^\s"'<>,;]*+""")


class _Forms:
    """A set of texts, searched by prefix in time linear in the searched text."""

    def __init__(self) -> None:
        self._starts: dict[str, dict[int, dict[str, re.Pattern[str] | None]]] = {}
        self._few: tuple[str, ...] | None = ()

    def add(self, form: str, more: re.Pattern[str] | None = None) -> None:
        """Add `form`; a match is extended by what `more` matches around it."""
        if len(form) < START:
            return
        self._starts.setdefault(form[:START], {}).setdefault(len(form), {}).setdefault(form, more)
        self._few = tuple(self._starts) if len(self._starts) <= FEW else None

    def __bool__(self) -> bool:
        return bool(self._starts)

    def find(self, text: str) -> Iterator[tuple[int, int, re.Pattern[str] | None]]:
        """Each match: start, end, and the pattern by which to extend it."""
        if self._few is not None and not any(start in text for start in self._few):
            return
        starts, at, end = self._starts.get, 0, len(text) - START
        while at <= end:
            lengths = starts(text[at : at + START])
            found = next((n for n in sorted(lengths, reverse=True) if text[at : at + n] in lengths[n]), 0) if lengths else 0
            if lengths and found:
                yield at, at + found, lengths[found][text[at : at + found]]
            at += found or 1


class Vault:
    """The secrets that this process has read, in every encoding in which they might leak."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._all = _Forms()
        self._telling = _Forms()

    def remember(self, value: bytes) -> None:
        """Hide `value` from now on, unless it has fewer than six characters."""
        if value in self._known or len(value) < SHORTEST:
            return
        self._known.add(value)
        sure = not is_wordlike(value.decode(errors="replace"))
        for form, more in _forms(value):
            self._all.add(form, more)
            if sure:
                self._telling.add(form, more)

    def hide(self, text: str) -> str:
        """Foreign `text` with every known secret replaced."""
        return _replaced(text, self._all)

    def redact(self, text: str) -> str:
        """opsctl's own `text` with every known secret replaced that can't be a common word."""
        return _replaced(text, self._telling)


def is_wordlike(value: str) -> bool:
    """Whether a secret could also be a common word, a name or a number."""
    pieces = re.split(r"[^A-Za-z0-9]", value)
    return len(value) <= 24 and all(len(piece) <= PART and (piece.isalpha() or piece.isdigit() or not piece) for piece in pieces)


def _forms(value: bytes) -> Iterator[tuple[str, re.Pattern[str] | None]]:
    """The encodings of a secret, without blanks and escapes, each with the pattern that extends a match."""
    text = value.decode(errors="replace")
    plain = {text, text.replace(" ", "+"), value.decode("latin-1")}
    for each in ("".join(form.split()) for form in plain):
        yield each, None
        if len(each) > PART and not is_wordlike(each[:PART]):
            yield each[:PART], TOKEN
    yield value.hex(), None
    yield value.hex().upper(), None
    for shift in range(3):
        # Only the characters that don't depend on the bytes before and after the secret.
        coded = base64.b64encode(bytes(shift) + value).decode()[(8 * shift + 5) // 6 : (8 * (shift + len(value))) // 6]
        for form in {coded, coded.replace("+", "-").replace("/", "_")}:
            yield form, BASE64
            if len(form) > PART and not is_wordlike(text[:PART]):
                yield form[:PART], BASE64


def _replaced(text: str, forms: _Forms) -> str:
    if not forms:
        return text
    found = sorted(_matches(text, forms))
    parts, last = [], 0
    for start, end in found:
        if start >= last:
            parts += [text[last:start], HIDDEN]
        last = max(last, end)
    return "".join([*parts, text[last:]]) if found else text


def _matches(text: str, forms: _Forms) -> Iterator[tuple[int, int]]:
    """The ranges of `text` that contain a form, plain or under layers of escapes."""
    layers: list[list[_Reading]] = [[_Reading(text, BLANK)], *([_Reading(text, e)] for mark, e in ESCAPES.items() if mark in text)]
    for deeper in range(DEEP):
        for readings in layers:
            for start, end, more in forms.find(readings[-1].text):
                for reading in reversed(readings):
                    start, end = reading.source(start, end)
                yield _grown(text, start, end, more)
        if deeper < DEEP - 1:
            inner = ((readings, readings[-1].text) for readings in layers[1:])
            layers = [[*readings, _Reading(now, e)] for readings, now in inner for mark, e in ESCAPES.items() if mark in now]


def _grown(text: str, start: int, end: int, more: re.Pattern[str] | None) -> tuple[int, int]:
    """The match extended to the rest of a cut secret, or to the whole encoded text."""
    if more is None:
        return start, end
    if more is BASE64:
        start -= len(BASE64.match(text[max(0, start - TAIL) : start][::-1])[0])  # type: ignore[index]
    found = more.match(text, end)
    return start, found.end() if found else end


vault = Vault()
"""The known secrets of this process."""


class Secret:
    """A secret value. Only `reveal` and `raw` return it; it prints as `[secret]`."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else value
        vault.remember(self._value)

    @property
    def is_text(self) -> bool:
        """Whether it is UTF-8 text, so that `reveal` works."""
        try:
            self._value.decode()
        except UnicodeDecodeError:
            return False
        return True

    def reveal(self) -> str:
        """The value as text; raises Refused when it isn't text."""
        if not self.is_text:
            raise Refused("The secret is binary, not text.", "Use a text secret here.")
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
        raise TypeError("a Secret can't be a dictionary key")

    def __reduce__(self) -> str:
        raise TypeError("a Secret can't be pickled")
