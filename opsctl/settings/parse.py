"""Settings from what a TOML file contains, checked as a whole: every error at once, each with its key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec
from msgspec import NODEFAULT, Struct

from opsctl.settings import Duration, Reference, Settings

Tables = dict[str, object]
"""What a TOML file contains."""

KINDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list", "object": "a table"}
"""How msgspec names a kind of value, and how we do."""


class InvalidSettings(ValueError):
    """Raised with one line for each error."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


def parse(raw: Tables) -> Settings:
    """The settings that a file contains; raises InvalidSettings."""
    errors = [*_empty(raw), *_unresolved(raw)]
    try:
        settings = msgspec.convert(raw, Settings, dec_hook=decode)
    except msgspec.ValidationError as cause:
        raise InvalidSettings([*_errors(raw, Settings, ""), *errors] or [str(cause)]) from None
    if settings.aws is None:
        errors.insert(0, "aws: missing; it names the account of this environment")
    if errors:
        raise InvalidSettings(errors)
    return settings


def _empty(raw: Tables) -> Iterator[str]:
    """The keys that were left empty, a line for each table."""
    tables: dict[str, list[str]] = {}
    for key, value in leaves(raw):
        if value == "":
            table, _, name = key.rpartition(".")
            tables.setdefault(table, []).append(name)
    yield from (f"{table or 'top of the file'}: fill in {', '.join(names)}" for table, names in tables.items())


def decode(kind: type, value: object) -> object:
    """A value of a type that msgspec doesn't know: a duration. Raises ValueError for anything else."""
    if kind is Duration and isinstance(value, str):
        return Duration.parse(value)
    raise ValueError(f"expected a duration such as 90s, 5m, 24h or 7d, got {_kind(value)}")


def leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Every value that is neither a table nor a list, with its key: `secrets.jwt.id`, `people[0].role`."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, f"{key}[{index}]")
    else:
        yield key, value


def _errors(raw: object, of: type[Struct], key: str) -> Iterator[str]:
    """What is wrong in a table: unknown and missing keys, then values, then what its values contradict."""
    from opsctl.settings.fields import fields, plain_type

    if not isinstance(raw, dict):
        such = ', such as { aws = "NAME" }' if of is Reference else ""
        yield f"{key}: expected a table{such}, got {_kind(raw)}"
        return
    known = {field.key: field for field in fields(of)}
    found = [f"{_path(key, name)}: unknown key{_nearest(name, known)}" for name in raw if name not in known]
    for name, field in known.items():
        path = _path(key, name)
        if name not in raw:
            found += [f"{path}: missing"] if field.default is NODEFAULT else []
        elif raw[name] == "":
            continue
        elif struct := field.struct or (Reference if plain_type(field.hint) is Reference else None):
            found += _nested(raw[name], struct, path, field.suffix)
        else:
            found += _wrong(raw[name], field.hint, path)
    if not found and all(value != "" for _, value in leaves(raw)):
        found += _wrong(raw, of, key)
    yield from found


def _nested(raw: Any, of: type[Struct], key: str, suffix: str) -> Iterator[str]:
    """The errors of one table, of each of several named tables, or of each in a list."""
    if suffix == ".NAME" and isinstance(raw, dict):
        for name, table in raw.items():
            yield from _errors(table, of, f"{key}.{name}")
    elif suffix == "[]" and isinstance(raw, list):
        for index, table in enumerate(raw):
            yield from _errors(table, of, f"{key}[{index}]")
    elif suffix:
        yield f"{key}: expected {'a table of tables' if suffix == '.NAME' else f'[[{key}]]'}, got {_kind(raw)}"
    else:
        yield from _errors(raw, of, key)


def _wrong(value: object, hint: Any, key: str) -> Iterator[str]:
    """The error of one value, its place inside the value added to the key."""
    try:
        msgspec.convert(value, hint, dec_hook=decode)
    except msgspec.ValidationError as cause:
        what, _, where = str(cause).partition(" - at ")
        if what.startswith("Invalid enum value"):
            what = f"expected one of {', '.join(get_args(hint))}, got {value!r}"
        what = re.sub(r"`(\w+)(?: \| null)?`", lambda found: KINDS.get(found[1], found[0]), what)
        inside = where.strip("`").removeprefix("$").replace("[...]", "")
        yield f"{key}{inside}: {what[:1].lower()}{what[1:]}"


def _kind(value: object) -> str:
    """The kind of a value, never the value: it may be a credential in the wrong place."""
    return KINDS.get({"list": "array", "dict": "object"}.get(name := type(value).__name__, name), name)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    import difflib

    near = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    return f"; did you mean {near[0]}? Keys: {', '.join(known)}" if near else f". Keys: {', '.join(known)}"


def _path(key: str, name: str) -> str:
    return f"{key}.{name}".removeprefix(".")


def _names(raw: Tables, table: str) -> list[str]:
    found = raw.get(table)
    return sorted(found) if isinstance(found, dict) else []


def _unresolved(raw: Tables) -> Iterator[str]:
    """The keys that name a service or a secret which the file doesn't have, or a secret of another account."""
    aws = raw.get("aws")
    account = aws.get("account") if isinstance(aws, dict) else None
    for key, value in leaves(raw):
        names = next((table for pattern, table in NAMES if re.fullmatch(pattern, key)), "")
        if names and isinstance(value, str) and value and value not in _names(raw, names):
            # A key that names a secret may hold the secret itself by mistake.
            given = "secret of this name" if names == "secrets" else f"[{names}.{value}]"
            yield f"{key}: there is no {given}. Known: {', '.join(_names(raw, names)) or 'none'}"
        if SECRET_ID.fullmatch(key) and isinstance(value, str) and value.startswith("arn:"):
            owner = (value.split(":") + [""] * 5)[4]
            if isinstance(account, str) and owner != account:
                yield f"{key}: expected a secret of account {account}, got one of {owner or 'no account'}"


NAMES = (
    (r"secrets\.[^.]+\.consumers\[\d+\]", "services"),
    (r"sessions\.signing-secret|api\.signed-by", "secrets"),
)
"""Keys whose value is the name of another table."""
SECRET_ID = re.compile(r"secrets\.[^.]+\.id|.+\.aws")
"""Keys whose value is the name or ARN of a secret in AWS."""
