"""A playbook as text: the checklist as written, and the dry run of all its steps."""

from __future__ import annotations

from opsctl.engine.ledger import rows
from opsctl.engine.plan import Plan
from opsctl.formats.quantities import counted
from opsctl.playbook import conditions
from opsctl.playbook.expectation import Expectation
from opsctl.playbook.loader import Loaded
from opsctl.playbook.preview import Preview, StepPreview
from opsctl.playbook.schema import PlaybookStep
from opsctl.render.out import style
from opsctl.render.screen import configured_by
from opsctl.render.visible import indented, visible

INDENT = " " * 11


def format_checklist(loaded: Loaded) -> str:
    """The playbook as a checklist: parameters, then each step under its heading."""
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
    found = [_title_line(number, step, step.text)]
    if step.conditions:
        found.append(f"{INDENT}when {visible(conditions.describe(step))}")
    if step.follows:
        found.append(f"{INDENT}follows {step.follows}")
    if step.expect:
        found.append(f"{INDENT}expects {visible(format_expected(step))}")
    found += [f"{INDENT}[ ] {visible(item)}" for item in step.items]
    return [*found, f"{INDENT}{indented(step.note)}"] if step.note else found


def format_expected(step: PlaybookStep) -> str:
    """A step's expectation in words."""
    if not isinstance(step.expect, dict):
        return " or ".join(step.expected)
    fields = dict(step.expect)  # its placeholders are not filled in yet, so it can't be parsed
    where, count, section = fields.pop("where", {}), fields.pop("count", None), fields.pop("in", None)
    return str(Expectation(fields=fields, where=where, count=count, section=section))


def _title_line(number: int, step: PlaybookStep, text: str) -> str:
    marks = [step.id or "", "/".join(step.choices), f"within {step.within}" if step.within else ""]
    details = ", ".join(mark for mark in marks if mark)
    box = "[ ] " if step.kind == "ask" else ""
    return f"{number:>3} {step.kind:<7}{box}{visible(text)}{f'  ({visible(details)})' if details else ''}"


def format_preview(shown: Preview, *, whole: bool = True) -> str:
    """Every step, with what it would change now; unless `whole`, only what the steps come to."""
    playbook, together = shown.loaded.playbook, shown.together
    text = f"{style(visible(playbook.title), bold=True)}: {visible(shown.command)}"
    if together:
        text += f"\nin {together.environment}, account {together.account}, as {together.caller}\n{configured_by(together.file)}"
    text += f"\nplaybook {visible(str(shown.loaded.path))}"
    heading = ""
    for previewed in shown.steps if whole else ():
        heading, head = _heading(previewed.step, heading)
        text += head + "\n" + "\n".join(_format_step_preview(previewed))
    return f"{text}\n\n{_summary(shown, together)}"


def _format_step_preview(previewed: StepPreview) -> list[str]:
    title = _title_line(previewed.number, previewed.step, previewed.text)
    if previewed.needed is False:
        return [style(f"{title}: not needed (only when {visible(conditions.describe(previewed.step))})", fg="bright_black")]
    found = [title]
    if previewed.needed is None:
        found.append(f"{INDENT}depends on an answer: runs when {visible(conditions.describe(previewed.step))}")
    if previewed.bound:
        found.append(f"{INDENT}starts from the end of step {previewed.bound}; this dry run assumes that it ends now")
    if previewed.error:
        word = "planned" if previewed.kind == "run" else "checked" if previewed.kind == "verify" else "read"
        found.append(style(f"{INDENT}could not be {word}: {visible(previewed.error.what)}", fg="red"))
    if previewed.unasked:
        found.append(f"{INDENT}not checked in a dry run: {previewed.unasked}")
    if previewed.wrong:
        found.append(style(f"{INDENT}fails now: {visible('; '.join(previewed.wrong))}", fg="red"))
    elif previewed.looked and previewed.kind == "verify":
        found.append(style(f"{INDENT}passes now", fg="bright_black"))
    if previewed.plan:
        found += [line for planned in previewed.plan.changes for line in _format_planned(planned)]
    return found


def _format_planned(planned: rows.Step) -> list[str]:
    if not planned.pending:
        word = "already done" if planned.state == "done" else planned.state
        return [
            style(
                f"{INDENT}= {visible(planned.change.summary)}: {word}{': ' if planned.why else ''}{visible(planned.why)}", fg="bright_black"
            )
        ]
    impact = style(f"  {counted(planned.count, planned.unit)}", bold=True) if planned.count else ""
    found = [f"{INDENT}{style('~', fg='yellow')} {visible(planned.change.summary)}{impact}"]
    if planned.why:
        found.append(f"{INDENT}  {visible(planned.why)}")
    return [*found, style(f"{INDENT}  undo: {visible(planned.undo)}", fg="cyan" if planned.reversible else "red")]


def _summary(shown: Preview, together: Plan | None) -> str:
    steps = sum(previewed.would_change for previewed in shown.steps)
    asks = sum(previewed.kind == "ask" and previewed.needed is not False for previewed in shown.steps)
    impact = together.impact if together else {}
    affects = ", ".join(counted(count, unit) for unit, count in impact.items() if count)
    reach = f"; up to {affects}" if affects else ""
    parts = [f"{steps} of {len(shown.steps)} steps would change something{reach}", counted(asks, "questions")]
    wrong = [previewed.key for previewed in shown.steps if previewed.wrong]
    unseen = [previewed.key for previewed in shown.steps if previewed.error]
    parts += [f"checks that fail now: {', '.join(wrong)} (earlier steps may fix this; otherwise the run stops there)"] if wrong else []
    parts += [f"could not be planned or checked: {', '.join(unseen)}"] if unseen else []
    return "; ".join(parts) + "."
