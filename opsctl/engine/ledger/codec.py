"""How a change is stored: its kind, the kind's version and its fields. Later releases can read it.

A release that changes the fields of a kind increases its `kind_version` and adds an upcaster from the version before. A release that
renames a kind keeps the former tag in `former_kinds`. A change that this release can't read is shown as stored, and never applied.
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
"""The key of the version, stored if it isn't 1. No field of a change can have this name."""
UPGRADE = "Use the version of opsctl that made it, or a newer one. To see this version: opsctl --version"


class UnreadableError(Exception):
    """Raised for a stored change that this release can't read: its kind or version is unknown, or it is damaged."""


class _Heading(Struct):
    """The kind and version of a stored change."""

    kind: str
    version: int = msgspec.field(default=1, name=VERSION)


class UnknownChange(Change, frozen=True, kw_only=True, tag="unknown"):
    """A stored change that this release can't read: shown as stored, never checked, applied or undone."""

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
    """Encodes and decodes changes. `find` returns the kind of a tag."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def decode(self, raw: bytes) -> Change:
        """Decode a change. Raises UnreadableError."""
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
        """Decode a change, or return an UnknownChange if it can't be read."""
        try:
            return self.decode(raw.encode(errors="surrogateescape"))
        except UnreadableError as cause:
            return UnknownChange(stored_kind=kind, stored_target=target, raw=raw, why=str(cause))


def builtins(change: Change) -> dict[str, Any]:
    """A change as stored, as plain Python values."""
    found: dict[str, Any] = msgspec.to_builtins(change)
    return {**found, VERSION: change.kind_version} if change.kind_version != 1 else found


def encoded(change: Change) -> bytes:
    """A change as stored, in JSON."""
    return encode(builtins(change) if change.kind_version != 1 else change)


def tags(kind: type[Change]) -> frozenset[str]:
    """The present and former tags of a kind."""
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
