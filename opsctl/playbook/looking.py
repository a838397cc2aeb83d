"""Running a reading command for a `look` or a `verify`: what it returned, what is wrong with it, and what of it is kept."""

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

SILENT = "could not be asked"
"""The state of a page's row that stands for a source which didn't answer."""
ROWS = 1000
"""How many rows of a stream are looked at."""
KEPT, LONGEST = 20, 200
"""How many rows of a table, and how many characters of a text, are kept in the ledger."""


class Observation(Struct, frozen=True):
    """What a command returned, and what of it isn't as it must be, in words."""

    found: Any
    wrong: list[str] = []


def look(app: AppContext, parsed: ParsedCommand) -> Any:
    """Run a reading command; a stream's rows come as a list, at most ROWS of them."""
    command = parsed.command
    if command.kind == "local":
        return command.function(app, **parsed.params)
    found = command.function(app.read, **parsed.params)
    return list(islice(found, ROWS + 1)) if isinstance(found, Iterator) else found


def prove(app: AppContext, step: PlaybookStep, parsed: ParsedCommand) -> Observation:
    """Run a reading command and judge it, by its own verdict or by what the step expects."""
    found = look(app, parsed)
    if isinstance(found, Verdict):
        wrong = [f"{c.name}: {c.detail}" if c.detail else c.name for c in found.checks if c.ok is False]
        return Observation(found, wrong or found.wrong or found.unproven)
    if not step.expect or not isinstance(step.expect, dict):
        return Observation(found)
    wrong = Expectation.parse(step.expect, parsed.values).unmet(found)
    if isinstance(found, list) and len(found) > ROWS:
        wrong.append(f"there are more than {ROWS:,} rows, and only those were looked at")
    return Observation(found, wrong)


def unasked_parts(found: Any) -> list[str]:
    """What of a page could not be asked, each with the reason."""
    told = []
    for title, part in found.sections if isinstance(found, Page) else []:
        rows = [row for row in part if isinstance(row, dict)] if isinstance(part, list) else []
        told += [f"{title}: {row.get('why', '')}" for row in rows if row.get("state") == SILENT]
        told += [f"{next(iter(row.values()), '')}: {row.get('why', '')}" for row in rows if title == UNASKED]
    return told


def is_blind(found: Any) -> bool:
    """Whether a page has tables, and none of them could be asked."""
    tables = [part for _, part in found.sections if isinstance(part, list)] if isinstance(found, Page) else []
    return bool(tables) and all(len(part) == 1 and isinstance(part[0], dict) and part[0].get("state") == SILENT for part in tables)


def remaining_changes(plan: Plan) -> list[str]:
    """What a plan would still change, in words: all of it must be done for a proof, and there must be something."""
    wrong = [f"{p.change.summary} ({p.why or p.state})" for p in plan.changes if p.state != "done"]
    return wrong or ([] if plan.changes else ["there is nothing to prove it by"])


def for_ledger(found: Any) -> Any:
    """What of a result goes into the ledger: plain values, the first rows of each table, texts cleaned and cut."""
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
        return clean_text(found, LONGEST)
    if isinstance(found, Sequence):
        left = len(found) - KEPT
        return [for_ledger(each) for each in found[:KEPT]] + ([f"{left} more"] if left > 0 else [])
    if isinstance(found, Proportion):
        return float(found)
    return found if found is None or isinstance(found, bool | int | float | datetime) else for_ledger(str(found))
