"""Retries beyond the SDK's own, for services with a low rate limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from opsctl.errors import Throttled
from opsctl.retry import Policy, retry

T = TypeVar("T")

THROTTLED = Policy(tries=4, deadline=60.0, first=1.0, jitter=0.2, errors=(Throttled,))
"""The retry policy for calls that are still throttled after the SDK's own retries."""


def retry_throttled(ask: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """The result of `ask`, which only reads; raises Throttled when it stays throttled."""
    return retry(ask, THROTTLED, sleep=pause)
