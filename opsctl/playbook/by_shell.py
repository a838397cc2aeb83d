"""A whole procedure as one script: its changes, and a question to whoever runs it for everything that a script can't do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opsctl.cli.script import statements
from opsctl.playbook.format import format_expected
from opsctl.playbook.schema import Condition, values
from opsctl.shell import Comment, Either, Equal, Question, Say, Set, Statement, Stop, Test, Variable, When

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.playbook.preview import Preview, StepPreview


def script(shown: Preview, known: Mapping[str, str], environment: Environment) -> list[Statement]:
    """The statements of every step in their order; `known` are the parameters. A step that fails stops the rest."""
    answers = {look.key: f"answer_{look.number}" for look in shown.steps if look.kind == "ask"}
    found: list[Statement] = [Set(variable=variable, value="") for variable in answers.values()]
    for look in shown.steps:
        found.append(Comment(line=f"Step {look.number}: {look.kind} {look.text}"))
        if look.holds is False:
            found.append(Comment(line="Left out, as things are."))
        elif look.holds is None:
            found.append(When(test=_test(look, known, answers), then=tuple(_step(look, answers, environment))))
        else:
            found += _step(look, answers, environment)
    return found


def _step(look: StepPreview, answers: Mapping[str, str], environment: Environment) -> list[Statement]:
    if look.kind == "look":
        return [Say(line=f"Look at: opsctl {look.text}")]
    if look.kind == "ask":
        choices, accepted = tuple(look.step.choices) or ("done",), tuple(look.step.expected)
        return [Question(line=look.text, choices=choices, accepted=accepted, variable=answers[look.key])]
    if look.kind == "verify" and look.plan is None:
        return [Question(line=_proof_question(look), choices=("yes", "no"), accepted=("yes",))]
    if look.error or look.plan is None:
        return [Stop(why=f"Step {look.number} could not be planned: {look.error.what if look.error else ''}")]
    made = [f"Already so: {p.change.summary}{': ' if p.why else ''}{p.why}" for p in look.plan.changes if p not in look.plan.pending]
    return [*[Say(line=line) for line in made], *statements(look.plan, environment)]


def _proof_question(look: StepPreview) -> str:
    """What a person finds out in place of a verify; a changing command is only to be shown."""
    if look.changing:
        return f"Find out: opsctl {look.text} -n. Does it find nothing left to change?"
    wanted = f" ({format_expected(look.step)})" if look.step.expect else ""
    return f"Find out: opsctl {look.text}. Is it so{wanted}?"


def _test(look: StepPreview, known: Mapping[str, str], answers: Mapping[str, str]) -> Test:
    """Any one of the step's conditions, of each all that depends on an answer; one that can't hold is left out."""
    possible = [each for each in look.step.conditions if all(known[key] in values(wanted) for key, wanted in each.items() if key in known)]
    return Either(tests=tuple(Either(tests=tuple(_answer_tests(each, known, answers)), together=True) for each in possible))


def _answer_tests(condition: Condition, known: Mapping[str, str], answers: Mapping[str, str]) -> list[Test]:
    return [
        Either(tests=tuple(Equal(one=Variable(answers[key]), other=each) for each in values(wanted)))
        for key, wanted in condition.items()
        if key not in known
    ]
