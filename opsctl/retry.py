"""Retries after temporary errors: one policy and one loop for all adapters."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class TryAgain(Exception):
    """Raised by a call that may be retried; `error` is raised when it isn't.

    `retry_after` is the pause in seconds that the server asked for, or None for the policy's own.
    """

    def __init__(self, error: Exception, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.retry_after = error, retry_after


class Policy(NamedTuple):
    """Which errors are retried, how often and how long.

    At most `tries` calls are made. The pauses double from `first` to `longest` seconds, each shortened by a random share of up to `jitter`.
    No pause ends later than `deadline` seconds after the first call: an error whose pause doesn't fit is raised at once.
    """

    tries: int
    deadline: float
    first: float
    longest: float = 60.0
    jitter: float = 0.5
    errors: tuple[type[Exception], ...] = ()

    def pause(self, failed: int) -> float:
        """The longest pause in seconds after that many failed calls."""
        return min(self.longest, self.first * 2.0 ** min(failed - 1, 64))


def retry(
    call: Callable[[], T],
    policy: Policy,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    stop: Callable[[], None] = lambda: None,
    share: Callable[[], float] = random.random,
) -> T:
    """Return what `call` returns, retrying by `policy` when it raises TryAgain or one of the policy's errors.

    `stop` is called before each pause and may raise.
    """
    end = clock() + policy.deadline
    errors: tuple[type[Exception], ...] = (TryAgain, *policy.errors)
    failed = 0
    while True:
        try:
            return call()
        except errors as cause:
            failed += 1
            error = cause.error if isinstance(cause, TryAgain) else cause
            asked = getattr(cause, "retry_after", None)
            seconds = policy.pause(failed) * (1 - policy.jitter * share()) if asked is None else asked
            if failed >= policy.tries or clock() + seconds > end:
                if error is cause:
                    raise
                raise error from error.__cause__
        stop()
        sleep(seconds)
