"""Two sides measured by turns, so that whatever else the machine does weighs on both."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


class Failed(Exception):
    """A side that didn't do its work: there is nothing to compare."""


Side = Callable[[], float]
"""Does its work once and returns how long the part that counts took, in seconds."""


def by_turns(sides: Sequence[Side], repeats: int, before: Callable[[], object] = lambda: None) -> list[float]:
    """The median of each side over `repeats` turns, the order reversed every other turn; `before` is run ahead of each."""
    taken: list[list[float]] = [[] for _ in sides]
    for turn in range(repeats):
        places = range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides)))
        for place in places:
            before()
            taken[place].append(sides[place]())
    return [statistics.median(times) for times in taken]


def command(*words: str, folder: Path | None = None, may_return: tuple[int, ...] = (0,)) -> Side:
    """A side that runs a command to its end, its output thrown away; a failing one ends the bench."""

    def run() -> float:
        began = time.perf_counter()
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, check=False)
        taken = time.perf_counter() - began
        if done.returncode not in may_return:
            raise Failed(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return taken

    return run
