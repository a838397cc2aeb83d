"""Every key of a configuration file with its type, its default and its description, for docs/reference.md.

A key's description is the docstring under its field in opsctl/settings. Only `make docs` and tests call this module.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin

from msgspec import NODEFAULT, Struct

from opsctl.settings import Duration, Reference, Settings
from opsctl.settings.fields import fields, plain_type

TYPES = {str: "text", int: "number", float: "number", bool: "true or false", Duration: "duration", Reference: "reference"}


class SettingKey(NamedTuple):
    """A key of a table; its default is as TOML writes it, empty for none, and `required` where the table needs the key."""

    name: str
    type: str
    default: str
    description: str


class SettingTable(NamedTuple):
    """A table of a configuration file, what it is for, and its keys."""

    header: str
    description: str
    keys: list[SettingKey]


def tables() -> list[SettingTable]:
    """Every table in the order of the settings: the top of the file, [aws], [limits] and so on, then the members of a reference."""
    return [*_tables("", Settings), *_tables("REFERENCE", Reference)]


def _tables(name: str, of: type[Struct], defaults: Struct | None = None) -> Iterator[SettingTable]:
    keys, nested = [], []
    for field in fields(of):
        default = getattr(defaults, field.name) if defaults else field.default
        if field.struct:
            path = f"{name}.{field.key}{field.suffix}".removeprefix(".")
            nested.append((path, field.struct, default if isinstance(default, Struct) else None))
        else:
            keys.append(SettingKey(field.key, _type(field.hint), _toml(default), descriptions(of).get(field.name, "")))
    if keys:
        header = f"[[{name.removesuffix('[]')}]]" if name.endswith("[]") else f"[{name}]"
        yield SettingTable(header if name else "", inspect.cleandoc(of.__doc__ or ""), keys)
    for path, struct, inner in nested:
        yield from _tables(path, struct, inner)


@cache
def descriptions(of: type[Struct]) -> dict[str, str]:
    """The docstrings under the fields of `of`, its base classes' included, by the field's name."""
    found: dict[str, str] = {}
    for each in reversed(of.__mro__):
        if not issubclass(each, Struct) or each.__module__.startswith("msgspec"):
            continue
        body = ast.parse(inspect.getsource(each)).body[0]
        previous = ""
        for node in body.body if isinstance(body, ast.ClassDef) else ():
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and previous:
                found[previous] = " ".join(str(node.value.value).split())
            previous = node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else ""
    return found


def _type(hint: Any) -> str:
    bare = plain_type(hint)
    if get_origin(bare) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(bare))
    if get_origin(bare) in (list, tuple):
        return f"list of {_type(get_args(bare)[0])}"
    if get_origin(bare) is dict:
        return f"table of {_type(get_args(bare)[1])}"
    return TYPES[bare]


def _toml(value: object) -> str:
    """A default as TOML writes it; empty for none."""
    if value is NODEFAULT:
        return "required"
    if value is None or value in ("", [], {}, ()):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str | timedelta) else str(value)
