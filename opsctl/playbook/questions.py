"""Ask a person a checklist item. The answer is done or a choice, skipped, or failed."""

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
HELP_SKIP = "s, or s and a reason: skip this item; the reason is recorded, and the run ends as partly done"
HELP = (
    "f, or f and a reason: this item failed; the run stops, and asks again when you resume it",
    "Ctrl-C: leave; you or somebody else can resume the run at this question",
)
REASON_QUESTIONS = {"s": "Why is it skipped?", "f": "What failed?"}


class ChecklistAnswer(Struct, frozen=True):
    """An answer; `text` is the choice, `done`, or the reason."""

    state: Literal["answered", "skipped", "failed"]
    text: str


def assumed_answer(step: PlaybookStep) -> ChecklistAnswer:
    """The answer in a rehearsal without a person: the expected one, otherwise the first choice, otherwise done."""
    return ChecklistAnswer("answered", next(iter([*step.expected, *step.choices]), DONE))


def ask(
    person: Prompt, question: str, step: PlaybookStep, otherwise: Hint, message: Callable[[str], None], skippable: Callable[[], object]
) -> ChecklistAnswer:
    """Ask until there is a valid answer. `skippable` raises Refused when other steps depend on the answer; then skip is not offered."""
    needed = _why_required(skippable)
    offered = ["/".join(step.choices) or ENTER, *([] if needed else [SKIP]), OTHERWISE]
    prompt = f"{question} [{', '.join(offered)}]"
    while True:
        typed = person.text(prompt, otherwise)
        word, _, rest = typed.partition(" ")
        if typed in (step.choices or ("",)):
            return ChecklistAnswer("answered", typed or DONE)
        if word == "f":
            return ChecklistAnswer("failed", _ask_reason(person, "f", rest, otherwise))
        if word != "s":
            _show_help(step, typed, needed, message)
        elif needed:
            message(f"  {needed}")
        else:
            return ChecklistAnswer("skipped", _ask_reason(person, "s", rest, otherwise))


def _why_required(skippable: Callable[[], object]) -> str:
    """Why a question can't be skipped; empty when it can."""
    try:
        skippable()
    except Refused as why:
        return why.what
    return ""


def _ask_reason(person: Prompt, word: str, given: str, otherwise: Hint) -> str:
    reason = given.strip()
    while not reason:
        reason = person.text(REASON_QUESTIONS[word], otherwise)
    return clean_text(reason)


def _show_help(step: PlaybookStep, typed: str, needed: str, message: Callable[[str], None]) -> None:
    """Show the valid answers, after an invalid one has been named."""
    if typed != "?":
        message(f"  {typed!r} is not a valid answer." if typed else "  Enter is not a valid answer.")
    first = f"{' or '.join(step.choices)}: your answer" if step.choices else "Enter: done"
    for line in (first, needed or HELP_SKIP, *HELP, *([f"Note: {step.note}"] if step.note else [])):
        message(f"  {line}")
