"""The `expect` of a verify, and the differences between it and a command's result.

`{field: test}` must be true in every row; `in` names the section of a page, `where` selects rows, `count` is the number of selected rows.
A field that is missing, empty or of another type is unknown, and an unknown field fails the check.
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
"""`"< 80%"`, `"!= failed"`, `healthy`, or a list of words, one of which must match."""

COMPARED: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
WRITTEN = re.compile(r"(<=|>=|!=|<|>)?\s*(.+)", re.DOTALL)
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(%)?")
WORDS = {"true": True, "false": False}
MAX_REPORTED_ROWS = 3
"""How many failing rows are reported."""


class UndecidableError(Exception):
    """A value can't be compared with what is expected."""


class Expectation(Struct, frozen=True, kw_only=True):
    """What a result must contain; `fields` apply to every row that `where` selects."""

    fields: dict[str, Test] = {}
    where: dict[str, Test] = {}
    count: str | None = None
    section: str | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any], values: Mapping[str, str] | None = None) -> Expectation:
        """Parse a step's `expect` and fill its placeholders. Raises ValueError for one that checks nothing."""
        fields = dict(fill(given, dict(values or {})))
        where, count, section = fields.pop("where", {}), fields.pop("count", None), fields.pop("in", None)
        if not isinstance(where, dict):
            raise ValueError("where must be a mapping from a field to its expected value")
        if not (count is None or isinstance(count, str)) or not (section is None or isinstance(section, str)):
            raise ValueError("count and in must be single values")
        if not fields and count is None:
            raise ValueError('it checks nothing; add a field, such as {state: healthy}, or a count, such as {count: "0"}')
        for name, test in [*fields.items(), *where.items()]:
            _check_test(name, test)
        if count is not None and not (NUMBER.fullmatch(WRITTEN.fullmatch(count)[2]) if WRITTEN.fullmatch(count) else None):  # type: ignore[index]
            raise ValueError(f'count: {count!r} is not a number, such as 0 or ">= 2"')
        return cls(fields=fields, where=where, count=count, section=section)

    def __str__(self) -> str:
        """The expectation in words: `every row of Instances: share < 80%`."""
        rows = f"rows{f' of {self.section}' if self.section else ''}"
        rows += f" where {_format_fields(self.where)}" if self.where else ""
        parts = [f"number of {rows} {_comparison(self.count)}"] if self.count is not None else []
        parts += [f"{_format_fields(self.fields)} in all {rows}"] if self.fields else []
        return "; ".join(parts)

    def unmet(self, found: Any) -> list[str]:
        """The differences between a result and this expectation, in words; empty when there are none."""
        try:
            rows = [row for row in self._rows(found) if self._is_selected(row)]
        except UndecidableError as why:
            return [str(why)]
        wrong = []
        if self.count is not None and not _meets("the number of rows", len(rows), self.count):
            wrong.append(f"found {len(rows)} rows, expected {self.count}")
        if self.count is None and not rows:
            wrong.append("no matching row, so nothing was verified")
        bad = [problem for row in rows if (problem := self._row_problems(row))]
        more = [f"{len(bad) - MAX_REPORTED_ROWS} more rows failed"] if len(bad) > MAX_REPORTED_ROWS else []
        return [*wrong, *bad[:MAX_REPORTED_ROWS], *more]

    def _rows(self, found: Any) -> list[Mapping[str, Any]]:
        """The result's rows. A record is one row; of a page, the rows of the named section, by default the first."""
        if isinstance(found, Page):
            sections = dict(found.sections)
            if isinstance(unasked := sections.get(UNASKED), list) and unasked:
                raise UndecidableError("; ".join(f"{_row_name(row)} could not be queried: {row.get('why', '')}" for row in unasked))
            name = self.section or next(iter(sections), "")
            if name not in sections:
                raise UndecidableError(f"there is no section {name!r}; the sections are: {', '.join(sections)}")
            found = sections[name]
        elif self.section:
            raise UndecidableError(f"the result has no sections, so it has no {self.section!r}")
        if isinstance(found, Series):
            found = found.rows
        if isinstance(found, dict | Struct):
            found = [found]
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise UndecidableError("the result has no rows")
        return [msgspec.structs.asdict(row) if isinstance(row, Struct) else row for row in found]

    def _is_selected(self, row: Mapping[str, Any]) -> bool:
        return all(_meets(name, row.get(name), test) for name, test in self.where.items())

    def _row_problems(self, row: Mapping[str, Any]) -> str:
        """The fields of a row that differ from the expectation; empty when none does."""
        return ", ".join(filter(None, (_unmet_field(name, row, test) for name, test in self.fields.items())))


def _unmet_field(name: str, row: Mapping[str, Any], test: Test) -> str:
    which = f"{_row_name(row)}: "
    try:
        return "" if _meets(name, row.get(name), test) else f"{which}{name} is {row[name]}, expected {_format_test(test)}"
    except UndecidableError as why:
        reason = row.get("why") or row.get("told_by")
        return f"{which}{why}{f' ({reason})' if reason else ''}"


def _row_name(row: Mapping[str, Any]) -> str:
    """The first cell of a row, which names the row."""
    return next((str(value) for value in row.values() if value not in (None, "")), "an empty row")


def _format_test(test: Test) -> str:
    return test if isinstance(test, str) else " or ".join(test)


def _comparison(test: Test) -> str:
    words = _format_test(test)
    return words if words[:1] in ("<", ">", "!") else f"is {words}"


def _format_fields(fields: Mapping[str, Test]) -> str:
    return " and ".join(f"{name} {_comparison(test)}" for name, test in fields.items())


def _check_test(name: str, test: Any) -> None:
    """Raise ValueError for a test that no value can pass."""
    tests = test if isinstance(test, list) else [test]
    if not tests or not all(isinstance(each, str) and each for each in tests):
        raise ValueError(f"{name}: expected a word, a comparison such as '< 80%', or a list of words")
    for each in tests:
        sign, value = WRITTEN.fullmatch(each).groups()  # type: ignore[union-attr]
        if sign and isinstance(test, list):
            raise ValueError(f"{name}: {each!r} is a comparison; a list may contain only words")
        if sign in COMPARED and not NUMBER.fullmatch(value):
            raise ValueError(f"{name}: {value!r} is not a number, such as 5 or 80%")


def _meets(name: str, value: Any, test: Test) -> bool:
    """Whether a value is as expected. Raises UndecidableError when they can't be compared."""
    if isinstance(test, list):
        return any(_meets(name, value, each) for each in test)
    if value is None or value == "":
        raise UndecidableError(f"{name} is unknown")
    sign, wanted = WRITTEN.fullmatch(test).groups()  # type: ignore[union-attr]
    if sign in COMPARED:
        return COMPARED[sign](*_numbers(name, value, wanted))
    return _equals(name, value, wanted) != (sign == "!=")


def _equals(name: str, value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        if wanted not in WORDS:
            raise UndecidableError(f"{name} is true or false, but the expected value is {wanted!r}")
        return value is WORDS[wanted]
    if isinstance(value, str):
        return value == wanted
    one, other = _numbers(name, value, wanted)
    return one == other


def _numbers(name: str, value: Any, wanted: str) -> tuple[float, float]:
    """Both values as numbers of one unit. Raises UndecidableError when they have none in common."""
    number = NUMBER.fullmatch(wanted)
    if number is None or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UndecidableError(f"{name} is {value!r}, which can't be compared with {wanted}")
    digits, percent = number.groups()
    if bool(percent) != (isinstance(value, Proportion) or name.endswith("_percent")):
        raise UndecidableError(f"{name} is {value}, which has another unit than {wanted}")
    return float(value), float(digits) / (100 if isinstance(value, Proportion) else 1)
