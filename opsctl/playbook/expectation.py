"""What a `verify` expects of a reading command's result, and what of the result doesn't meet it.

`{field: test}` holds for every row; `in` names the section of a page, `where` chooses among the rows, `count` says how many there must be.
A field that is missing, empty or of another type can't be told, and what can't be told is never met.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from opsctl.cli.line import fill
from opsctl.render.shapes import UNASKED, Page, Proportion, Series

Test = str | list[str]
"""`"< 80%"`, `"!= failed"`, `healthy`, or a list of words of which any one will do."""

COMPARED: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
WRITTEN = re.compile(r"(<=|>=|!=|<|>)?\s*(.+)", re.DOTALL)
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(%)?")
WORDS = {"true": True, "false": False}
FEW = 3
"""How many rows that don't meet it are told."""


class UndecidableError(Exception):
    """Raised when a value can't be compared with what is expected."""


class Expectation(Struct, frozen=True, kw_only=True):
    """What must hold of a result; `fields` of every row that `where` leaves."""

    fields: dict[str, Test] = {}
    where: dict[str, Test] = {}
    count: str | None = None
    section: str | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any], values: Mapping[str, str] | None = None) -> Expectation:
        """Turn a step's `expect`, its placeholders filled, into an expectation; raises ValueError for one that says nothing."""
        told = dict(fill(given, dict(values or {})))
        where, count, section = told.pop("where", {}), told.pop("count", None), told.pop("in", None)
        if not isinstance(where, dict):
            raise ValueError("where is a mapping of fields and what they must be")
        if not (count is None or isinstance(count, str)) or not (section is None or isinstance(section, str)):
            raise ValueError("count and in are single values")
        if not told and count is None:
            raise ValueError('it expects nothing; name a field, such as {state: healthy}, or a count, such as {count: "0"}')
        for name, test in [*told.items(), *where.items()]:
            _check_test(name, test)
        if count is not None and not (NUMBER.fullmatch(WRITTEN.fullmatch(count)[2]) if WRITTEN.fullmatch(count) else None):  # type: ignore[index]
            raise ValueError(f'count: {count!r} is no number, such as 0 or ">= 2"')
        return cls(fields=told, where=where, count=count, section=section)

    def __str__(self) -> str:
        """Say it in words: `every row of Instances: share < 80%`."""
        rows = f"rows{f' of {self.section}' if self.section else ''}"
        rows += f" where {_describe(self.where)}" if self.where else ""
        parts = [f"number of {rows} {_comparison(self.count)}"] if self.count is not None else []
        parts += [f"{_describe(self.fields)} in all {rows}"] if self.fields else []
        return "; ".join(parts)

    def unmet(self, found: Any) -> list[str]:
        """What of a result doesn't meet this, in words; empty when all of it does."""
        try:
            rows = [row for row in self._rows(found) if self._chosen(row)]
        except UndecidableError as why:
            return [str(why)]
        wrong = []
        if self.count is not None and not _meets("the number of rows", len(rows), self.count):
            wrong.append(f"{len(rows)} rows, expected {self.count}")
        if self.count is None and not rows:
            wrong.append("there is no such row, so nothing was proven")
        bad = [told for row in rows if (told := self._wrong(row))]
        more = [f"{len(bad) - FEW} more rows"] if len(bad) > FEW else []
        return [*wrong, *bad[:FEW], *more]

    def _rows(self, found: Any) -> list[Mapping[str, Any]]:
        """The result's rows; a record is one row, and a page's are those of its first section unless another is named."""
        if isinstance(found, Page):
            sections = dict(found.sections)
            if isinstance(unasked := sections.get(UNASKED), list) and unasked:
                raise UndecidableError("; ".join(f"{_row_name(row)} could not be asked: {row.get('why', '')}" for row in unasked))
            name = self.section or next(iter(sections), "")
            if name not in sections:
                raise UndecidableError(f"there is no section {name!r}; there are: {', '.join(sections)}")
            found = sections[name]
        elif self.section:
            raise UndecidableError(f"the result has no sections, so there is no {self.section!r}")
        if isinstance(found, Series):
            found = found.rows
        if isinstance(found, dict | Struct):
            found = [found]
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise UndecidableError("the result has no rows")
        return [msgspec.structs.asdict(row) if isinstance(row, Struct) else row for row in found]

    def _chosen(self, row: Mapping[str, Any]) -> bool:
        return all(_meets(name, row.get(name), test) for name, test in self.where.items())

    def _wrong(self, row: Mapping[str, Any]) -> str:
        """Which fields of a row aren't as expected; empty when all are."""
        return ", ".join(filter(None, (_unmet_field(name, row, test) for name, test in self.fields.items())))


def _unmet_field(name: str, row: Mapping[str, Any], test: Test) -> str:
    which = f"{_row_name(row)}: "
    try:
        return "" if _meets(name, row.get(name), test) else f"{which}{name} is {row[name]}, expected {_words(test)}"
    except UndecidableError as why:
        reason = row.get("why") or row.get("told_by")
        return f"{which}{why}{f' ({reason})' if reason else ''}"


def _row_name(row: Mapping[str, Any]) -> str:
    """The first cell of a row, which says what the row is about."""
    return next((str(value) for value in row.values() if value not in (None, "")), "an empty row")


def _words(test: Test) -> str:
    return test if isinstance(test, str) else " or ".join(test)


def _comparison(test: Test) -> str:
    words = _words(test)
    return words if words[:1] in ("<", ">", "!") else f"is {words}"


def _describe(fields: Mapping[str, Test]) -> str:
    return " and ".join(f"{name} {_comparison(test)}" for name, test in fields.items())


def _check_test(name: str, test: Any) -> None:
    """Raise ValueError for a test that could never be met."""
    tests = test if isinstance(test, list) else [test]
    if not tests or not all(isinstance(each, str) and each for each in tests):
        raise ValueError(f"{name}: expected a word, a comparison such as '< 80%', or a list of words")
    for each in tests:
        sign, value = WRITTEN.fullmatch(each).groups()  # type: ignore[union-attr]
        if sign and isinstance(test, list):
            raise ValueError(f"{name}: {each!r} is a comparison; a list is of words")
        if sign in COMPARED and not NUMBER.fullmatch(value):
            raise ValueError(f"{name}: {value!r} is no number, such as 5 or 80%")


def _meets(name: str, value: Any, test: Test) -> bool:
    """Whether a value is as expected; raises CantTell where it can't be compared."""
    if isinstance(test, list):
        return any(_meets(name, value, each) for each in test)
    if value is None or value == "":
        raise UndecidableError(f"{name} isn't known")
    sign, wanted = WRITTEN.fullmatch(test).groups()  # type: ignore[union-attr]
    if sign in COMPARED:
        return COMPARED[sign](*_numbers(name, value, wanted))
    return _equals(name, value, wanted) != (sign == "!=")


def _equals(name: str, value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        if wanted not in WORDS:
            raise UndecidableError(f"{name} is true or false, and {wanted!r} is neither")
        return value is WORDS[wanted]
    if isinstance(value, str):
        return value == wanted
    one, other = _numbers(name, value, wanted)
    return one == other


def _numbers(name: str, value: Any, wanted: str) -> tuple[float, float]:
    """Both as numbers of the same unit; raises CantTell where there is none."""
    number = NUMBER.fullmatch(wanted)
    if number is None or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UndecidableError(f"{name} is {value!r}, which can't be compared with {wanted}")
    digits, percent = number.groups()
    if bool(percent) != (isinstance(value, Proportion) or name.endswith("_percent")):
        raise UndecidableError(f"{name} is {value}, which isn't of the unit of {wanted}")
    return float(value), float(digits) / (100 if isinstance(value, Proportion) else 1)
