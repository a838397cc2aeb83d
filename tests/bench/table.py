"""The one table that the bench prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

HEADERS = ["what", "ours", "the other side", "figure", "bound", "met"]

MEASURED = ("x", "ms", "MB")
"""The units that are no counts."""


@dataclass(frozen=True)
class Row:
    """One figure and the bound that it has to keep; `unit` is "x" for a ratio. Without a bound it is there for comparison."""

    what: str
    figure: float
    bound: float | None
    unit: str = "x"
    ours: str = ""
    other: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure keeps its bound."""
        return self.bound is None or self.figure <= self.bound

    def cells(self) -> list[str]:
        """As the table shows it."""
        if self.bound is None:
            return [self.what, self.ours, self.other, _number(self.figure, self.unit), "", ""]
        return [
            self.what,
            self.ours,
            self.other,
            _number(self.figure, self.unit),
            f"<= {_number(self.bound, self.unit)}",
            "yes" if self.met else "NO",
        ]


def ratio(what: str, ours: float, other: float, bound: float | None, names: tuple[str, str]) -> Row:
    """A row of two medians, in seconds, and their ratio; `names` are the two sides."""
    return Row(what, ours / other, bound, ours=f"{names[0]}: {seconds(ours)}", other=f"{names[1]}: {seconds(other)}")


def seconds(value: float) -> str:
    """`0.0412` -> `41 ms`."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _number(value: float, unit: str) -> str:
    return f"{value:.2f} {unit}" if unit in MEASURED else f"{value:,.0f} {unit}"


def drawn(rows: Sequence[Row]) -> str:
    """The table as text."""
    return tabulate([row.cells() for row in rows], headers=HEADERS, disable_numparse=True)
