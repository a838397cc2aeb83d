"""Tables, records and lines that fit the terminal: text wraps between words, and rows become records where columns don't fit."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from opsctl.render.visible import visible

GAP = 2
NARROWEST = 20
"""The fewest columns that a text is given beside its prefix."""


def terminal_width(*, err: bool = False) -> int | None:
    """Columns of the terminal that standard output, or with `err` standard error, is; None without one, since programs read whole lines."""
    return shutil.get_terminal_size().columns if (sys.stderr if err else sys.stdout).isatty() else None


def cell(value: Any) -> str:
    """A value in words: times without fractions, yes and no, percents."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {cell(each)}" for key, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else visible(str(value))


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns, but for words that are longer."""
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]


def hang(prefix: str, text: str, indent: int, width: int | None) -> str:
    """`text` after a prefix that is `indent` columns wide, with its further lines under its first."""
    lines = wrap(text, max(width - indent, NARROWEST)) if width else [text]
    return prefix + f"\n{'':{indent}}".join(lines)


def table(rows: Sequence[Any], width: int | None) -> str:
    """Rows as a table of at most `width` columns, or as records where its columns don't fit."""
    if not rows:
        return "nothing"
    from tabulate import tabulate

    plain = [row if isinstance(row, dict) else msgspec.structs.asdict(row) for row in rows]
    heads = list(dict.fromkeys(key for row in plain for key in row))
    lines = [[cell(row.get(head)) for head in heads] for row in plain]
    if width is not None:
        # tabulate makes a column two wider than its head.
        widths = fit([[f"{head}__" for head in heads], *lines], width)
        if widths is None:
            return "\n\n".join(record(row, width) for row in plain)
        lines = [["\n".join(wrap(text, most)) for text, most in zip(line, widths, strict=True)] for line in lines]
        heads = ["\n".join(wrap(head, most - 2)) for head, most in zip(heads, widths, strict=True)]
    drawn: str = tabulate(lines, headers=heads, tablefmt="simple", disable_numparse=True)
    return "\n".join(line.rstrip() for line in drawn.splitlines())


def fit(lines: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """The columns' widths that keep each line within `width`: the widest give way first; None where the longest words don't fit."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(word) for text in column for word in (text.split() or [""])) for column in columns]
    room = width - GAP * (len(columns) - 1)
    while sum(widths) > room:
        able = [n for n in range(len(widths)) if widths[n] > least[n]]
        if not able:
            return None
        widths[max(able, key=lambda n: widths[n])] -= 1
    return widths


def record(values: Mapping[str, Any], width: int | None) -> str:
    """A record, one value a line."""
    wide = max((len(key) for key in values), default=0)
    return "\n".join(hang(f"{key:<{wide}}  ", cell(value), wide + GAP, width).rstrip() for key, value in values.items())
