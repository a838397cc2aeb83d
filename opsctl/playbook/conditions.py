"""Evaluate a step's `when`, and describe it in words."""

from __future__ import annotations

from collections.abc import Mapping

from opsctl.playbook.schema import Condition, PlaybookStep, values


def evaluate(step: PlaybookStep, known: Mapping[str, str]) -> bool | None:
    """Whether the step is needed; None while that depends on a question without an answer.

    `known` holds the parameters and the answers; `""` is the answer of a question that won't be asked.
    """
    found = [_evaluate_one(condition, known) for condition in step.conditions]
    if not found or True in found:
        return True
    return None if None in found else False


def _evaluate_one(condition: Condition, known: Mapping[str, str]) -> bool | None:
    found = [known[key] in values(wanted) if key in known else None for key, wanted in condition.items()]
    if False in found:
        return False
    return None if None in found else True


def describe(step: PlaybookStep) -> str:
    """The step's `when` in words: `scope is single and exposed is yes, or scope is widespread`."""
    return ", or ".join(
        " and ".join(f"{key} is {' or '.join(values(wanted))}" for key, wanted in condition.items()) for condition in step.conditions
    )
