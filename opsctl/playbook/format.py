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
from opsctl.render.screen import configured_by, embolden_end
from opsctl.render.tables import hang
from opsctl.render.visible import visible

INDENT = " " * 11


def format_checklist(loaded: Loaded, width: int | None = None, *, notes: bool = True) -> str:
    """The playbook as a checklist: parameters, then each step under its heading. Without `notes`, the last line says how to see them."""
    playbook = loaded.playbook
    about = playbook.about if notes else ""
    parts = [style(visible(playbook.title), bold=True), hang("", visible(playbook.description), 0, width), _wrap_paragraphs(about, width)]
    parameters = []
    for name, parameter in playbook.parameters.items():
        value = "|".join(parameter.choices) or "VALUE"
        default = f" (default {parameter.default})" if parameter.default is not None else ""
        parameters.append(hang("  ", f"{name}={value}{default}  {parameter.help}".rstrip(), 4, width))
    parts.append("\n".join(["Parameters", *parameters]) if parameters else "")
    parts.append(f"playbook {visible(str(loaded.path))}")
    text, heading = "\n\n".join(part.strip("\n") for part in parts if part), ""
    for number, step in enumerate(playbook.steps, 1):
        heading, head = _heading(step, heading)
        text += head + "\n" + "\n".join(_format_step(number, step, width, notes=notes))
    hidden = not notes and (playbook.about or any(step.note for step in playbook.steps))
    return f"{text}\n\nNotes on the steps: opsctl playbook show {loaded.name} -v" if hidden else text


def _wrap_paragraphs(text: str, width: int | None) -> str:
    """`text` with its paragraphs wrapped; as it is written without a width."""
    return text if width is None else "\n\n".join(hang("", part, 0, width) for part in text.split("\n\n"))


def _detail(text: str, width: int | None) -> str:
    """A line below a step's title."""
    return hang(INDENT, visible(text), len(INDENT), width)


def _heading(step: PlaybookStep, former: str) -> tuple[str, str]:
    heading = " · ".join(x for x in (step.section, step.mark) if x)
    return heading, f"\n\n{style(visible(heading), bold=True)}" if heading != former and heading else ""


def _format_step(number: int, step: PlaybookStep, width: int | None, *, notes: bool) -> list[str]:
    conditional = [
        f"when {conditions.describe(step)}" if step.conditions else "",
        f"follows {step.follows}" if step.follows else "",
        f"expects {format_expected(step)}" if step.expect else "",
    ]
    facts = [
        "; ".join(filter(None, conditional)),
        *(f"[ ] {item}" for item in step.items),
        *(step.note.splitlines() if notes else ()),
    ]
    return [_title_line(number, step, step.text, width), *(_detail(fact, width) for fact in facts if fact)]


def format_expected(step: PlaybookStep) -> str:
    """A step's expectation in words."""
    if not isinstance(step.expect, dict):
        return " or ".join(step.expected)
    fields = dict(step.expect)  # its placeholders are not filled in yet, so it can't be parsed
    where, count, section = fields.pop("where", {}), fields.pop("count", None), fields.pop("in", None)
    return str(Expectation(fields=fields, where=where, count=count, section=section))


def _title_line(number: int, step: PlaybookStep, text: str, width: int | None, end: str = "") -> str:
    marks = [step.id or "", "/".join(step.choices), f"within {step.within}" if step.within else ""]
    details = ", ".join(mark for mark in marks if mark)
    box = "[ ] " if step.kind == "ask" else ""
    line = f"{box}{visible(text)}{f'  ({visible(details)})' if details else ''}{end}"
    return hang(f"{number:>3} {step.kind:<7}", line, len(INDENT), width)


def format_preview(shown: Preview, width: int | None = None, *, whole: bool = True) -> str:
    """Every step, with what it would change now; unless `whole`, only what the steps come to."""
    playbook, together = shown.loaded.playbook, shown.together
    text = f"{style(visible(playbook.title), bold=True)}: {visible(shown.command)}"
    if together:
        where = f"in {together.environment}, account {together.account}, as {together.caller}"
        text += f"\n{hang('', where, 2, width)}\n{configured_by(together.file)}"
    text += f"\nplaybook {visible(str(shown.loaded.path))}"
    heading = ""
    for previewed in shown.steps if whole else ():
        heading, head = _heading(previewed.step, heading)
        text += head + "\n" + "\n".join(_format_step_preview(previewed, width))
    return f"{text}\n\n{hang('', _summary(shown, together), 0, width)}"


def _format_step_preview(previewed: StepPreview, width: int | None) -> list[str]:
    number, step = previewed.number, previewed.step
    if previewed.needed is False:
        unneeded = f": not needed (only when {visible(conditions.describe(step))})"
        return [style(_title_line(number, step, previewed.text, width, unneeded), fg="bright_black")]
    found = [_title_line(number, step, previewed.text, width)]
    if previewed.needed is None:
        found.append(_detail(f"depends on an answer: runs when {conditions.describe(step)}", width))
    if previewed.bound:
        found.append(_detail(f"starts from the end of step {previewed.bound}; this dry run assumes that it ends now", width))
    if previewed.error:
        word = "planned" if previewed.kind == "run" else "checked" if previewed.kind == "verify" else "read"
        found.append(style(_detail(f"could not be {word}: {previewed.error.what}", width), fg="red"))
    if previewed.unasked:
        found.append(_detail(f"not checked in a dry run: {previewed.unasked}", width))
    if previewed.wrong:
        found.append(style(_detail(f"fails now: {'; '.join(previewed.wrong)}", width), fg="red"))
    elif previewed.looked and previewed.kind == "verify":
        found.append(style(_detail("passes now", width), fg="bright_black"))
    if previewed.plan:
        found += [line for planned in previewed.plan.changes for line in _format_planned(planned, width)]
    return found


def _format_planned(planned: rows.Step, width: int | None) -> list[str]:
    def hung(mark: str, text: str) -> str:
        return hang(f"{INDENT}{mark} ", text, len(INDENT) + 2, width)

    if not planned.pending:
        word = "already done" if planned.state == "done" else planned.state
        line = f"{visible(planned.change.summary)}: {word}{': ' if planned.why else ''}{visible(planned.why)}"
        return [style(hung("=", line), fg="bright_black")]
    impact = f"  {counted(planned.count, planned.unit)}" if planned.count else ""
    found = [embolden_end(hung(style("~", fg="yellow"), f"{visible(planned.change.summary)}{impact}"), impact)]
    if planned.why:
        found.append(hung(" ", visible(planned.why)))
    undo = hung(" ", f"undo: {visible(planned.undo)}")
    return [*found, style(undo, fg="cyan" if planned.reversible else "red")]


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
