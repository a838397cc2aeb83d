"""What a viewing command may return besides rows (a list of dicts or structs) and a record (one of them)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class Check(Struct, frozen=True):
    """One thing that was verified; `ok` is None for what could not be asked, and `detail` says why."""

    name: str
    ok: bool | None
    detail: str = ""


class Verdict(Struct, frozen=True):
    """The result of a verification: good only when every check is; `next` is what to do when it isn't."""

    checks: list[Check]
    next: str = ""

    @property
    def good(self) -> bool:
        """Whether everything that was asked is so, and everything was asked that had to be."""
        return all(check.ok is not False for check in self.checks) and any(check.ok for check in self.checks)


class Page(Struct, frozen=True):
    """Several tables or records under headings."""

    sections: list[tuple[str, Sequence[Any] | dict[str, Any] | Series]]


class Text(Struct, frozen=True):
    """Text that is printed as it stands; `raw` text alone isn't redacted, for what a shell must be able to read."""

    text: str
    raw: bool = False


class Series(Struct, frozen=True):
    """Rows of which a terminal also draws the column `plot`, a bar each, labelled by the column `by` or by all others.

    `lines` are the values that matter, by name: each is drawn across the bars.
    """

    rows: list[dict[str, Any]]
    plot: str | None = None
    by: str | None = None
    lines: dict[str, float] = {}
