"""Standard output: plans, outcomes, rows, records and verdicts, as tables or as JSON. Told what to draw, it asks nobody."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from opsctl.errors import AlertFiring, CheckFailed, Refused
from opsctl.formats.quantities import counted
from opsctl.redaction import vault
from opsctl.render import out
from opsctl.render.plots import bars
from opsctl.render.shapes import (
    TERMINAL_ROWS,
    Alerts,
    Check,
    EventRecord,
    Finding,
    Listing,
    NoRows,
    Page,
    Series,
    StepRecord,
    SystemState,
    Text,
    Verdict,
    Watch,
)
from opsctl.render.tables import cell, hang, record, table, terminal_width
from opsctl.render.visible import indented, visible

if TYPE_CHECKING:
    from opsctl.engine.ledger.rows import Step
    from opsctl.engine.outcome import Outcome
    from opsctl.engine.plan import Plan
    from opsctl.shell import Script

MARKS = {
    "pending": ("~", "yellow"),
    "begun": ("?", "magenta"),
    "made": ("…", "yellow"),
    "done": ("=", "bright_black"),
    "applied": ("✓", "green"),
    "moved": ("!", "red"),
    "failed": ("✗", "red"),
    "unknown": ("?", "magenta"),
    "skipped": ("-", "bright_black"),
    "critical": ("✗", "red"),
    "warning": ("!", "yellow"),
    "ok": ("✓", "green"),
    "not configured": ("-", "bright_black"),
}
"""The mark and the colour of a change's, a step's or a system's state."""

STATES = {"done": "already done", "applied": "done", "moved": "changed by somebody else", "made": "not verified yet"}
"""The words of a step's state, where they aren't the state itself."""
UNSHOWN = frozenset(("steps", "bounds", "row"))
"""What only JSON shows of an event."""
SIDE_BY_SIDE = 100
"""Columns from which on an event's details stand beside it, and not below it."""
LONG = 3
"""Items of a list that are still shown one by one."""

WORDS = {
    "unchanged": "Nothing to do: already in the wanted state.",
    "would-change": "Dry run: nothing was changed.",
    "changed": "Done. Verified.",
    "partial": "Partly done.",
    "refused": "Refused.",
    "failed": "Failed.",
    "unknown": "Outcome unknown: it may or may not have happened.",
    "waiting": "Waiting for an answer.",
}
DRY = {"partial": "Dry run: it would be partly done; nothing was changed."}
"""What a dry run says in other words."""


class Screen:
    """Prints to standard output in one of two forms, `table` or `json`; nothing leaves it unredacted."""

    def __init__(self, output: str) -> None:
        self.json = output == "json"
        self.headed = False

    def _print(self, text: str, *, err: bool = False) -> None:
        out.say(text, err=err)

    def show(self, what: Any) -> None:
        """Print a command's result; raises CheckFailed for a verdict that isn't good."""
        if isinstance(what, Iterator):
            return self._stream(what)
        if isinstance(what, Watch):
            return self._watch(what)
        if isinstance(what, Text) and self.json and what.data is not None:
            what = what.data
        if isinstance(what, Text):
            (out.exactly if what.raw else out.say)(what.text)
        elif self.json:
            self._print(out.as_json(_to_plain(what), indent=2))
        else:
            self._print(_format(what))
        if isinstance(what, Verdict) and not what.good:
            raise _verdict_error(what)
        return None

    def _stream(self, rows: Iterator[dict[str, Any]]) -> None:
        """Print rows as they come. Standard error gets the columns' names on a terminal, `nothing` without rows, and how many are left."""
        on_terminal = sys.stdout.isatty() and not self.json
        listing = rows if isinstance(rows, Listing) else None
        limit = None if listing is None else listing.limit or (TERMINAL_ROWS if on_terminal and not listing.whole else None)
        shown = 0
        for row in islice(rows, limit):
            if not shown and on_terminal:
                self._print("  ".join(row), err=True)
            shown += 1
            self._print(out.as_json(_to_plain(row)) if self.json else _row_text(row))
        if not shown and not self.json:
            self._print(_format([]), err=True)
        if listing and shown == limit and (more := listing.total() - shown) > 0:
            self._print(f"{more:,} more: --limit N shows N of them, --all shows all", err=True)

    def _watch(self, watch: Watch) -> None:
        """Draw each page in the last one's place on a terminal, one after another elsewhere; Ctrl-C is the way to end it."""
        on_terminal = sys.stdout.isatty() and not out.dumb_terminal() and not self.json
        try:
            if on_terminal:
                out.blank()
            for page in watch.pages:
                if self.json:
                    self._print(out.as_json(_to_plain(page)))
                elif on_terminal:
                    out.page(_format(page), shutil.get_terminal_size().lines - 1)
                else:
                    self._print(f"{_format(page)}\n")
        except KeyboardInterrupt:
            out.say(err=True)

    def header(self, text: str) -> None:
        """Print where a result comes from, on standard error; JSON is for a program, which asked."""
        if text and not self.json:
            self.headed = True
            with suppress(OSError):
                self._print(visible(text), err=True)

    def plan(self, plan: Plan, *, typed: str = "", err: bool = True) -> None:
        """Draw a plan before it is applied; on standard error, since the outcome is the output. `typed` is the line with its options.

        Only the command line isn't wrapped, so that it can be copied.
        """
        if self.json and err:
            return
        width = terminal_width(err=err)
        where = (f"in {plan.environment}, account {plan.account}, as {visible(plan.caller)}", configured_by(plan.file))
        self._print("\n".join([visible(typed or plan.command), *(hang("", line, 2, width) for line in where), ""]), err=err)
        for planned in plan.changes:
            self._print(_format_planned(planned, width), err=err)
        self._print(f"\n{hang('', _totals(plan), 0, width)}\n", err=err)

    def script(self, script: Script) -> None:
        """Print a script exactly, or raise Refused: masked, or in another encoding, it would do something else."""
        written = str(script).rstrip("\n")
        if vault.redact(written) != written:
            raise Refused("The script would show a secret that was read just now, so it isn't printed.", "Leave --as-shell out.")
        encoding = (sys.stderr if self.json else sys.stdout).encoding or "utf-8"
        try:
            written.encode(encoding)
        except UnicodeEncodeError:
            raise Refused(f"The script holds letters that the output's encoding, {encoding}, lacks.", "Set PYTHONUTF8=1.") from None
        out.exactly(written, err=self.json)

    def outcome(self, outcome: Outcome, *, aside: bool = False) -> None:
        """Print what came of a command; `aside`, on standard error, where the output itself is for a shell."""
        if self.json:
            return self._print(out.as_json(outcome.as_json(), indent=2))
        if outcome.dry_run and outcome.plan:
            self.plan(outcome.plan, typed=outcome.typed, err=aside)
        elif outcome.run and not (sys.stdout.isatty() and sys.stderr.isatty()):
            for change in outcome.changes:
                self._print(_format_change(change, terminal_width()))
        if not outcome.error:
            told = f"  opsctl runs show {outcome.run}" if outcome.run else ""
            words = {**WORDS, **DRY} if outcome.dry_run else WORDS
            self._print(f"{words[outcome.result]}{told}", err=aside)
        return None


def _verdict_error(verdict: Verdict) -> CheckFailed:
    """The error of a verdict that isn't good; an alert that fires has its own exit code."""
    told = ", ".join(verdict.wrong)
    if isinstance(verdict, Alerts):
        fires = any(check.ok is False for check in verdict.checks)
        return AlertFiring(f"Fires: {told}.", verdict.next) if fires else CheckFailed(f"No all-clear: {told}.", verdict.next)
    return CheckFailed(f"Failed: {told}.", verdict.next)


def configured_by(file: str) -> str:
    """The line of a header that names the environment's file."""
    return f"configured by {visible(file)}"


def _mark(state: str) -> str:
    mark, colour = MARKS[state]
    return out.style(mark, fg=colour)


def _format_planned(planned: Step, width: int | None) -> str:
    """A change of a plan: what it does and to how many, the state before and after, and how to undo it."""
    impact = f"  {counted(planned.count, planned.unit)}" if planned.count else ""
    head = hang(f" {_mark(planned.state)} {planned.seq}  ", f"{visible(planned.change.summary)}{impact}", 6, width)
    facts = []
    before, after = planned.change.difference()
    if planned.pending and (before is not None or after is not None):
        facts.append(f"{_brief(before)} -> {_brief(after)}")
    if planned.why:
        facts.append(f"{'already done: ' if planned.state == 'done' else ''}{visible(planned.why)}")
    if planned.after is not None:
        facts.append(f"after change {planned.after} is applied")
    lines = [embolden_end(head, impact), *(hang(f"{'':7}", fact, 9, width) for fact in facts)]
    if planned.pending:
        undo = hang(f"{'':7}", f"undo: {visible(planned.undo)}", 9, width)
        lines.append(out.style(undo, fg="cyan" if planned.reversible else "red"))
    return "\n".join(lines)


def embolden_end(text: str, end: str) -> str:
    """`text` with its end in bold, unless the end was wrapped."""
    return text.removesuffix(end) + out.style(end, bold=True) if end and text.endswith(end) else text


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_brief(v)}" for k, v in value.items())
    return "nothing" if value is None else visible(str(value))


def _totals(plan: Plan) -> str:
    todo, left = len(plan.pending), sum(planned.state == "skipped" for planned in plan.changes)
    affects = ", ".join(counted(count, unit) for unit, count in plan.impact.items() if count)
    parts = (f"{todo} of {len(plan.changes)} to change", f"{left} skipped" if left else "", f"affects {affects}" if affects else "")
    return f"{'; '.join(part for part in parts if part)}."


def _format_change(change: dict[str, Any], width: int | None) -> str:
    why = f": {change['why']}" if change["why"] else ""
    return hang(f" {_mark(change['state'])} {change['seq']}  ", visible(change["summary"] + why), 6, width)


def _to_plain(what: Any) -> Any:
    if isinstance(what, Alerts):
        return what.rows
    if isinstance(what, Verdict):
        return {"good": what.good, "checks": what.checks}
    if isinstance(what, Page):
        return {head: _to_plain(part) for head, part in (*what.sections, *what.details)}
    return what.rows if isinstance(what, Series) else what


def _format(what: Any) -> str:
    width = terminal_width()
    if isinstance(what, str | NoRows):
        return what if isinstance(what, str) else what.text
    if isinstance(what, Alerts):
        return table(what.rows, width)
    if isinstance(what, Verdict):
        return "\n".join(_format_check(check, width) for check in what.checks)
    if isinstance(what, Page):
        return "\n\n".join(f"{out.style(head, bold=True)}\n{_format(part)}" for head, part in what.sections)
    if isinstance(what, Series):
        drawn = bars(what.rows, what.plot, what.by, what.lines) if what.plot and sys.stdout.isatty() else ""
        return "\n\n".join(part for part in (table(what.rows, width), drawn) if part)
    if isinstance(what, Sequence):
        return _format_rows(what, width)
    return record(msgspec.to_builtins(what) if not isinstance(what, dict) else what, width)


def _format_rows(rows: Sequence[Any], width: int | None) -> str:
    if rows and isinstance(rows[0], Finding):
        return "\n".join(_format_finding(finding, width) for finding in rows)
    if rows and isinstance(rows[0], SystemState):
        wide = max(len(row.system) for row in rows)
        return "\n".join(
            hang(f" {_mark(row.state)} {row.system:<{wide}}  ", visible(row.summary or row.state), wide + 5, width) for row in rows
        )
    if rows and isinstance(rows[0], StepRecord):
        several = len({step.run for step in rows}) > 1
        heads = [f"{row.run}\n" if several and (n == 0 or rows[n - 1].run != row.run) else "" for n, row in enumerate(rows)]
        return "\n".join(head + _format_step(step, width) for head, step in zip(heads, rows, strict=True))
    if rows and isinstance(rows[0], EventRecord):
        return "\n".join(_format_event(event, width) for event in rows)
    return table(rows, width)


def _format_step(step: StepRecord, width: int | None) -> str:
    facts = {
        "change": f"{_brief(step.before)} -> {_brief(step.after)}" if (step.before, step.after) != (None, None) else "",
        "affects": counted(step.affects, step.unit) if step.affects else "",
        "result": step.why,
        "evidence": _short(step.evidence),
        "undo": step.undo if step.state in ("applied", "made", "unknown") else "",
    }
    head = hang(f" {_mark(step.state)} {step.step}  ", f"{visible(step.what)} ({STATES.get(step.state, step.state)})", 6, width)
    return "\n".join([head, *(hang(f"{'':6}{name + ':':<10}", visible(fact), 16, width) for name, fact in facts.items() if fact)])


def _format_event(event: EventRecord, width: int | None) -> str:
    step = f"step {event.step}" if event.step is not None else ""
    detail = {key: value for key, value in event.detail.items() if key not in UNSHOWN}
    head, text = f"{event.at:%Y-%m-%d %H:%M:%S}  {event.event:<10} {step:<8}", visible(_short(detail))
    if width is not None and width < SIDE_BY_SIDE and text:
        return f"{head.rstrip()}\n{hang(' ' * 4, text, 4, width)}"
    return hang(head, text, 40, width).rstrip()


def _short(values: dict[str, Any]) -> str:
    """The facts of a record in a line; of a long list, how many they are."""
    facts = ((key, value) for key, value in values.items() if value not in (None, "", {}, []))
    return "; ".join(f"{key}: {f'{len(v):,} items' if isinstance(v, list) and len(v) > LONG else cell(v)}" for key, v in facts)


def _format_finding(finding: Finding, width: int | None) -> str:
    mark, colour = MARKS[finding.severity]
    severity = out.style(f"{mark} {finding.severity:<8}", fg=colour, bold=finding.severity == "critical")
    text = hang(f" {severity}  ", visible(f"{finding.system}: {finding.finding}"), 13, width)
    return f"{text}\n{'':13}next: {visible(finding.next)}" if finding.next else text


def _format_check(check: Check, width: int | None) -> str:
    mark = _mark({True: "applied", False: "failed", None: "skipped"}[check.ok])
    return hang(f" {mark} ", visible(f"{check.name}{': ' if check.detail else ''}{check.detail}"), 3, width)


def _row_text(row: dict[str, Any]) -> str:
    return "  ".join(indented(v) if isinstance(v, str) else cell(v) for v in row.values())
