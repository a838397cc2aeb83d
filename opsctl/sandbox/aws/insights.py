"""CloudWatch Logs Insights, for plain queries: `fields`, `display`, `filter`, `stats ... by`, `sort`, `limit`, `dedup`.

Anything else is refused as malformed, never passed over.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import statistics
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from opsctl.sandbox.aws.insights_filter import MalformedFilter, compile_filter, number, text_of, unexpected
from opsctl.sandbox.aws.wire import AwsError

Row = dict[str, Any]
Step = Callable[[list[Row]], list[Row]]
Read = TypeVar("Read")
DEFAULT_LIMIT = 10_000
_AGGREGATE = re.compile(r"(\w+)\s*\(\s*([^()]*?)\s*\)(?:\s+as\s+([\w@]+))?$", re.IGNORECASE)
_BIN = re.compile(r"bin\(\s*(\d+)\s*(s|m|h|d)\w*\s*\)$", re.IGNORECASE)
_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NAME = re.compile(r"[@\w.\-`]+$")


def row_of(message: str, timestamp: int, stream: str, group: str) -> Row:
    """A log event as Insights sees it: its own fields and those of its JSON, nested ones by dotted names."""
    moment = datetime.fromtimestamp(timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    row: Row = {"@timestamp": moment, "@message": message, "@logStream": stream, "@log": group, "@epoch": timestamp}
    row["@ptr"] = base64.b64encode(hashlib.sha256(f"{group} {stream} {timestamp} {message}".encode()).digest()).decode()
    try:
        content = json.loads(message)
    except ValueError:
        return row
    return row | dict(_flat(content, "")) if isinstance(content, dict) else row


def _flat(value: Any, name: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


class Query:
    """A query read from its text. Raises AwsError (MalformedQueryException) where it can't be."""

    def __init__(self, text: str) -> None:
        self._shown = ["@timestamp", "@message"]
        self._limit = DEFAULT_LIMIT
        # A comment gives way to spaces, so that places in the text stay the same.
        code = re.sub(r"(?m)^[ \t]*#.*$", lambda comment: " " * len(comment[0]), text)
        try:
            self._steps = list(self._read(code))
        except MalformedFilter as error:
            raise _refusal(code, error) from error

    def run(self, rows: list[Row]) -> list[list[dict[str, str]]]:
        """The results, newest first unless sorted, each a list of field and value; absent values are left out."""
        for step in self._steps:
            rows = step(rows)
        # AWS adds a pointer to the event, which a group has none of.
        shown = [*self._shown, "@ptr"]
        return [
            [{"field": name, "value": text_of(row[name])} for name in shown if row.get(name) is not None] for row in rows[: self._limit]
        ]

    def _read(self, code: str) -> Iterable[Step]:
        begin = 0
        for piece in _split(code, "|"):
            line = piece.strip()
            try:
                yield self._step(line)
            except MalformedFilter as error:
                raise MalformedFilter(error.what, begin + piece.find(line) + error.at) from error
            begin += len(piece) + 1

    def _step(self, line: str) -> Step:
        word, rest = [*line.split(None, 1), "", ""][:2]
        steps: dict[str, Callable[[str], Step]] = {
            "fields": self._fields,
            "display": self._fields,
            "filter": _filter,
            "stats": self._stats,
            "sort": _sort,
            "limit": self._take,
            "head": self._take,
            "dedup": _dedup,
        }
        if word.lower() not in steps:
            raise unexpected(word or "end of input")
        if not rest:
            raise unexpected("end of input", len(line))
        try:
            return steps[word.lower()](rest)
        except MalformedFilter as error:
            raise MalformedFilter(error.what, len(line) - len(rest) + error.at) from error

    def _fields(self, rest: str) -> Step:
        names = [name.strip() for name in rest.split(",")]
        for name in names:
            if not _NAME.match(name):
                raise unexpected(name or ",", rest.find(name))
        self._shown = [name.strip("`") for name in names]
        return lambda rows: rows

    def _take(self, rest: str) -> Step:
        if not rest.isdigit() or not 1 <= int(rest) <= DEFAULT_LIMIT:
            raise unexpected(rest)
        self._limit = int(rest)
        return lambda rows: rows[: int(rest)]

    def _stats(self, rest: str) -> Step:
        told, by = [*re.split(r"\s+by\s+", rest, maxsplit=1, flags=re.IGNORECASE), ""][:2]
        aggregates = [_placed(_aggregate, piece, rest) for piece in _split(told, ",")]
        groups = [_placed(_group, piece, rest) for piece in _split(by, ",") if piece.strip()]
        self._shown = [name for name, _ in groups] + [name for name, _ in aggregates]

        def run(rows: list[Row]) -> list[Row]:
            buckets: dict[tuple[Any, ...], list[Row]] = {}
            for row in rows:
                buckets.setdefault(tuple(value(row) for _, value in groups), []).append(row)
            return [
                dict(zip([name for name, _ in groups], key, strict=True)) | {name: count(bucket) for name, count in aggregates}
                for key, bucket in buckets.items()
            ]

        return run


def _refusal(text: str, error: MalformedFilter) -> AwsError:
    line = text.count("\n", 0, error.at) + 1
    position = error.at - (text.rfind("\n", 0, error.at) + 1) + 1
    message = f"{error.what} at line {line} and position {position}"
    where = {"startCharOffset": error.at, "endCharOffset": min(error.at + 1, len(text))}
    return AwsError("MalformedQueryException", message, queryCompileError={"location": where, "message": message})


def _placed(read: Callable[[str], Read], piece: str, rest: str) -> Read:
    try:
        return read(piece.strip())
    except MalformedFilter as error:
        raise MalformedFilter(error.what, rest.find(piece.strip()) + error.at) from error


def _filter(rest: str) -> Step:
    test = compile_filter(rest)
    return lambda rows: [row for row in rows if test(row)]


def _dedup(rest: str) -> Step:
    names = [name.strip() for name in rest.split(",")]
    return lambda rows: list({tuple(row.get(name) for name in names): row for row in reversed(rows)}.values())[::-1]


def _sort(rest: str) -> Step:
    keys = []
    for piece in _split(rest, ","):
        name, _, order = piece.strip().partition(" ")
        if (not _NAME.match(name) and "(" not in name) or order.lower() not in ("", "asc", "desc"):
            raise unexpected(piece.strip(), rest.find(piece.strip()))
        keys.append((name.strip("`"), order.lower() == "desc"))

    def run(rows: list[Row]) -> list[Row]:
        for name, downwards in reversed(keys):
            rows = sorted(rows, key=lambda row: _order(row.get(name)), reverse=downwards)
        return rows

    return run


def _order(value: Any) -> tuple[int, float, str]:
    amount = number(value)
    return (1, amount, "") if amount is not None else (0 if value is None else 2, 0.0, text_of(value))


def _group(piece: str) -> tuple[str, Callable[[Row], Any]]:
    if match := _BIN.match(piece):
        width = int(match[1]) * _UNIT[match[2].lower()]

        def start(row: Row) -> str:
            moment = datetime.fromtimestamp(row["@epoch"] / 1000 // width * width, UTC)
            return moment.strftime("%Y-%m-%d %H:%M:%S.000")

        return piece, start
    if not _NAME.match(piece):
        raise unexpected(piece)
    return piece, lambda row: row.get(piece)


def _aggregate(piece: str) -> tuple[str, Callable[[list[Row]], Any]]:
    match = _AGGREGATE.match(piece)
    if match is None:
        raise unexpected(piece)
    function, argument, name = match[1].lower(), match[2], match[3] or piece
    if function == "count":
        if argument in ("", "*"):
            return name, len
        return name, lambda rows: sum(row.get(argument) is not None for row in rows)
    if function == "count_distinct":
        return name, lambda rows: len({row[argument] for row in rows if row.get(argument) is not None})
    if function in ("pct", "percentile"):
        field, _, percent = (part.strip() for part in argument.partition(","))
        return name, lambda rows: _percentile(_numbers(rows, field), float(percent))
    simple: dict[str, Callable[[list[float]], float]] = {
        "sum": sum,
        "avg": statistics.fmean,
        "min": min,
        "max": max,
        "median": statistics.median,
    }
    if function not in simple:
        raise unexpected(function)
    return name, lambda rows: simple[function](values) if (values := _numbers(rows, argument)) else None


def _numbers(rows: list[Row], name: str) -> list[float]:
    return [amount for row in rows if (amount := number(row.get(name))) is not None]


def _percentile(values: list[float], percent: float) -> float | None:
    return sorted(values)[min(int(len(values) * percent / 100), len(values) - 1)] if values else None


def _split(text: str, separator: str) -> list[str]:
    """Split outside of quotes, brackets and regular expressions."""
    pieces, depth, quote, current = [], 0, "", ""
    for before, letter in zip(" " + text, text, strict=False):
        if quote:
            quote = "" if letter == quote and before != "\\" else quote
        elif letter in "\"'" or (letter == "/" and re.search(r"(like|=~)\s*$", current, re.IGNORECASE)):
            quote = letter
        depth += 0 if quote else (letter in "([") - (letter in ")]")
        if letter == separator and not quote and depth <= 0:
            pieces.append(current)
            current = ""
        else:
            current += letter
    if quote or depth:
        raise unexpected("end of input", len(text.rstrip()))
    return [*pieces, current]
