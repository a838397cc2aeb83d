"""CloudWatch Logs' filter patterns: terms, `?any -none "of a phrase"`, `%regular expressions%` and `{ $.json = conditions }`."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable
from typing import Any

from opsctl.sandbox.aws.wire import AwsError

Test = Callable[[str], bool]

_TERM = re.compile(r'([?-]?)(?:"((?:[^"\\]|\\.)*)"|%([^%]+)%|(\S+))')
_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>&&|\|\||\(|\)|!=|>=|<=|=|>|<)|(?P<path>\$(?:\.\w+|\[\d+\]|\["[^"]+"\])+)"""
    r"""|"(?P<text>[^"]*)"|%(?P<regex>[^%]+)%|(?P<word>[^\s()&|]+))"""
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
    ">=": lambda left, right: left >= right,
    "<=": lambda left, right: left <= right,
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
}


def compile_pattern(pattern: str) -> Test:
    """What tells whether a message matches. Raises AwsError (InvalidParameterException) for a pattern that isn't one."""
    text = pattern.strip()
    if not text:
        return lambda message: True
    if text.startswith("{"):
        if not text.endswith("}"):
            raise _invalid(pattern)
        return _JsonPattern(text[1:-1], pattern).test()
    return _terms(text)


def _invalid(pattern: str) -> AwsError:
    return AwsError("InvalidParameterException", f"Invalid filter pattern: {pattern}")


def _terms(text: str) -> Test:
    needed: list[Test] = []
    anyway: list[Test] = []
    for mark, phrase, regex, word in _TERM.findall(text):
        test = re.compile(regex).search if regex else _contains((phrase or word).replace('\\"', '"'))
        found = _as_test(test)
        if mark == "?":
            anyway.append(found)
        elif mark == "-":
            needed.append(_denied(found))
        else:
            needed.append(found)
    # As AWS: with plain terms beside them, the optional ones don't count.
    if needed:
        return lambda message: all(test(message) for test in needed)
    return lambda message: any(test(message) for test in anyway)


def _as_test(search: Callable[[str], object]) -> Test:
    return lambda message: bool(search(message))


def _denied(test: Test) -> Test:
    return lambda message: not test(message)


def _contains(term: str) -> Callable[[str], object]:
    return lambda message: term in message


class _JsonPattern:
    """Reads `condition (&& | ||) ...` with brackets; `&&` binds tighter."""

    def __init__(self, text: str, whole: str) -> None:
        self._whole = whole
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise _invalid(whole)
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self._at = 0

    def test(self) -> Test:
        condition = self._any_of()
        if self._at != len(self._tokens):
            raise _invalid(self._whole)

        def matches(message: str) -> bool:
            try:
                return condition(json.loads(message))
            except ValueError:
                return False

        return matches

    def _take(self, *kinds: str) -> tuple[str, str]:
        if self._at >= len(self._tokens) or self._tokens[self._at][0] not in kinds:
            raise _invalid(self._whole)
        self._at += 1
        return self._tokens[self._at - 1]

    def _sees(self, sign: str) -> bool:
        seen = self._at < len(self._tokens) and self._tokens[self._at] == ("sign", sign)
        self._at += seen
        return seen

    def _any_of(self) -> Callable[[Any], bool]:
        parts = [self._all_of()]
        while self._sees("||"):
            parts.append(self._all_of())
        return lambda record: any(part(record) for part in parts)

    def _all_of(self) -> Callable[[Any], bool]:
        parts = [self._one()]
        while self._sees("&&"):
            parts.append(self._one())
        return lambda record: all(part(record) for part in parts)

    def _one(self) -> Callable[[Any], bool]:
        if self._sees("("):
            inner = self._any_of()
            if not self._sees(")"):
                raise _invalid(self._whole)
            return inner
        path = _steps(self._take("path")[1])
        kind, sign = self._take("sign", "word")
        if kind == "word":
            return self._special(path, sign)
        if sign not in _COMPARE:
            raise _invalid(self._whole)
        return _comparison(path, sign, *self._take("text", "regex", "word"))

    def _special(self, path: list[str | int], word: str) -> Callable[[Any], bool]:
        if word.upper() == "EXISTS":
            return lambda record: _look(record, path)[0]
        if word.upper() == "NOT" and self._take("word")[1].upper() == "EXISTS":
            return lambda record: not _look(record, path)[0]
        if word.upper() == "IS":
            wanted = {"TRUE": True, "FALSE": False, "NULL": None}.get(self._take("word")[1].upper())
            return lambda record: _look(record, path) == (True, wanted)
        raise _invalid(self._whole)


def _steps(path: str) -> list[str | int]:
    found = re.findall(r'\.(\w+)|\[(\d+)\]|\["([^"]+)"\]', path)
    return [int(index) if index else name or quoted for name, index, quoted in found]


def _look(record: Any, path: list[str | int]) -> tuple[bool, Any]:
    for step in path:
        try:
            record = record[step]
        except (KeyError, IndexError, TypeError):
            return False, None
    return True, record


def _comparison(path: list[str | int], sign: str, kind: str, wanted: str) -> Callable[[Any], bool]:
    regex = re.compile(wanted if kind == "regex" else fnmatch.translate(wanted))
    number = _number(wanted) if kind == "word" else None

    def matches(record: Any) -> bool:
        exists, value = _look(record, path)
        if not exists:
            return False
        if number is not None and isinstance(value, (int, float)) and not isinstance(value, bool):
            return _COMPARE[sign](value, number)
        if sign not in ("=", "!="):
            return False
        text = value if isinstance(value, str) else json.dumps(value)
        return (regex.search(text) is not None) == (sign == "=")

    return matches


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
