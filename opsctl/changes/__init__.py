"""The kinds of change, one file a system."""

from __future__ import annotations

import functools
import importlib
import operator
import pkgutil
from typing import Any

import msgspec

from opsctl.contract import Change, kinds


@functools.cache
def all_kinds() -> tuple[type[Change], ...]:
    """Every kind there is, sorted by name; imports every file of this package."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    mine = [kind for kind in kinds() if kind.__module__.startswith(__name__)]
    return tuple(sorted(mine, key=lambda kind: kind.__name__))


class _Tagged(msgspec.Struct):
    """What every stored change begins with."""

    kind: str


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(raw: bytes) -> Change:
    """Turn a stored change into its kind; raises msgspec.ValidationError for none that is known.

    One whose kind is at hand leaves the files of all others alone.
    """
    tag = _decoder(_Tagged).decode(raw).kind
    at_hand = next((kind for kind in kinds() if kind.__struct_config__.tag == tag), None)
    found: Change = _decoder(at_hand or functools.reduce(operator.or_, all_kinds())).decode(raw)
    return found
