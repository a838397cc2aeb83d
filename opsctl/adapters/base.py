"""The base class of adapters, the decorator of methods that write, and the lazy property that builds an adapter once."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from functools import cached_property
from threading import RLock
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

from opsctl.errors import ReadOnly

# A library's log lines may contain secrets, and standard error belongs to opsctl; errors report what went wrong.
logging.lastResort = None

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A", bound="Adapter")


class Adapter:
    """A client of one outside system; read-only unless `writing`."""

    def __init__(self, *, writing: bool) -> None:
        self.writing = writing

    def close(self) -> None:
        """Close its connections, if it has any."""


def writes(method: Callable[Concatenate[A, P], R]) -> Callable[Concatenate[A, P], R]:
    """Mark a method as writing; on a read-only adapter it raises ReadOnly."""

    @functools.wraps(method)
    def guarded(self: A, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self.writing:
            raise ReadOnly(f"{type(self).__name__}.{method.__name__} writes, and this connection is read-only.")
        return method(self, *args, **kwargs)

    guarded.writes = True  # type: ignore[attr-defined]
    return guarded


class locked_cached_property(cached_property[T]):  # noqa: N801
    """A thread-safe `cached_property`; the standard one has no lock since Python 3.12."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        super().__init__(make)
        self._making = RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Self | T:
        """The cached value, created on first use."""
        if instance is None:
            return self
        with self._making:
            return super().__get__(instance, owner)
