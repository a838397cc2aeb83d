"""Whether a step's `when` holds, and how to say it."""

from __future__ import annotations

from collections.abc import Mapping

from opsctl.playbook.schema import Condition, PlaybookStep, values


def holds(step: PlaybookStep, known: Mapping[str, str]) -> bool | None:
    """Whether the step is to be done; None while it depends on a question that has no answer yet.

    `known` holds the parameters, and each answered or unasked question's answer (`""` for one that won't be asked).
    """
    found = [_one_holds(condition, known) for condition in step.conditions]
    if not found or True in found:
        return True
    return None if None in found else False


def _one_holds(condition: Condition, known: Mapping[str, str]) -> bool | None:
    found = [known[key] in values(wanted) if key in known else None for key, wanted in condition.items()]
    if False in found:
        return False
    return None if None in found else True


def describe(step: PlaybookStep) -> str:
    """The step's `when` in words: `scope is single and exposed is yes, or scope is widespread`."""
    return ", or ".join(
        " and ".join(f"{key} is {' or '.join(values(wanted))}" for key, wanted in condition.items()) for condition in step.conditions
    )
