"""A playbook as one shell script: its changes, and a question for each step that a script can't do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opsctl.cli.script import statements
from opsctl.playbook.format import format_expected
from opsctl.playbook.schema import Condition, values
from opsctl.shell import Assign, Comment, Either, Equal, Message, Question, Statement, Stop, Test, Variable, When

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.playbook.preview import Preview, StepPreview


def script(shown: Preview, known: Mapping[str, str], environment: Environment) -> list[Statement]:
    """The statements of every step, in order. `known` holds the parameters. The script stops at the first step that fails."""
    answers = {previewed.key: f"answer_{previewed.number}" for previewed in shown.steps if previewed.kind == "ask"}
    lines: list[Statement] = [Assign(variable=variable, value="") for variable in answers.values()]
    for previewed in shown.steps:
        lines.append(Comment(line=f"Step {previewed.number}: {previewed.kind} {previewed.text}"))
        if previewed.needed is False:
            lines.append(Comment(line="Skipped: not needed with these parameters."))
        elif previewed.needed is None:
            lines.append(
                When(test=_condition_test(previewed, known, answers), then=tuple(_step_statements(previewed, answers, environment)))
            )
        else:
            lines += _step_statements(previewed, answers, environment)
    return lines


def _step_statements(previewed: StepPreview, answers: Mapping[str, str], environment: Environment) -> list[Statement]:
    if previewed.kind == "look":
        return [Message(line=f"Look at: opsctl {previewed.text}")]
    if previewed.kind == "ask":
        choices, accepted = tuple(previewed.step.choices) or ("done",), tuple(previewed.step.expected)
        return [Question(line=previewed.text, choices=choices, accepted=accepted, variable=answers[previewed.key])]
    if previewed.kind == "verify" and previewed.plan is None:
        return [Question(line=_verify_question(previewed), choices=("yes", "no"), accepted=("yes",))]
    if previewed.error or previewed.plan is None:
        return [Stop(why=f"Step {previewed.number} could not be planned: {previewed.error.what if previewed.error else ''}")]
    done = [
        f"Already done: {p.change.summary}{': ' if p.why else ''}{p.why}" for p in previewed.plan.changes if p not in previewed.plan.pending
    ]
    return [*[Message(line=line) for line in done], *statements(previewed.plan, environment)]


def _verify_question(previewed: StepPreview) -> str:
    """The question that replaces a verify. For a changing command, its dry run answers the question."""
    if previewed.changing:
        return f"Run: opsctl {previewed.text} -n. Is there nothing left to change?"
    wanted = f" ({format_expected(previewed.step)})" if previewed.step.expect else ""
    return f"Run: opsctl {previewed.text}. Is the result as expected{wanted}?"


def _condition_test(previewed: StepPreview, known: Mapping[str, str], answers: Mapping[str, str]) -> Test:
    """A test that is true when any of the step's conditions is met. Conditions that the parameters already rule out are dropped."""
    possible = [
        each for each in previewed.step.conditions if all(known[key] in values(wanted) for key, wanted in each.items() if key in known)
    ]
    return Either(tests=tuple(Either(tests=tuple(_answer_tests(each, known, answers)), together=True) for each in possible))


def _answer_tests(condition: Condition, known: Mapping[str, str], answers: Mapping[str, str]) -> list[Test]:
    return [
        Either(tests=tuple(Equal(one=Variable(answers[key]), other=each) for each in values(wanted)))
        for key, wanted in condition.items()
        if key not in known
    ]
