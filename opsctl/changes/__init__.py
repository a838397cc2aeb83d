"""The kinds of change, one file a system."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import Any

from opsctl.changes.base import Change, kinds


@functools.cache
def all_kinds() -> tuple[type[Change], ...]:
    """Every kind there is, sorted by name; imports every file of this package."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    mine = [kind for kind in kinds() if kind.__module__.startswith(__name__)]
    return tuple(sorted(mine, key=lambda kind: kind.__name__))


@functools.cache
def _decoder() -> Any:
    import msgspec

    joined: Any = functools.reduce(lambda one, other: one | other, all_kinds())  # type: ignore[arg-type,return-value]
    return msgspec.json.Decoder(joined)


def decode(raw: bytes) -> Change:
    """Turn a stored change into its kind."""
    found: Change = _decoder().decode(raw)
    return found
