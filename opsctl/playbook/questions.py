"""A checklist item as it is put to a person, and what may be answered: done or a choice, skipped, failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from opsctl.errors import Hint, Refused
from opsctl.redaction import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsctl.adapters.host.prompt import Prompt
    from opsctl.playbook.schema import PlaybookStep

DONE = "done"
ENTER, SKIP, OTHERWISE = "Enter = done", "s = skip", "f = failed, ? = help"
HELP_SKIP = "s, or s and a reason: go on without it; the reason is kept, and the run ends partly done"
HELP = (
    "f, or f and a reason: it failed; the run ends here, and asks again when it is resumed",
    "Ctrl-C: leave; anybody can take the run up later, at this question",
)
WHY = {"s": "Why is it skipped?", "f": "What failed?"}


class ChecklistAnswer(Struct, frozen=True):
    """What was answered; `text` is the choice, `done`, or the reason why not."""

    state: Literal["answered", "skipped", "failed"]
    text: str


def assumed_answer(step: PlaybookStep) -> ChecklistAnswer:
    """What a rehearsal without a person answers: what is expected, else the first choice, else done."""
    return ChecklistAnswer("answered", next(iter([*step.expected, *step.choices]), DONE))


def ask(
    person: Prompt, question: str, step: PlaybookStep, otherwise: Hint, says: Callable[[str], None], skippable: Callable[[], object]
) -> ChecklistAnswer:
    """Ask until it is answered. `skippable` raises Refused where others depend on the answer; then no skip is offered."""
    needed = _why_required(skippable)
    offered = ["/".join(step.choices) or ENTER, *([] if needed else [SKIP]), OTHERWISE]
    prompt = f"{question} [{', '.join(offered)}]"
    while True:
        typed = person.text(prompt, otherwise)
        word, _, rest = typed.partition(" ")
        if typed in (step.choices or ("",)):
            return ChecklistAnswer("answered", typed or DONE)
        if word == "f":
            return ChecklistAnswer("failed", _reason(person, "f", rest, otherwise))
        if word != "s":
            _help(step, typed, needed, says)
        elif needed:
            says(f"  {needed}")
        else:
            return ChecklistAnswer("skipped", _reason(person, "s", rest, otherwise))


def _why_required(skippable: Callable[[], object]) -> str:
    """Why a question can't be skipped, or nothing."""
    try:
        skippable()
    except Refused as why:
        return why.what
    return ""


def _reason(person: Prompt, word: str, given: str, otherwise: Hint) -> str:
    reason = given.strip()
    while not reason:
        reason = person.text(WHY[word], otherwise)
    return clean_text(reason)


def _help(step: PlaybookStep, typed: str, needed: str, says: Callable[[str], None]) -> None:
    """Say what can be typed, and that something else was."""
    if typed != "?":
        says(f"  {typed!r} is no answer here." if typed else "  Enter is no answer here.")
    first = f"{' or '.join(step.choices)}: your answer" if step.choices else "Enter: it is done"
    for line in (first, needed or HELP_SKIP, *HELP, *([f"Note: {step.note}"] if step.note else [])):
        says(f"  {line}")
