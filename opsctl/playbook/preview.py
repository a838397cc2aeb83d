"""A whole procedure as a dry run: what each step would change now, and what is only known when it is reached."""

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
    """One step as of now.

    `holds` is None while its `when` depends on an unanswered question. `bound` names the step whose outcome will bind it. `plan` is a
    run's; `error` is why it can't be planned or looked at, or the guard that stands against it. Of a verify, `wrong` is what isn't so now,
    `unasked` why a dry run doesn't ask, and `changing` says that its command, typed as it stands, would change something.
    """

    number: int
    key: str
    step: PlaybookStep
    text: str
    holds: bool | None
    bound: str = ""
    plan: Plan | None = None
    error: OpsctlError | None = None
    looked: bool = False
    wrong: list[str] = []
    unasked: str = ""
    changing: bool = False

    @property
    def state(self) -> str:
        """How it stands now, in a word or two."""
        if self.holds is False:
            return "not needed"
        if self.wrong:
            return "not so now"
        if self.looked:
            return "so now" if self.kind == "verify" else "seen"
        return "pending" if self.holds else "depends on an answer"

    @property
    def kind(self) -> Kind:
        """What kind of step it is."""
        return self.step.kind

    @property
    def would_change(self) -> bool:
        """Whether reaching it would, or could, change something."""
        return self.plan is not None and bool(self.plan.pending)

    @property
    def blocks(self) -> bool:
        """Whether nothing may begin: what will surely be reached is refused, or names what isn't there."""
        return (
            self.kind == "run" and self.holds is True and not self.bound and isinstance(self.error, Refused | ConfigurationError | NotFound)
        )


class Preview(Struct, kw_only=True):
    """Every step as of now, and what they come to."""

    loaded: Loaded
    command: str
    steps: list[StepPreview]

    @property
    def error(self) -> OpsctlError | None:
        """A refusal before any other error; None when every step could be planned."""
        errors = [look.error for look in self.steps if look.error]
        return next((e for e in errors if isinstance(e, Refused)), errors[0] if errors else None)

    @property
    def blocking(self) -> OpsctlError | None:
        """What stands against beginning at all."""
        return next((look.error for look in self.steps if look.blocks), None)

    @property
    def together(self) -> Plan | None:
        """Every step's changes as one plan, to be approved at once; None when no step could be planned."""
        plans = [look.plan for look in self.steps if look.plan]
        if not plans:
            return None
        return msgspec.structs.replace(plans[0], command=self.command, changes=[c for plan in plans for c in plan.changes])

    @property
    def bounds(self) -> dict[str, dict[str, int]]:
        """What was shown, by step number and unit: a step that affects more than this and a tenth asks again."""
        return {str(look.number): look.plan.impact for look in self.steps if look.plan}

    @property
    def changes(self) -> list[dict[str, Any]]:
        """Every change, as JSON output shows it."""
        return [{**outcome.step_as_json(p), "step": look.key} for look in self.steps if look.plan for p in look.plan.changes]


def preview_steps(app: AppContext, loaded: Loaded, command: str, parameters: Mapping[str, str], options: Options) -> Preview:
    """Plan every step as of now, and in a dry run look at what its looks and verifies will look at.

    An error of one step stays with that step; raises what keeps all of them from being planned.
    """
    engine = app.engine
    _ = engine.read.caller
    known, steps = dict(parameters), dict[str, StepPreview]()
    for number, step in enumerate(loaded.playbook.steps, 1):
        key = loaded.playbook.key(number)
        found = StepPreview(number=number, key=key, step=step, text=_text(step, parameters), holds=conditions.holds(step, known))
        if step.kind == "ask" and found.holds is False:
            known[key] = ""
        if step.kind != "ask" and found.holds is not False:
            _plan(app, found, partial(loaded.parser.given, values=parameters), steps, options)
        steps[key] = found
    return Preview(loaded=loaded, command=command, steps=list(steps.values()))


def _text(step: PlaybookStep, parameters: Mapping[str, str]) -> str:
    return lines.filled_text(step.text, parameters) if step.kind == "ask" else step.text


def _plan(app: AppContext, found: StepPreview, parse: Parse, earlier: Mapping[str, StepPreview], options: Options) -> None:
    """Plan what would be performed; of the rest, a dry run looks at what can be looked at without an effect."""
    try:
        parsed = parse(found.step)
        found.text, found.changing = parsed.text, lines.is_mutating(parsed)
        if found.kind == "run" or lines.is_performed(parsed):
            found.plan = _planned(app.engine, found, parsed, earlier, options, recall=found.kind == "run")
            app.engine.guard(found.plan, lines.options(parsed, options))
        elif options.dry_run and parsed.command.probes:
            found.unasked = parsed.command.probes
        elif options.dry_run:
            found.wrong = _wrong(app, found, parsed, earlier, options)
            found.looked = True
    except OpsctlError as error:
        found.error = error


def _planned(
    engine: Engine, found: StepPreview, parsed: ParsedCommand, earlier: Mapping[str, StepPreview], options: Options, *, recall: bool
) -> Plan:
    follows, found.bound = _follows(engine, earlier.get(found.step.follows or ""))
    recall = recall and not found.step.follows
    return engine.plan(parsed.text, lines.make(parsed), lines.options(parsed, options), follows=follows, recall=recall)


def _wrong(
    app: AppContext,
    found: StepPreview,
    parsed: ParsedCommand,
    earlier: Mapping[str, StepPreview],
    options: Options,
) -> list[str]:
    """What isn't as a proof wants it; nothing is wrong with what only shows."""
    if lines.is_mutating(parsed):
        return looking.remaining_changes(_planned(app.engine, found, parsed, earlier, options, recall=False))
    if found.kind == "verify":
        return looking.prove(app, found.step, parsed).wrong
    if missing := looking.unasked_parts(looking.look(app, parsed)):
        raise ExternalError(f"a part of it could not be asked: {'; '.join(missing)}", f"opsctl {parsed.text}")
    return []


def _follows(engine: Engine, before: StepPreview | None) -> tuple[datetime | None, str]:
    """The moment to plan with, and the step that will bind it: now stands for an outcome that is yet to come."""
    if before is None or before.holds is False:
        return None, ""
    if before.plan and not before.would_change and before.holds and not before.bound:
        return max((p.at for p in before.plan.changes if p.at), default=engine.read.now()), ""
    return engine.read.now(), before.key
