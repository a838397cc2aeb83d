"""Plots on a terminal: one bar a row, and the values that they are held against as lines across all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from opsctl.render.visible import visible

WIDE = 40
BAR, LINE = "█", "│"
NO_LINES: dict[str, float] = {}


def bars(rows: list[dict[str, Any]], column: str, by: str | None = None, lines: Mapping[str, float] = NO_LINES) -> str:
    """Draw `column` of each row as a bar, labelled with `by` or with all others; rows without a number in it are left out.

    Each of `lines` is drawn across the bars at its value, and named below them.
    """
    points = [(_label(row, column, by), number) for row in rows if (number := _number(row.get(column))) is not None]
    most = max([*(number for _, number in points), *lines.values()], default=0)
    if most <= 0 or not points:
        return ""
    wide = max(len(label) for label, _ in points)
    places = {max(round(WIDE * value / most), 1) - 1 for value in lines.values()}
    drawn = [f"{label:<{wide}}  {_bar(number / most, places)} {number:g}" for label, number in points]
    return "\n".join([*drawn, *_named(lines, wide, most)])


def _bar(share: float, places: set[int]) -> str:
    """A bar of so much of the width; one with lines across it is as wide as the widest, so that they can be seen."""
    bar = BAR * max(round(WIDE * share), share > 0)
    if not places:
        return bar
    return "".join(LINE if place in places else cell for place, cell in enumerate(f"{bar:<{WIDE}}"))


def _named(lines: Mapping[str, float], wide: int, most: float) -> list[str]:
    """What each line is, below the place where it is."""
    return [
        f"{'':<{wide}}  {LINE.rjust(max(round(WIDE * value / most), 1))} {value:g} {name}"
        for name, value in sorted(lines.items(), key=lambda line: line[1])
    ]


def _label(row: dict[str, Any], column: str, by: str | None) -> str:
    told = [value for key, value in row.items() if (key == by if by else key != column) and value not in (None, "")]
    return visible(" ".join(f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value) for value in told))


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
