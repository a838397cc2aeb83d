"""The kinds of change, one file for each system."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable

from opsctl.contract import Change, kinds


@functools.cache
def all_kinds() -> tuple[type[Change], ...]:
    """All kinds of change, sorted by name. Imports every file of this package."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    mine = [kind for kind in kinds() if kind.__module__.startswith(__name__)]
    return tuple(sorted(mine, key=lambda kind: kind.__name__))


def find_kind(tag: str) -> type[Change] | None:
    """The kind of change with this tag, or with this tag in an earlier release; None if this release has none.

    A kind that is already imported doesn't import the other files.
    """
    return _with_tag(kinds(), tag) or _with_tag(all_kinds(), tag)


def _with_tag(known: Iterable[type[Change]], tag: str) -> type[Change] | None:
    return next((kind for kind in known if tag == kind.__struct_config__.tag or tag in kind.former_kinds), None)
