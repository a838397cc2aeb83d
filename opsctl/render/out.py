"""The one way out: whatever opsctl prints leaves through `say`, cleaned.

Known secrets are hidden, and control characters written out, but for line ends, tabs and the styles that `style` gave: a style carries a
mark that nobody outside this process can know, so that what others wrote can't colour, hide or overwrite anything.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec

from opsctl.redaction import IN_LINES, escape_surrogates, redact_output, vault, visible

MARK = f"\x1b{os.urandom(8).hex()}"
STYLED = re.compile(rf"{MARK}(\[[0-9;]*m)")
CLEAR, HOME, END_OF_LINE, REST, NO_WRAP, WRAP = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[?7l", "\x1b[?7h"


def style(text: str, **how: Any) -> str:
    """`text` in a style of click's (`fg`, `bold`), which `say` prints as such."""
    before, after = click.style("\0", **how).split("\0")
    return f"{_marked(before)}{text}{_marked(after)}"


def _marked(codes: str) -> str:
    return codes.replace("\x1b", MARK)


def say(text: str = "", *, err: bool = False) -> None:
    """Print lines."""
    _write(clean(text) + "\n", err)


def clean(text: str) -> str:
    """`text` as it leaves, with the styles that are ours, if colour is wanted."""
    pieces, plain = STYLED.split(text), colored() is False
    return "".join(("" if plain else f"\x1b{piece}") if number % 2 else redact_output(piece) for number, piece in enumerate(pieces))


def live(line: str, before: int, columns: int) -> int:
    """Draw a line of standard error, cut to `columns`, over one that was `before` characters wide; returns how wide it is."""
    shown = visible(redact_output(line))[:columns]
    _write(f"\r{shown:<{before}}", err=True)
    return len(shown)


def erase(width: int) -> None:
    """Take the live line of standard error away."""
    _write(f"\r{'':<{width}}\r", err=True)


def page(text: str, lines: int) -> None:
    """Draw `text` on a terminal from its first line on, and clear the rest; what goes beyond `lines` is cut, and that is said."""
    drawn = clean(text).splitlines()
    if len(drawn) > lines:
        drawn = [*drawn[: lines - 1], f"... {len(drawn) - lines + 1} more lines: make the window taller"]
    _write(HOME + NO_WRAP + "".join(f"{line}{END_OF_LINE}\n" for line in drawn) + REST + WRAP, err=False)


def blank() -> None:
    """Clear the terminal."""
    if sys.stdout.isatty() and not dumb_terminal():
        _write(CLEAR + HOME, err=False)


def exactly(text: str, *, err: bool = False) -> None:
    """Print what a program reads, as it stands: a credential that it asked for, or a script."""
    _write(text + "\n", err)


def _write(text: str, err: bool) -> None:
    """Write to a stream; characters that its encoding lacks are written out."""
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err, nl=False, color=colored() or None)


def dumb_terminal() -> bool:
    """Whether the terminal can only append lines."""
    return os.environ.get("TERM") == "dumb"


def colored() -> bool | None:
    """Whether NO_COLOR, FORCE_COLOR, CLICOLOR, CLICOLOR_FORCE or TERM decide on colour; None: a terminal gets it."""
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return False if dumb_terminal() or os.environ.get("CLICOLOR") == "0" else None


def as_json(what: Any, indent: int = 0) -> str:
    """`what` as JSON that a terminal shows and doesn't obey; the values that it stands for are exact but for known secrets."""
    plain = msgspec.to_builtins(what, str_keys=True, enc_hook=float)
    try:
        text = msgspec.json.encode(plain)
    except UnicodeEncodeError:
        plain = escape_surrogates(plain)
        text = msgspec.json.encode(plain)
    if vault.redact(given := text.decode()) != given:
        text = msgspec.json.encode(_each(plain, vault.redact))
    shown = (msgspec.json.format(text, indent=indent) if indent else text).decode()
    return IN_LINES.sub(lambda found: json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f", shown)


def _each(value: Any, act: Callable[[str], str]) -> Any:
    """`value` with every text in it acted upon."""
    if isinstance(value, str):
        return act(value)
    if isinstance(value, dict):
        return {act(str(name)): _each(member, act) for name, member in value.items()}
    return [_each(each, act) for each in value] if isinstance(value, list | tuple) else value
