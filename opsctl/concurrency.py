"""Query many sources in parallel, and read ahead. A source that fails or doesn't answer in time hides no other."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from opsctl.errors import ExternalError, OpsctlError

PATIENCE = 20.0
"""Seconds after which a source counts as failed."""
AT_ONCE = 16
"""How many sources are queried in parallel."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def gather(sources: Mapping[K, Callable[[], T]], patience: float = PATIENCE) -> dict[K, T | OpsctlError]:
    """Query every source in its own thread, at most sixteen at a time. Returns each one's answer or error, in the order given.

    A thread that still waits doesn't delay the caller or the end of the process. Exceptions other than OpsctlError are raised.
    """
    answers: queue.SimpleQueue[tuple[K, T | BaseException]] = queue.SimpleQueue()

    free = threading.Semaphore(AT_ONCE)

    def ask(name: K, source: Callable[[], T]) -> None:
        try:
            with free:
                answers.put((name, source()))
        except BaseException as cause:  # noqa: BLE001 - it is raised below, where somebody can see it
            answers.put((name, cause))

    for name, source in sources.items():
        threading.Thread(target=ask, args=(name, source), name=f"ask {name}", daemon=True).start()
    silent = ExternalError(f"It didn't answer within {patience:g} s.", "Query it on its own.")
    found: dict[K, T | OpsctlError] = dict.fromkeys(sources, silent)
    deadline = time.monotonic() + patience
    for _ in sources:
        try:
            name, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(answer, BaseException) and not isinstance(answer, OpsctlError):
            raise answer
        found[name] = answer
    return found


def unwrap(answer: T | OpsctlError) -> T:
    """The answer of a source of `gather`; raises its error."""
    if isinstance(answer, OpsctlError):
        raise answer
    return answer


def first_error_if_all_failed(found: Mapping[K, T | OpsctlError]) -> Mapping[K, T | OpsctlError]:
    """The result of `gather`. Raises the first error if all sources failed: the cause is then the login or the network."""
    failed = [each for each in found.values() if isinstance(each, OpsctlError)]
    if failed and len(failed) == len(found):
        raise failed[0]
    return found


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order; a thread makes the next item while the caller works on the present one.

    An error in making an item is raised in its place.
    """
    end: Any = object()
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        upcoming = pool.submit(next, source, end)
        while (item := upcoming.result()) is not end:
            upcoming = pool.submit(next, source, end)
            yield item
