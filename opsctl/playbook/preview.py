"""The dry run of a playbook: what each step would change now, and what is known only when the step is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from opsctl.engine import outcome
from opsctl.engine.plan import Plan
from opsctl.errors import ConfigurationError, ExternalError, NotFound, OpsctlError, Refused
from opsctl.playbook import conditions, lines, looking
from opsctl.playbook.loader import Loaded
from opsctl.playbook.schema import Kind, PlaybookStep

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext
    from opsctl.cli.parsed import ParsedCommand
    from opsctl.engine.engine import Engine
    from opsctl.engine.options import Options

    Parse = Callable[[PlaybookStep], ParsedCommand]


class StepPreview(Struct, kw_only=True):
    """The dry run of one step.

    `needed` is None while its `when` depends on an unanswered question. `bound` names the step that it follows. `plan` is a
    run's plan; `error` is why it can't be planned or read, or the guard that refuses it. Of a verify, `wrong` lists what fails now,
    `unasked` is why a dry run doesn't check it, and `changing` is true when its command would change something without --dry-run.
    """

    number: int
    key: str
    step: PlaybookStep
    text: str
    needed: bool | None
    bound: str = ""
    plan: Plan | None = None
    error: OpsctlError | None = None
    looked: bool = False
    wrong: list[str] = []
    unasked: str = ""
    changing: bool = False

    @property
    def state(self) -> str:
        """The state of the step now."""
        if self.needed is False:
            return "not needed"
        if self.wrong:
            return "fails now"
        if self.looked:
            return "passes now" if self.kind == "verify" else "seen"
        return "pending" if self.needed else "depends on an answer"

    @property
    def kind(self) -> Kind:
        """The kind of the step."""
        return self.step.kind

    @property
    def would_change(self) -> bool:
        """Whether the step would change something."""
        return self.plan is not None and bool(self.plan.pending)

    @property
    def blocks(self) -> bool:
        """Whether the run must not begin: the step will certainly be reached, and it is refused or names something that doesn't exist."""
        return (
            self.kind == "run"
            and self.needed is True
            and not self.bound
            and isinstance(self.error, Refused | ConfigurationError | NotFound)
        )


class Preview(Struct, kw_only=True):
    """The dry run of every step, and their totals."""

    loaded: Loaded
    command: str
    steps: list[StepPreview]

    @property
    def error(self) -> OpsctlError | None:
        """The first refusal, otherwise the first error; None when every step could be planned."""
        errors = [previewed.error for previewed in self.steps if previewed.error]
        return next((e for e in errors if isinstance(e, Refused)), errors[0] if errors else None)

    @property
    def blocking(self) -> OpsctlError | None:
        """The error that keeps the run from beginning."""
        return next((previewed.error for previewed in self.steps if previewed.blocks), None)

    @property
    def together(self) -> Plan | None:
        """The changes of all steps as one plan, to be approved once; None when no step could be planned."""
        plans = [previewed.plan for previewed in self.steps if previewed.plan]
        if not plans:
            return None
        return msgspec.structs.replace(plans[0], command=self.command, changes=[c for plan in plans for c in plan.changes])

    @property
    def bounds(self) -> dict[str, dict[str, int]]:
        """The impact that was shown, by step number and unit. A step that affects over a tenth more asks again."""
        return {str(previewed.number): previewed.plan.impact for previewed in self.steps if previewed.plan}

    @property
    def changes(self) -> list[dict[str, Any]]:
        """Every change, as JSON output has it."""
        return [
            {**outcome.step_as_json(p), "step": previewed.key} for previewed in self.steps if previewed.plan for p in previewed.plan.changes
        ]


def preview_steps(app: AppContext, loaded: Loaded, command: str, parameters: Mapping[str, str], options: Options) -> Preview:
    """Plan every step; in a dry run also run its looks and verifies.

    The error of one step is kept with that step. Raises an error that affects all steps.
    """
    engine = app.engine
    _ = engine.read.caller
    known, steps = dict(parameters), dict[str, StepPreview]()
    for number, step in enumerate(loaded.playbook.steps, 1):
        key = loaded.playbook.key(number)
        found = StepPreview(
            number=number, key=key, step=step, text=_displayed_text(step, parameters), needed=conditions.evaluate(step, known)
        )
        if step.kind == "ask" and found.needed is False:
            known[key] = ""
        if step.kind != "ask" and found.needed is not False:
            _preview_step(app, found, partial(loaded.parser.given, values=parameters), steps, options)
        steps[key] = found
    return Preview(loaded=loaded, command=command, steps=list(steps.values()))


def _displayed_text(step: PlaybookStep, parameters: Mapping[str, str]) -> str:
    return lines.filled_text(step.text, parameters) if step.kind == "ask" else step.text


def _preview_step(app: AppContext, found: StepPreview, parse: Parse, earlier: Mapping[str, StepPreview], options: Options) -> None:
    """Plan a step that changes something; in a dry run, read whatever can be read without an effect."""
    try:
        parsed = parse(found.step)
        found.text, found.changing = parsed.text, lines.is_mutating(parsed)
        if found.kind == "run" or lines.is_performed(parsed):
            found.plan = _plan_step(app.engine, found, parsed, earlier, options, recall=found.kind == "run")
            app.engine.guard(found.plan, lines.options(parsed, options))
        elif options.dry_run and parsed.command.probes:
            found.unasked = parsed.command.probes
        elif options.dry_run:
            found.wrong = _find_problems(app, found, parsed, earlier, options)
            found.looked = True
    except OpsctlError as error:
        found.error = error


def _plan_step(
    engine: Engine, found: StepPreview, parsed: ParsedCommand, earlier: Mapping[str, StepPreview], options: Options, *, recall: bool
) -> Plan:
    follows, found.bound = _follow_time(engine, earlier.get(found.step.follows or ""))
    recall = recall and not found.step.follows
    return engine.plan(parsed.text, lines.make(parsed), lines.options(parsed, options), follows=follows, recall=recall)


def _find_problems(
    app: AppContext,
    found: StepPreview,
    parsed: ParsedCommand,
    earlier: Mapping[str, StepPreview],
    options: Options,
) -> list[str]:
    """Why a verify fails now; empty for a look."""
    if lines.is_mutating(parsed):
        return looking.remaining_changes(_plan_step(app.engine, found, parsed, earlier, options, recall=False))
    if found.kind == "verify":
        return looking.verify(app, found.step, parsed).wrong
    if missing := looking.failed_sources(looking.read(app, parsed)):
        raise ExternalError(f"some of it could not be queried: {'; '.join(missing)}", f"opsctl {parsed.text}")
    return []


def _follow_time(engine: Engine, before: StepPreview | None) -> tuple[datetime | None, str]:
    """The time to plan with, and the key of the step that it waits for. Until that step has ended, the time is now."""
    if before is None or before.needed is False:
        return None, ""
    if before.plan and not before.would_change and before.needed and not before.bound:
        return max((p.at for p in before.plan.changes if p.at), default=engine.read.now()), ""
    return engine.read.now(), before.key
