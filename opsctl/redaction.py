"""Secret values: the type that can't be shown, the list of what must never leave, and the cleaning of what others wrote.

Foreign text is cleaned once, where it comes in (`foreign`, `sentence`): there any known value is hidden, a weak one too. What leaves
passes one more wall (`Vault.redact`), which hides only values that can't be words of ours: the text that opsctl itself composes doesn't
depend on a secret, so that hiding a word in it would hide nothing, and tell that the word is one.
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
from opsctl.secret_patterns import masked as masked

SHORTEST = 6
START = 6
"""Characters by which a form is looked up."""
PART = 12
"""So much of a value's beginning is enough to know it where somebody else has cut it."""
DEEP = 2
"""How often text may be wrapped in escapes: JSON in JSON, JSON in a URL."""
FEW = 64

LONGEST = 65_536
"""Characters of a foreign text that are kept."""
LINE = 2000
SENTENCE = 500
"""The same of one line, and of a sentence in an error."""
READ = 4
"""How many times what is kept is looked at; the last TAIL characters are let go, since what they begin may be a secret."""
TAIL = 8192


# C0, DEL and C1; half characters; what breaks lines, joins, hides, or turns the direction of writing round.
_ODD = (
    "\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
CONTROL = re.compile(f"[\x00-\x1f{_ODD}]")
IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_ODD}]")
"""The same where lines and tabs are kept."""


def visible(text: str, which: re.Pattern[str] = CONTROL) -> str:
    """`text` on one line, its control characters written out: `\\x1b`, `\\n`."""
    return which.sub(lambda found: ascii(found[0])[1:-1], text)


def foreign(text: str, most: int = LONGEST) -> str:
    """What others wrote, safe to store and to show: without known secrets, what looks like one, and control characters; bounded."""
    read = READ * max(most, TAIL)
    kept = visible(masked(vault.hide(text if len(text) <= read else text[: read - TAIL])), IN_LINES)
    return kept if len(kept) <= most and len(text) <= read else _cut(kept, most, len(text))


def sentence(said: object, most: int = SENTENCE) -> str:
    """What another program said, cleaned, as one line that ends in a full stop."""
    line = " ".join(foreign(str(said), READ * most).split()).rstrip(".") or "it gave no reason"
    return (line if len(line) <= most else _cut(line, most, len(line))) + "."


def whole(value: Any) -> Any:
    """`value`, of lists, dicts and texts, with every half of a character written out, so that UTF-8 can hold it."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {whole(name): whole(member) for name, member in value.items()}
    return [whole(each) for each in value] if isinstance(value, list | tuple) else value


def leaving(text: str) -> str:
    """What opsctl prints, as it leaves: no value that it knows for secret, and no control character but line ends and tabs."""
    return visible(vault.redact(text), IN_LINES)


def kept(text: str, most: int = LINE) -> str:
    """What opsctl says about the world, as it is recorded: its own words, and what it quotes, without known secrets and bounded."""
    clean = leaving(text)
    return clean if len(clean) <= most else _cut(clean, most, len(clean))


def _cut(text: str, most: int, whole: int) -> str:
    return f"{text[:most]} ... (cut, of {whole:,} characters)"


BLANK = re.compile(r"\s+")
ESCAPES = {
    "\\": re.compile(r"\s+|(?:\\u[0-9a-fA-F]{4})+|(?:\\U000[0-9a-fA-F]{5})+|(?:\\x[0-9a-fA-F]{2})+|'\\''|\\[\s\S]"),
    "%": re.compile(r"\s+|(?:%[0-9a-fA-F]{2})+"),
    "&": re.compile(r"\s+|&(?:\#[xX][0-9a-fA-F]{1,6}|\#[0-9]{1,7}|[a-zA-Z]{2,8});"),
    "''": re.compile(r"\s+|''"),
    '""': re.compile(r'\s+|""'),
}
"""The families of escapes, each by what its text holds: JSON's and Python's, a URL's, HTML's, SQL's, CSV's."""


class _Piece(NamedTuple):
    """Where a stretch of a read text came from; one that was `escaped` is taken whole."""

    start: int
    end: int
    escaped: bool


class _Reading:
    """A text without its blanks and without one family of escapes; it knows where each of its characters came from."""

    def __init__(self, source: str, pattern: re.Pattern[str]) -> None:
        self._at: list[int] = []
        self._pieces: list[_Piece] = []
        self._length = 0
        parts: list[str] = []
        last = 0
        for found in pattern.finditer(source):
            self._add(parts, source[last : found.start()], _Piece(last, found.start(), False))
            self._add(parts, _plain(found[0]), _Piece(found.start(), found.end(), True))
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
        """The stretch that `start` to `end` came from."""
        first, last = (bisect_right(self._at, place) - 1 for place in (start, end - 1))
        a, z = self._pieces[first], self._pieces[last]
        begin = a.start if a.escaped else a.start + start - self._at[first]
        return begin, z.end if z.escaped else z.start + end - self._at[last]


_SHORT = {"n": "", "r": "", "t": "", "b": "\b", "f": "", "v": "", "0": "\0"}


def _plain(escaped: str) -> str:
    """What an escape stands for, without blanks."""
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
        # A quote that is doubled, or taken out of a shell's quotes.
        found = escaped[0]
    return "".join(found.split())


BASE64 = re.compile(r"[\w+/=-]*+")
TOKEN = re.compile(r"""[^\s"'<>,;]*+""")


class _Forms:
    """Texts to be found, each by its beginning, in time linear in the text."""

    def __init__(self) -> None:
        self._starts: dict[str, dict[int, dict[str, re.Pattern[str] | None]]] = {}
        self._few: tuple[str, ...] | None = ()

    def add(self, form: str, more: re.Pattern[str] | None = None) -> None:
        """Find `form` from now on, and with it what around it `more` matches."""
        if len(form) < START:
            return
        self._starts.setdefault(form[:START], {}).setdefault(len(form), {}).setdefault(form, more)
        self._few = tuple(self._starts) if len(self._starts) <= FEW else None

    def __bool__(self) -> bool:
        return bool(self._starts)

    def find(self, text: str) -> Iterator[tuple[int, int, re.Pattern[str] | None]]:
        """Where they are: start, end, and what belongs to it."""
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
    """Every secret value that this process has seen, in the forms in which it might leak."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._all = _Forms()
        self._telling = _Forms()

    def remember(self, value: bytes) -> None:
        """From now on hide `value`; values under six characters can't be told from words."""
        if value in self._known or len(value) < SHORTEST:
            return
        self._known.add(value)
        sure = not is_wordlike(value.decode(errors="replace"))
        for form, more in _forms(value):
            self._all.add(form, more)
            if sure:
                self._telling.add(form, more)

    def hide(self, text: str) -> str:
        """`text`, which others wrote, with every remembered value replaced."""
        return _replaced(text, self._all)

    def redact(self, text: str) -> str:
        """`text`, which leaves, with every remembered value replaced that can't be a word of ours."""
        return _replaced(text, self._telling)


def is_wordlike(value: str) -> bool:
    """Whether a value could be a word, a name or a number that opsctl writes for other reasons."""
    pieces = re.split(r"[^A-Za-z0-9]", value)
    return len(value) <= 24 and all(len(piece) <= PART and (piece.isalpha() or piece.isdigit() or not piece) for piece in pieces)


def _forms(value: bytes) -> Iterator[tuple[str, re.Pattern[str] | None]]:
    """How a value may be written, beside its escapes; blanks are left out."""
    text = value.decode(errors="replace")
    plain = {text, text.replace(" ", "+"), value.decode("latin-1")}
    for each in ("".join(form.split()) for form in plain):
        yield each, None
        if len(each) > PART and not is_wordlike(each[:PART]):
            yield each[:PART], TOKEN
    yield value.hex(), None
    yield value.hex().upper(), None
    for shift in range(3):
        # What the bytes before and after it have no part in.
        coded = base64.b64encode(bytes(shift) + value).decode()[(8 * shift + 5) // 6 : (8 * (shift + len(value))) // 6]
        for form in {coded, coded.replace("+", "-").replace("/", "_")}:
            yield form, BASE64
            if len(form) > PART and not is_wordlike(text[:PART]):
                yield form[:PART], BASE64


def _replaced(text: str, forms: _Forms) -> str:
    if not forms:
        return text
    found = sorted(_found(text, forms))
    parts, last = [], 0
    for start, end in found:
        if start >= last:
            parts += [text[last:start], HIDDEN]
        last = max(last, end)
    return "".join([*parts, text[last:]]) if found else text


def _found(text: str, forms: _Forms) -> Iterator[tuple[int, int]]:
    """Where in `text` a form is, as it stands and under each layer of escapes."""
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
    """The stretch with what belongs to it: the rest of a value that was cut, or all of an encoded one."""
    if more is None:
        return start, end
    if more is BASE64:
        start -= len(BASE64.match(text[max(0, start - TAIL) : start][::-1])[0])  # type: ignore[index]
    found = more.match(text, end)
    return start, found.end() if found else end


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
        raise TypeError("a secret is no key")

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")
