"""What a viewing command may return besides rows (a list of dicts or structs) and a record (one of them)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct


class Proportion(float):
    """A part of a whole, from 0 to 1: shown in percent, and a number for whoever reads it by machine."""

    def __str__(self) -> str:
        """Show it with a decimal, so that 79.96 % isn't taken for 80 %."""
        return f"{self:.1%}"


class Check(Struct, frozen=True):
    """One thing that was verified; `ok` is None for what could not be queried, and `detail` says why.

    `applies` is False for what is None because there is nothing to ask here, such as a former key where none was ever rotated.
    """

    name: str
    ok: bool | None
    detail: str = ""
    applies: bool = True


class Verdict(Struct, frozen=True):
    """The result of a verification: good only when every check is; `next` is what to do when it isn't."""

    checks: list[Check]
    next: str = ""

    @property
    def good(self) -> bool:
        """Whether everything that was asked is so, and everything was asked that had to be."""
        return all(check.ok is not False for check in self.checks) and any(check.ok for check in self.checks)

    @property
    def wrong(self) -> list[str]:
        """What isn't so, or what keeps it from being good, in words; empty when it is good."""
        bad = [check.name for check in self.checks if check.ok is False]
        return [] if self.good else bad or ["nothing could be asked"]

    @property
    def unproven(self) -> list[str]:
        """What couldn't be queried though it had to be, with the reason: a proof has to see all of it."""
        return [f"{check.name} couldn't be queried: {check.detail}" for check in self.checks if check.ok is None and check.applies]


class Alert(Struct, frozen=True, kw_only=True):
    """One thing that is watched, in percent; `source` is where the value is from, or why there is none."""

    alert: str
    of: str
    value: float | None
    threshold: float
    unit: str = "%"
    state: Literal["ok", "fires", "unknown"]
    source: str


def _describe(row: Alert) -> str:
    return row.source if row.value is None else f"{row.value:g} {row.unit}, threshold {row.threshold:g} {row.unit}; {row.source}"


class Alerts(Verdict, frozen=True):
    """What is watched, as one table; good only when everything could be asked and nothing fires."""

    rows: list[Alert] = []

    @classmethod
    def of(cls, rows: list[Alert], next: str = "") -> Alerts:
        """The verdict on these."""
        words = {"ok": True, "fires": False, "unknown": None}
        checks = [Check(f"{row.alert} ({row.of})", words[row.state], _describe(row)) for row in rows]
        return cls(checks, next, rows)

    @property
    def good(self) -> bool:
        """Whether all is well, as far as it takes."""
        return all(check.ok for check in self.checks)

    @property
    def wrong(self) -> list[str]:
        """What fires; when nothing does, what couldn't be queried."""
        unknown = [f"{check.name} couldn't be queried" for check in self.checks if check.ok is None]
        return [check.name for check in self.checks if check.ok is False] or unknown


UNASKED = "Could not be queried"
"""The title of a page's section that names what couldn't be queried, and why: with rows in it, the page isn't the whole truth."""


Level = Literal["critical", "unknown", "warning", "ok", "not configured"]


class Finding(Struct, frozen=True):
    """One thing that is wrong or could not be checked, and what to type next."""

    severity: Level
    system: str
    finding: str
    next: str = ""


class NoRows(list[Any]):
    """No rows; `text` is what a person reads in their place. In JSON it is an empty list."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class SystemState(Struct, frozen=True):
    """A system in one line; `state` is the severity of its worst finding."""

    system: str
    state: Level
    summary: str


class Text(Struct, frozen=True):
    """Text that is printed as it stands; `raw` text alone isn't redacted, for what a shell must be able to read.

    `data` is what JSON output prints instead, where the text itself isn't JSON.
    """

    text: str
    raw: bool = False
    data: Any = None


class Series(Struct, frozen=True):
    """Rows of which a terminal also draws the column `plot`, a bar each, labelled by the column `by` or by all others.

    `lines` are the values that matter, by name: each is drawn across the bars.
    """

    rows: list[dict[str, Any]]
    plot: str | None = None
    by: str | None = None
    lines: dict[str, float] = {}


class Listing(Iterator[dict[str, Any]]):
    """Rows as they come. Only `limit` of them are shown; without `limit` or `whole`, a terminal gets the first TERMINAL_ROWS.

    `total` counts them all, and is called only when some may not be shown.
    """

    def __init__(self, rows: Iterator[dict[str, Any]], total: Callable[[], int], *, limit: int | None = None, whole: bool = False) -> None:
        self._rows, self.total, self.limit, self.whole = rows, total, limit, whole

    def __next__(self) -> dict[str, Any]:
        """The next row."""
        return next(self._rows)


TERMINAL_ROWS = 50
"""Rows of a long listing that a terminal gets unasked."""


class StepRecord(Struct, frozen=True, kw_only=True):
    """A step of a run: what was there before and after, how it ended, and what was observed."""

    run: str
    step: int
    state: str
    what: str
    before: Any
    after: Any
    affects: int
    unit: str
    why: str
    evidence: dict[str, Any]
    undo: str


class EventRecord(Struct, frozen=True, kw_only=True):
    """An event of a run."""

    at: datetime
    run: str
    event: str
    step: int | None
    detail: dict[str, Any]


Section = Sequence[Any] | dict[str, Any] | Series | str


class Page(Struct, frozen=True):
    """Several tables, records or texts under headings; `details` are sections that only JSON has."""

    sections: list[tuple[str, Section]]
    details: list[tuple[str, Section]] = []


class Watch(Struct, frozen=True):
    """A page that is looked at anew, and drawn over the last one, until somebody has seen enough."""

    pages: Iterator[Page]
