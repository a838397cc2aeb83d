"""Systems: adapters are made when they are first asked for, once."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from opsctl.adapters.base import locked_cached_property


class Kitchen:
    def __init__(self) -> None:
        self.begun = threading.Barrier(2)
        self.cooked = 0

    @locked_cached_property
    def dish(self) -> int:
        self.cooked += 1
        # A second thread that came in here would be let through; alone, this one waits in vain.
        with contextlib.suppress(threading.BrokenBarrierError):
            self.begun.wait(0.2)
        return self.cooked


def test_two_threads_that_ask_at_once_get_the_same_thing() -> None:
    kitchen = Kitchen()
    with ThreadPoolExecutor(2) as pool:
        served = list(pool.map(lambda _: kitchen.dish, range(2)))
    assert served == [1, 1]
    assert kitchen.cooked == 1
