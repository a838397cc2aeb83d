"""The one table that the bench prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from tests.bench.bounds import BOUNDS, Bound, amount

HEADERS = ["part", "what", "ours", "the other side", "figure", "bound", ""]


@dataclass(frozen=True)
class Row:
    """One figure; a `bound` is a Bound's words, and a row without one is there for comparison."""

    bound: str
    figure: float
    ours: str = ""
    other: str = ""
    what: str = ""
    unit: str = "x"


def ratio(bound: str, ours: float, other: float, *, what: str = "") -> Row:
    """A row of two medians, in seconds, and their ratio."""
    return Row(bound, ours / other, seconds(ours), seconds(other), what)


def met(bound: Bound, row: Row | None) -> bool:
    """Whether the figure was measured and keeps its bound."""
    return row is not None and row.figure <= bound.most


def drawn(rows: Sequence[Row], parts: Sequence[str]) -> tuple[str, bool]:
    """The table of every bound of the parts that were measured, then of what is there for comparison; and whether all are met."""
    figures = {row.bound: row for row in rows if row.bound}
    bounds = [bound for bound in BOUNDS if bound.part in parts]
    cells = [_bounded(bound, figures.pop(bound.what, None)) for bound in bounds]
    cells += [["", row.what, row.ours, row.other, amount(row.figure, row.unit), "", ""] for row in rows if not row.bound]
    if figures:
        raise LookupError(f"No bound is called {', '.join(figures)}.")
    measured = {row.bound: row for row in rows}
    return tabulate(cells, headers=HEADERS, disable_numparse=True), all(met(each, measured.get(each.what)) for each in bounds)


def _bounded(bound: Bound, row: Row | None) -> list[str]:
    most = f"<= {amount(bound.most, bound.unit)}"
    if row is None:
        return [bound.part, bound.what, "not measured", bound.other, "", most, "NOT MET"]
    other = f"{bound.other}: {row.other}" if bound.other and row.other else row.other or bound.other
    return [bound.part, bound.what, row.ours, other, amount(row.figure, bound.unit), most, "met" if met(bound, row) else "NOT MET"]


def seconds(value: float) -> str:
    """`0.0412` -> `41 ms`."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"
