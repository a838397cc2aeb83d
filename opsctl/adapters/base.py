"""What all adapters share: the mark on methods that write, the wall that it is, and that each is made once."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from functools import cached_property
from threading import RLock
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

from opsctl.errors import ReadOnly

# What a library has to say of its requests may hold anything, and standard error is opsctl's alone: errors tell what went wrong.
logging.lastResort = None

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
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
            raise ReadOnly(f"{type(self).__name__}.{method.__name__} writes, and this connection is read-only.")
        return method(self, *args, **kwargs)

    guarded.writes = True  # type: ignore[attr-defined]
    return guarded


class locked_cached_property(cached_property[T]):  # noqa: N801
    """A `cached_property` that several threads may ask for at once, and one of them makes: since Python 3.12 that is left to us."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        super().__init__(make)
        self._making = RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Self | T:
        """What was made; it is made now if it wasn't."""
        if instance is None:
            return self
        with self._making:
            return super().__get__(instance, owner)
