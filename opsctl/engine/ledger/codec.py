"""How a change is stored: its kind, the kind's version, and its fields, read back by whatever release comes later.

A release that changes the fields of a kind counts up its `kind_version` and says in `upcasters` how to read the version before. One that
renames a kind keeps the former tag in `former_kinds`. What this release can't read is shown as it is, and never made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from opsctl.contract import Change, Finding, Irreversible
from opsctl.engine.ledger.rows import encode
from opsctl.errors import Refused

Find = Callable[[str], type[Change] | None]
"""Returns the kind of a tag, present or former."""
VERSION = "kind-version"
"""Stands beside `kind` where the version isn't 1. No field of a change can have this name."""
UPGRADE = "Use the opsctl that made it, or a newer one: opsctl --version"


class UnreadableError(Exception):
    """Raised for a stored change that this release can't read: of a kind or a version that it doesn't know, or damaged."""


class _Heading(Struct):
    """What every stored change begins with."""

    kind: str
    version: int = msgspec.field(default=1, name=VERSION)


class UnknownChange(Change, frozen=True, kw_only=True, tag="unknown"):
    """A stored change that this release can't read: shown as it is stored, never checked, made or taken back."""

    stored_kind: str
    stored_target: str
    raw: str
    why: str

    @property
    def target(self) -> str:
        return self.stored_target

    @property
    def summary(self) -> str:
        return f"{self.stored_kind}: {self.why}: {self.raw}"

    def difference(self) -> tuple[Any, Any]:
        return None, self.raw

    def check(self, read: Any) -> Finding:
        raise Refused(f"The change of {self.target} can't be used: {self.why}.", UPGRADE)

    def inverse(self) -> Change | Irreversible:
        return Irreversible(f"this opsctl can't read it: {self.why}")


class Codec:
    """Writes changes and reads them back; `find` returns the kind of a tag."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def decode(self, raw: bytes) -> Change:
        """Read a change back; raises UnreadableError."""
        try:
            heading = _heading.decode(raw)
            kind = self._find(heading.kind)
            if kind is None:
                raise UnreadableError(f"this opsctl knows no kind of change called {heading.kind!r}")
            if heading.version > kind.kind_version:
                raise UnreadableError(f"it has version {heading.version} of {heading.kind!r}, and this opsctl knows {kind.kind_version}")
            if heading.version == kind.kind_version and kind.__struct_config__.tag == heading.kind:
                found: Change = _decoder(kind).decode(raw)
                return found
            return _upcast(msgspec.json.decode(raw), kind, heading.version)
        except RecursionError as cause:
            raise UnreadableError("it is nested too deeply") from cause
        except (msgspec.MsgspecError, UnicodeError, KeyError, TypeError, ValueError) as cause:
            raise UnreadableError(f"it can't be read ({cause})") from cause

    def read(self, raw: str, kind: str, target: str) -> Change:
        """Read a change back, or return what stands for one that can't be read."""
        try:
            return self.decode(raw.encode(errors="surrogateescape"))
        except UnreadableError as cause:
            return UnknownChange(stored_kind=kind, stored_target=target, raw=raw, why=str(cause))


def builtins(change: Change) -> dict[str, Any]:
    """A change as it is stored, as plain values."""
    found: dict[str, Any] = msgspec.to_builtins(change)
    return {**found, VERSION: change.kind_version} if change.kind_version != 1 else found


def encoded(change: Change) -> bytes:
    """A change as it is stored."""
    return encode(builtins(change) if change.kind_version != 1 else change)


def tags(kind: type[Change]) -> frozenset[str]:
    """The tags that a kind has had."""
    return kind.former_kinds | {str(kind.__struct_config__.tag)}


def _upcast(fields: dict[str, Any], kind: type[Change], version: int) -> Change:
    for number in range(version, kind.kind_version):
        fields = kind.upcasters[number](fields)
    fields.pop(VERSION, None)
    return msgspec.convert({**fields, "kind": kind.__struct_config__.tag}, kind)


_heading = msgspec.json.Decoder(_Heading)


@cache
def _decoder(kind: type[Change]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
