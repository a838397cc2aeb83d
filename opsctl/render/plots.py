"""Plots on a terminal: one bar a row."""

from __future__ import annotations

import math
from typing import Any

WIDE = 40


def bars(rows: list[dict[str, Any]], column: str) -> str:
    """Draw `column` of each row as a bar, labelled with the others; rows without a number in it are left out."""
    points = [(_label(row, column), number) for row in rows if (number := _number(row.get(column))) is not None]
    most = max((number for _, number in points), default=0)
    if most <= 0:
        return ""
    wide = max(len(label) for label, _ in points)
    return "\n".join(f"{label:<{wide}}  {'█' * max(round(WIDE * number / most), number > 0)} {number:g}" for label, number in points)


def _label(row: dict[str, Any], column: str) -> str:
    return " ".join(str(value) for key, value in row.items() if key != column and value not in (None, ""))


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
