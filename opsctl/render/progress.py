"""Progress on standard error: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable

from opsctl.engine.ledger.rows import Step
from opsctl.engine.reporter import Reporter
from opsctl.render import out
from opsctl.render.tables import hang, terminal_width
from opsctl.render.visible import visible

EVERY = 0.1
PLAIN_EVERY = 5.0


class Progress(Reporter):
    """Draws each step as it goes. Seconds come from `monotonic`."""

    def __init__(self, *, live: bool | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.live = sys.stderr.isatty() and not out.dumb_terminal() if live is None else live
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._began: dict[int, float] = {}
        self._drawn = 0.0
        self._noted: dict[int, str] = {}
        self._width = 0

    def step_started(self, step: Step) -> None:
        """Start the step's clock."""
        self._began[id(step)] = self._monotonic()
        self._draw(step, "checking", quiet=True)

    def step_waiting(self, step: Step, text: str) -> None:
        """Show what a step waits for."""
        self._draw(step, text)

    def step_progress(self, step: Step, done: int, total: int | None, unit: str) -> None:
        """Show how far a step's batches came."""
        amount = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        bar = _bar(done, total) if self.live and total else ""
        self._draw(step, f"{bar}{amount} {unit}", often=True)

    def step_ended(self, step: Step) -> None:
        """Leave a line that says how the step ended and, where the outcome isn't printed elsewhere, one of what was found."""
        words = {"applied": "done", "done": "already done"}
        width = terminal_width(err=True)
        ending = f"{visible(step.change.summary)} ({self._elapsed(step):.1f} s)"
        self._line(hang(f"  {words.get(step.state, step.state):<10} ", ending, 13, width))
        if self.live and step.why:
            self._line(hang(f"{'':13}", visible(step.why), 13, width))

    def close(self) -> None:
        """Take the live line away."""
        with self._mutex:
            if self._width:
                out.erase(self._width)
                self._width = 0

    def message(self, line: str) -> None:
        """Show a line of its own."""
        self._line(line)

    def _elapsed(self, step: Step) -> float:
        now = self._monotonic()
        return now - self._began.get(id(step), now)

    def _draw(self, step: Step, text: str, *, often: bool = False, quiet: bool = False) -> None:
        now = self._monotonic()
        with self._mutex:
            new = text != self._noted.get(id(step))
            due = now - self._drawn >= (EVERY if self.live else PLAIN_EVERY)
            if not (due or (self.live and not often) or (new and not often)):
                return
            if not self.live and (quiet or not (due or new)):
                return
            self._drawn, self._noted[id(step)] = now, text
            line = visible(f"  … {step.change.target}: {text} ({self._elapsed(step):.0f} s)")
            if not self.live:
                out.say(line, err=True)
                return
            self._width = out.live(line, self._width, shutil.get_terminal_size().columns - 1)

    def _line(self, text: str) -> None:
        with self._mutex:
            if self._width:
                out.erase(self._width)
            out.say(text, err=True)
            self._width = 0


def _bar(done: int, total: int, wide: int = 24) -> str:
    full = min(wide, wide * done // max(total, 1))
    return f"[{'#' * full}{'.' * (wide - full)}] "
