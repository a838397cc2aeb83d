"""Questions on the terminal; without one they raise InputRequired."""

from __future__ import annotations

import getpass
import os
import select
import termios
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import FileIO

from opsctl.errors import Hint, InputRequired, Interrupted
from opsctl.redaction import Secret, redact_output, visible

LOOK_EVERY = 0.2
"""Seconds between two checks for Ctrl-C, which only the main thread receives, while a question may be in another thread."""


class Prompt:
    """Asks on the controlling terminal, so that standard input stays free for a secret's value.

    Text typed before a question is discarded.

    With `assume` (sandbox only), the first choice is the answer. `ahead` is called before each question, to clear its line.
    """

    def __init__(self, *, assume: bool = False, path: str = "/dev/tty", ahead: Callable[[], None] = lambda: None) -> None:
        self.assume = assume
        self._path = path
        self._ahead = ahead
        self._left = threading.Event()

    @property
    def present(self) -> bool:
        """Whether there is a terminal to ask on."""
        with suppress(OSError):
            os.close(os.open(self._path, os.O_RDWR | os.O_NOCTTY))
            return True
        return False

    def text(self, question: str, otherwise: Hint, *, ahead: str = "") -> str:
        """Ask for a line, with the lines of `ahead` above; raises InputRequired with the hint `otherwise` without a terminal."""
        if not self.present:
            raise InputRequired(f"There is no terminal to ask: {question}", otherwise)
        self._ahead()
        try:
            with open(self._path, "r+b", buffering=0) as terminal:
                # Discard what was typed before the question.
                with suppress(termios.error):
                    termios.tcflush(terminal, termios.TCIFLUSH)
                terminal.write(redact_output(f"{ahead}{visible(question)}: ").encode())
                return self._read_line(terminal, question, otherwise)
        except OSError as cause:
            raise InputRequired(f"{question}: the terminal can't be read.", otherwise) from cause

    def leave(self) -> None:
        """Cancel the questions that wait in other threads; they raise InputRequired."""
        self._left.set()

    def _read_line(self, terminal: FileIO, question: str, otherwise: Hint) -> str:
        line = b""
        try:
            while not line.endswith(b"\n"):
                if self._left.is_set():
                    terminal.write(b"\n")
                    raise InputRequired(f"{question}: it was not answered.", otherwise)
                if select.select([terminal], [], [], LOOK_EVERY)[0]:
                    if not (piece := terminal.read(1)):
                        raise InputRequired(f"{question}: the terminal was closed.", otherwise)
                    line += piece
        except KeyboardInterrupt:
            terminal.write(b"\n")
            raise Interrupted("Stopped at a question. The ledger has what was done so far.", "opsctl runs list --active") from None
        return line.decode(errors="replace").strip()

    def agree(self, question: str, otherwise: Hint) -> bool:
        """Whether the answer is yes; anything else is a no."""
        return self.text(f"{question} [y/N]", otherwise).lower() in ("y", "yes")

    def choose(self, question: str, choices: Sequence[str], otherwise: Hint) -> str:
        """Ask until one of `choices` is typed."""
        if self.assume:
            return choices[0]
        hint = ""
        while (answer := self.text(f"{question} [{'/'.join(choices)}]", otherwise, ahead=hint)) not in choices:
            hint = f"{answer!r} is not an answer; type {' or '.join(choices)}.\n"
        return answer

    def secret(self, question: str, otherwise: Hint = "Run it in a terminal.") -> Secret:
        """Ask for a value without showing it."""
        if not self.present:
            raise InputRequired(f"There is no terminal to ask: {question}", otherwise)
        self._ahead()
        return Secret(getpass.getpass(redact_output(f"{visible(question)}: ")))
