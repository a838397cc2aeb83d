"""More patience than the SDK has, for services that let an account ask only a little at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from opsctl.errors import Throttled

T = TypeVar("T")

PAUSES = (1.0, 2.0, 4.0)
"""Seconds between tries of what is still throttled after the SDK itself has waited."""


def patiently(ask: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Return what `ask`, which only reads, answers; where it is throttled ask again some times, and raise the last Throttled."""
    for seconds in PAUSES:
        try:
            return ask()
        except Throttled:
            pause(seconds)
    return ask()
