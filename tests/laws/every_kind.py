"""One change of every kind, its texts filled with what a test wants."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any

import msgspec

from opsctl.changes import all_kinds
from opsctl.contract import Change

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NUMBERS = ("contact",)
"""Fields that a command takes as digits only."""


def every_kind(text: str) -> Iterator[Change]:
    """Every kind, with `text` wherever a text may stand, and once more with nothing where nothing may."""
    for kind in all_kinds():
        for full in (True, False):
            yield filled(kind, text, full=full)


def filled(kind: type[Any], text: str, *, full: bool) -> Any:
    """One struct, each field by its type."""
    hints = typing.get_type_hints(kind)
    values = {f.name: "156855158284" if f.name in NUMBERS else _value(hints[f.name], text, full) for f in msgspec.structs.fields(kind)}
    return kind(**values)


def _value(hint: Any, text: str, full: bool) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return None if NoneType in args and not full else _value(next(a for a in args if a is not NoneType), text, full)
    if origin is typing.Literal:
        return args[0] if full else args[-1]
    if origin is tuple:
        each = args[:1] * (2 if full else 1) if args[-1] is Ellipsis else args
        return tuple(_value(a, text, full) for a in each)
    if origin is dict:
        return {"Name": text, "Priority": 1, "Statement": {"ByteMatchStatement": {"SearchString": {"$bytes": "YQ=="}, text: [text]}}}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return filled(hint, text, full=full)
    return {str: text, bool: full, int: 3, float: 2.0, datetime: AT}[hint]
