"""A process that makes many runs keeps no file open for each: a worker lives for weeks."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

from terminal import until

from opsctl.testing.rig import Rig, Set


def renewers() -> int:
    return sum(thread.name == "lease-renewer" for thread in threading.enumerate())


def test_what_a_run_opened_is_closed_when_nobody_holds_it(tmp_path: Path) -> None:
    def many(name: str, count: int) -> int:
        for number in range(count):
            (tmp_path / f"{name}{number}").mkdir()
            rig = Rig(tmp_path / f"{name}{number}")
            assert rig.run(Set(name="a")).result == "changed"
            del rig
        until(lambda: renewers() == running)
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    running = renewers()
    before = many("first", 1)
    assert many("more", 10) <= before


def test_the_renewal_of_a_lock_ends_with_the_last_that_is_held(tmp_path: Path) -> None:
    running, locks = renewers(), Rig(tmp_path).ledger.locks
    leases = [locks.acquire(target, "run", "me", "a test") for target in ("a", "b")]
    assert renewers() == running + 1
    locks.release(leases[0])
    assert locks._still_renewing()
    locks.release(leases[1])
    until(lambda: renewers() == running)
    again = locks.acquire("a", "run", "me", "a test")
    assert renewers() == running + 1
    locks.release(again)
    until(lambda: renewers() == running)
