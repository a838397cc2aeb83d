"""A playbook as text: the checklist as written, and the whole procedure as a dry run."""

from __future__ import annotations

from opsctl.engine.ledger import rows
from opsctl.engine.plan import Plan
from opsctl.playbook import conditions
from opsctl.playbook.expectation import Expectation
from opsctl.playbook.loader import Loaded
from opsctl.playbook.preview import Preview, StepPreview
from opsctl.playbook.schema import PlaybookStep
from opsctl.render.out import style
from opsctl.render.screen import configured_by, counted
from opsctl.render.visible import indented, visible

HERE = " " * 11


def format_checklist(loaded: Loaded) -> str:
    """The playbook as written: parameters, then every step under its heading."""
    playbook = loaded.playbook
    parts = [style(visible(playbook.title), bold=True), visible(playbook.description), playbook.about]
    parameters = []
    for name, parameter in playbook.parameters.items():
        value = "|".join(parameter.choices) or "VALUE"
        default = f" (default {parameter.default})" if parameter.default is not None else ""
        parameters.append(f"  {name}={value}{default}  {parameter.help}".rstrip())
    parts.append("\n".join(["Parameters", *parameters]) if parameters else "")
    parts.append(f"playbook {visible(str(loaded.path))}")
    text, heading = "\n\n".join(part.strip("\n") for part in parts if part), ""
    for number, step in enumerate(playbook.steps, 1):
        heading, head = _heading(step, heading)
        text += head + "\n" + "\n".join(_format_step(number, step))
    return text


def _heading(step: PlaybookStep, former: str) -> tuple[str, str]:
    heading = " · ".join(x for x in (step.section, step.mark) if x)
    return heading, f"\n\n{style(visible(heading), bold=True)}" if heading != former and heading else ""


def _format_step(number: int, step: PlaybookStep) -> list[str]:
    found = [_title(number, step, step.text)]
    if step.conditions:
        found.append(f"{HERE}when {visible(conditions.describe(step))}")
    if step.follows:
        found.append(f"{HERE}follows {step.follows}")
    if step.expect:
        found.append(f"{HERE}expects {visible(format_expected(step))}")
    found += [f"{HERE}[ ] {visible(item)}" for item in step.items]
    return [*found, f"{HERE}{indented(step.note)}"] if step.note else found


def format_expected(step: PlaybookStep) -> str:
    """What a step expects, in words."""
    return str(Expectation.parse(step.expect)) if isinstance(step.expect, dict) else " or ".join(step.expected)


def _title(number: int, step: PlaybookStep, text: str) -> str:
    marks = [step.id or "", "/".join(step.choices), f"within {step.within}" if step.within else ""]
    told = ", ".join(mark for mark in marks if mark)
    box = "[ ] " if step.kind == "ask" else ""
    return f"{number:>3} {step.kind:<7}{box}{visible(text)}{f'  ({visible(told)})' if told else ''}"


def format_preview(shown: Preview) -> str:
    """The whole procedure, each step with what it would change now."""
    playbook, together = shown.loaded.playbook, shown.together
    text = f"{style(visible(playbook.title), bold=True)}: {visible(shown.command)}"
    if together:
        text += f"\nin {together.environment}, account {together.account}, as {together.caller}\n{configured_by(together.file)}"
    text += f"\nplaybook {visible(str(shown.loaded.path))}"
    heading = ""
    for look in shown.steps:
        heading, head = _heading(look.step, heading)
        text += head + "\n" + "\n".join(_format_step_preview(look))
    return text + _totals(shown, together)


def _format_step_preview(look: StepPreview) -> list[str]:
    title = _title(look.number, look.step, look.text)
    if look.holds is False:
        return [style(f"{title}: not needed, only when {visible(conditions.describe(look.step))}", fg="bright_black")]
    found = [title]
    if look.holds is None:
        found.append(f"{HERE}only if {visible(conditions.describe(look.step))}; not answered yet")
    if look.bound:
        found.append(f"{HERE}bound when step {look.bound} is done; shown as if that were now")
    if look.error:
        word = "planned" if look.kind == "run" else "looked at"
        found.append(style(f"{HERE}can't be {word} now: {visible(look.error.what)}", fg="red"))
    if look.unasked:
        found.append(f"{HERE}not asked in a dry run: {look.unasked}")
    if look.wrong:
        found.append(style(f"{HERE}not so now: {visible('; '.join(look.wrong))}", fg="red"))
    elif look.looked and look.kind == "verify":
        found.append(style(f"{HERE}so now", fg="bright_black"))
    if look.plan:
        found += [line for planned in look.plan.changes for line in _format_planned(planned)]
    return found


def _format_planned(planned: rows.Step) -> list[str]:
    if not planned.pending:
        word = "already so" if planned.state == "done" else planned.state
        return [
            style(
                f"{HERE}= {visible(planned.change.summary)}: {word}{': ' if planned.why else ''}{visible(planned.why)}", fg="bright_black"
            )
        ]
    impact = style(f"  {counted(planned.count, planned.unit)}", bold=True) if planned.count else ""
    found = [f"{HERE}{style('~', fg='yellow')} {visible(planned.change.summary)}{impact}"]
    if planned.why:
        found.append(f"{HERE}  {visible(planned.why)}")
    return [*found, style(f"{HERE}  undo: {visible(planned.undo)}", fg="cyan" if planned.reversible else "red")]


def _totals(shown: Preview, together: Plan | None) -> str:
    steps = sum(look.would_change for look in shown.steps)
    asks = sum(look.kind == "ask" and look.holds is not False for look in shown.steps)
    impact = together.impact if together else {}
    affects = ", ".join(counted(count, unit) for unit, count in impact.items() if count)
    reach = f"; up to {affects}" if affects else ""
    told = [f"{steps} of {len(shown.steps)} steps would change something{reach}", counted(asks, "questions")]
    wrong = [look.key for look in shown.steps if look.wrong]
    unseen = [look.key for look in shown.steps if look.error]
    told += [f"not so now: {', '.join(wrong)}; what is done before may mend it, else the run ends there"] if wrong else []
    told += [f"couldn't be planned or looked at: {', '.join(unseen)}"] if unseen else []
    return "\n\n" + "; ".join(told) + "."
