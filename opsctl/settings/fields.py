"""The fields of a settings struct, with what each may hold."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, Struct

from opsctl.settings.values import Reference


class Field(NamedTuple):
    """A field: its Python name, its key in TOML, its type and default (NODEFAULT for a required key).

    `struct` is set where the field is a table; `suffix` is then `.NAME` for a table of named tables and `[]` for a list of tables.
    """

    name: str
    key: str
    hint: Any
    default: Any
    struct: type[Struct] | None
    suffix: str


def fields(of: type[Struct]) -> Iterator[Field]:
    """Each field of `of`, in its order."""
    hints = get_type_hints(of, include_extras=True)
    for each in msgspec.structs.fields(of):
        default = each.default if each.default_factory is NODEFAULT else each.default_factory()
        yield Field(each.name, each.encode_name, hints[each.name], default, *_struct(hints[each.name]))


def plain_type(hint: Any) -> Any:
    """The type without None and without its bounds."""
    if get_origin(hint) is Annotated:
        return plain_type(get_args(hint)[0])
    members = [each for each in get_args(hint) if each is not NoneType]
    return plain_type(members[0]) if NoneType in get_args(hint) else hint


def _struct(hint: Any) -> tuple[type[Struct] | None, str]:
    bare = plain_type(hint)
    if isinstance(bare, type) and issubclass(bare, Struct) and bare is not Reference:
        return bare, ""
    suffix = ".NAME" if get_origin(bare) is dict else "[]" if get_origin(bare) is list else ""
    return (_struct(get_args(bare)[-1])[0] if suffix else None), suffix
