"""What all adapters share: the mark on methods that write, and the wall that it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from opsctl.errors import ReadOnly

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A", bound="Adapter")


class Adapter:
    """A door to one outside system; one that isn't `writing` can only read."""

    def __init__(self, *, writing: bool) -> None:
        self.writing = writing

    def close(self) -> None:
        """Give back what it holds: for most, nothing."""


def writes(method: Callable[Concatenate[A, P], R]) -> Callable[Concatenate[A, P], R]:
    """Mark an adapter's method as one that has an effect; on a reading adapter it raises ReadOnly."""

    @functools.wraps(method)
    def guarded(self: A, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self.writing:
            raise ReadOnly(f"{type(self).__name__}.{method.__name__} writes, and this is a reading system: nothing was sent.")
        return method(self, *args, **kwargs)

    guarded.writes = True  # type: ignore[attr-defined]
    return guarded
