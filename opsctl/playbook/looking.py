"""Run a reading command for a `look` or a `verify`: its result, the problems in it, and the part that is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from opsctl.playbook.expectation import Expectation
from opsctl.redaction import clean_text
from opsctl.render.shapes import UNASKED, Page, Proportion, Series, Text, Verdict

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext
    from opsctl.cli.parsed import ParsedCommand
    from opsctl.engine.plan import Plan
    from opsctl.playbook.schema import PlaybookStep

UNANSWERED = "could not be queried"
"""The state of a row whose source didn't answer."""
MAX_ROWS = 1000
"""How many rows of a stream are read."""
RECORDED_ROWS, RECORDED_CHARACTERS = 20, 200
"""How many rows of a table, and how many characters of a text, are recorded in the ledger."""


class Observation(Struct, frozen=True):
    """A command's result, and the problems in it, in words."""

    found: Any
    wrong: list[str] = []


def read(app: AppContext, parsed: ParsedCommand) -> Any:
    """Run a reading command. A stream is read into a list, up to one row more than MAX_ROWS."""
    command = parsed.command
    if command.kind == "local":
        return command.function(app, **parsed.params)
    found = command.function(app.read, **parsed.params)
    return list(islice(found, MAX_ROWS + 1)) if isinstance(found, Iterator) else found


def verify(app: AppContext, step: PlaybookStep, parsed: ParsedCommand) -> Observation:
    """Run a reading command, and check its result by its own verdict or by the step's expectation."""
    found = read(app, parsed)
    if isinstance(found, Verdict):
        wrong = [f"{c.name}: {c.detail}" if c.detail else c.name for c in found.checks if c.ok is False]
        return Observation(found, wrong or found.wrong or found.unproven)
    if not step.expect or not isinstance(step.expect, dict):
        return Observation(found)
    wrong = Expectation.parse(step.expect, parsed.values).unmet(found)
    if isinstance(found, list) and len(found) > MAX_ROWS:
        wrong.append(f"there are more than {MAX_ROWS:,} rows; only the first {MAX_ROWS:,} were checked")
    return Observation(found, wrong)


def failed_sources(found: Any) -> list[str]:
    """The sources of a page that could not be queried, each with the reason."""
    failed = []
    for title, part in found.sections if isinstance(found, Page) else []:
        rows = [row for row in part if isinstance(row, dict)] if isinstance(part, list) else []
        failed += [f"{title}: {row.get('why', '')}" for row in rows if row.get("state") == UNANSWERED]
        failed += [f"{next(iter(row.values()), '')}: {row.get('why', '')}" for row in rows if title == UNASKED]
    return failed


def is_blind(found: Any) -> bool:
    """Whether no source of a page could be queried."""
    tables = [part for _, part in found.sections if isinstance(part, list)] if isinstance(found, Page) else []
    return bool(tables) and all(len(part) == 1 and isinstance(part[0], dict) and part[0].get("state") == UNANSWERED for part in tables)


def remaining_changes(plan: Plan) -> list[str]:
    """The changes of a plan that are not done yet, in words. A plan without any change verifies nothing, which is a problem too."""
    wrong = [f"not done yet: {p.change.summary} ({p.why or p.state})" for p in plan.changes if p.state != "done"]
    return wrong or ([] if plan.changes else ["the command has nothing to check, so nothing was verified"])


def for_ledger(found: Any) -> Any:
    """The part of a result that is recorded: plain values, the first rows of each table, texts cleaned and cut."""
    if isinstance(found, Verdict):
        return [for_ledger(check) for check in found.checks]
    if isinstance(found, Page):
        return {title: for_ledger(part) for title, part in found.sections}
    if isinstance(found, Series):
        return for_ledger(found.rows)
    if isinstance(found, Text):
        return for_ledger(found.text)
    if isinstance(found, Struct):
        return for_ledger(msgspec.structs.asdict(found))
    if isinstance(found, dict):
        return {str(name): for_ledger(value) for name, value in found.items()}
    if isinstance(found, str):
        return clean_text(found, RECORDED_CHARACTERS)
    if isinstance(found, Sequence):
        left = len(found) - RECORDED_ROWS
        return [for_ledger(each) for each in found[:RECORDED_ROWS]] + ([f"{left} more"] if left > 0 else [])
    if isinstance(found, Proportion):
        return float(found)
    return found if found is None or isinstance(found, bool | int | float | datetime) else for_ledger(str(found))
