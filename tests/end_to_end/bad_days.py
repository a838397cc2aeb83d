"""What the tests of bad days share: a child watched from outside, and what every refusal owes a person."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from typing import Any

from terminal import Child, Result, until
from world import World

from opsctl.files import readable
from opsctl.sandbox import lifecycle


def plain(result: Result, code: int) -> str:
    """One line of what happened and one of what to do next, with the right exit code and no traceback; returns the first."""
    assert result.code == code, str(result)
    assert "Traceback" not in result.err + result.out, str(result)
    assert "defect" not in result.err, str(result)
    said = [line for line in result.err.splitlines() if line.startswith("opsctl: ")]
    assert len(said) == 1, str(result)
    assert result.err.splitlines()[-1].startswith("  next: "), str(result)
    return said[0]


def taken(world: World) -> bool:
    """Whether the one fault that was set has been met."""
    return not lifecycle.faults(world.rehearsal.folder)


def stopped(world: World, child: Child, *signals: signal.Signals) -> Result:
    """Stop a child once it has met the fault that was set."""
    until(lambda: taken(world))
    for number in signals:
        os.kill(child.pid, number)
    return child.wait(30)


def runs(world: World) -> list[dict[str, Any]]:
    """The ledger's runs, the newest first."""
    found: list[dict[str, Any]] = world.opsctl("-o", "json", "runs", "list", check=0).json
    return found


def states(world: World) -> list[str]:
    """How far each step of each run came, read from the ledger's file."""
    # Read-only: sqlite would otherwise create the file that the child is about to create, and the child refuses a file of that mode.
    with contextlib.closing(sqlite3.connect(f"file:{world.ledger}?mode=ro", uri=True)) as ledger:
        return [state for (state,) in ledger.execute("SELECT state FROM steps ORDER BY run, seq")]


def asked(child: Child, word: bytes) -> None:
    """Wait until a question stands on the child's terminal."""
    said = bytearray()

    def stands() -> bool:
        while readable([child._master]):
            said.extend(os.read(child._master, 65_536))
        return word in said

    until(stands)
