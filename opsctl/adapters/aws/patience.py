"""More patience than the SDK has, for services that let an account ask only a little at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from opsctl.errors import Throttled
from opsctl.retry import Policy, retry

T = TypeVar("T")

THROTTLED = Policy(tries=4, deadline=60.0, first=1.0, jitter=0.2, errors=(Throttled,))
"""How a call is made again that is still throttled after the SDK itself has waited."""


def retry_throttled(ask: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Return what `ask`, which only reads, answers; raise the last Throttled where it stays throttled."""
    return retry(ask, THROTTLED, sleep=pause)
