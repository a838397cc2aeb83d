"""The conditions of Insights' `filter`: comparisons, `like`, `in`, `ispresent`, with `and`, `or`, `not` and brackets."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Condition = Callable[[Row], bool]
_TOKEN = re.compile(
    r"""\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|/(?P<regex>(?:[^/\\]|\\.)+)/(?P<flags>i?)"""
    r"""|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])|(?P<sign>=~|!=|>=|<=|=|>|<|\(|\)|\[|\]|,)|`(?P<quoted>[^`]+)`"""
    r"""|(?P<word>[@\w][\w.@-]*))"""
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


class MalformedFilter(Exception):
    """Raised for a text that can't be read: what is wrong, and at which of its letters."""

    def __init__(self, what: str, at: int = 0) -> None:
        super().__init__(what)
        self.what = what
        self.at = at


def unexpected(symbol: object, at: int = 0) -> MalformedFilter:
    """CloudWatch's word on a symbol that doesn't belong there."""
    return MalformedFilter(f"unexpected symbol found {symbol}", at)


def number(value: Any) -> float | None:
    """A value as a number, if it is one."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def text_of(value: Any) -> str:
    """A value as Insights writes it."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)


def compile_filter(text: str) -> Condition:
    """What tells whether a row passes. Raises Malformed."""
    return _Reader(text).condition()


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, Any]] = []
        self._places: list[int] = []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                rest = text[position:].lstrip()
                raise unexpected(rest[0], len(text) - len(rest))
            try:
                self._tokens.append(_token(match))
            except re.error as error:
                raise unexpected(match[0].strip(), position) from error
            self._places.append(position + len(match[0]) - len(match[0].lstrip()))
            position = match.end()
        self._end = len(text.rstrip())
        self._at = 0

    def condition(self) -> Condition:
        whole = self._any_of()
        if self._at < len(self._tokens):
            raise unexpected(self._tokens[self._at][1], self._places[self._at])
        return whole

    def _next(self) -> tuple[str, Any]:
        if self._at >= len(self._tokens):
            raise unexpected("end of input", self._end)
        self._at += 1
        return self._tokens[self._at - 1]

    def _last(self) -> int:
        return self._places[self._at - 1]

    def _sees(self, kind: str, value: str) -> bool:
        seen = self._at < len(self._tokens) and self._tokens[self._at][0] == kind
        seen = seen and str(self._tokens[self._at][1]).lower() == value
        self._at += seen
        return seen

    def _any_of(self) -> Condition:
        parts = [self._all_of()]
        while self._sees("word", "or"):
            parts.append(self._all_of())
        return lambda row: any(part(row) for part in parts)

    def _all_of(self) -> Condition:
        parts = [self._one()]
        while self._sees("word", "and"):
            parts.append(self._one())
        return lambda row: all(part(row) for part in parts)

    def _one(self) -> Condition:
        if self._sees("word", "not"):
            denied = self._one()
            return lambda row: not denied(row)
        if self._sees("sign", "("):
            inner = self._any_of()
            self._expect(")")
            return inner
        kind, name = self._next()
        if kind not in ("word", "quoted"):
            raise unexpected(name, self._last())
        if str(name).lower() == "ispresent" and self._sees("sign", "("):
            field = self._next()[1]
            self._expect(")")
            return lambda row: row.get(field) is not None
        return self._comparison(str(name))

    def _comparison(self, name: str) -> Condition:
        negated = self._sees("word", "not")
        if self._sees("word", "like") or self._sees("sign", "=~"):
            found = self._like(name)
        elif self._sees("word", "in"):
            found = self._in(name)
        else:
            found = self._compare(name)
        return (lambda row: not found(row)) if negated else found

    def _like(self, name: str) -> Condition:
        kind, wanted = self._next()
        if kind == "regex":
            return lambda row: wanted.search(text_of(row.get(name, ""))) is not None
        if kind != "text":
            raise unexpected(wanted, self._last())
        return lambda row: wanted in text_of(row.get(name, ""))

    def _in(self, name: str) -> Condition:
        self._expect("[")
        wanted = []
        while not self._sees("sign", "]"):
            wanted.append(text_of(self._literal()))
            self._sees("sign", ",")
        return lambda row: row.get(name) is not None and text_of(row[name]) in wanted

    def _compare(self, name: str) -> Condition:
        kind, sign = self._next()
        if kind != "sign" or sign not in _COMPARE:
            raise unexpected(sign, self._last())
        wanted = self._literal()
        return lambda row: _compared(row.get(name), sign, wanted)

    def _literal(self) -> Any:
        kind, value = self._next()
        if kind not in ("text", "number", "word"):
            raise unexpected(value, self._last())
        if kind == "word" and value.lower() not in ("true", "false"):
            raise unexpected(value, self._last())
        return (value.lower() == "true") if kind == "word" else value

    def _expect(self, sign: str) -> None:
        kind, value = self._next()
        if (kind, value) != ("sign", sign):
            raise MalformedFilter(f"unexpected symbol found {value}, expecting {sign}", self._last())


def _token(match: re.Match[str]) -> tuple[str, Any]:
    if match["double"] is not None or match["single"] is not None:
        return "text", re.sub(r"\\(.)", r"\1", match["double"] or match["single"] or "")
    if match["regex"] is not None:
        return "regex", re.compile(match["regex"], re.IGNORECASE if match["flags"] else 0)
    kind = str(match.lastgroup)
    return kind, float(match[kind]) if kind == "number" else match[kind]


def _compared(value: Any, sign: str, wanted: Any) -> bool:
    if value is None:
        return sign == "!="
    left, right = number(value), number(wanted)
    if left is not None and right is not None:
        return _COMPARE[sign](left, right)
    return _COMPARE[sign](text_of(value), text_of(wanted))
