"""Find the mistakes that the schema can't: unknown names, and lines that the command tree rejects."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import click

from opsctl.cli.line import placeholders
from opsctl.cli.parsed import ParsedCommand
from opsctl.playbook.expectation import Expectation
from opsctl.playbook.lines import StepParser, forbidden_options, is_mutating, placeholder_text
from opsctl.playbook.schema import Condition, Parameter, Playbook, PlaybookStep, values
from opsctl.playbook.source import Problem, YamlSource

SAMPLES = ("1", "1h", "2024-01-01", "name@example.com", "env:VALUE", "name", os.devnull)
"""Samples for a value that is known only when the playbook runs; one that the parameter's type accepts is enough."""


def lint(playbook: Playbook, source: YamlSource, parser: StepParser) -> list[Problem]:
    """Every problem of a playbook, by line."""
    found: list[tuple[str, str]] = list(_parameter_problems(playbook))
    ids: dict[str, int] = {}
    for number, step in enumerate(playbook.steps, 1):
        path = f"$.steps[{number - 1}]"
        found += [(path, what) for what in _step_problems(playbook, step, ids, parser)]
        if step.id in ids or step.id in playbook.parameters:
            owner = "a parameter" if step.id in playbook.parameters else f"step {ids[step.id or '']}"
            found.append((f"{path}.id", f"id: {step.id!r} is already the name of {owner}"))
        elif step.id:
            ids[step.id] = number
    problems = [Problem(line=source.line(path), what=what) for path, what in found]
    return sorted(problems, key=lambda p: p.line)


def _parameter_problems(playbook: Playbook) -> Iterator[tuple[str, str]]:
    for name, parameter in playbook.parameters.items():
        path = f"$.parameters.{name}"
        if parameter.choices and parameter.default not in (None, *parameter.choices):
            yield path, f"default: {parameter.default!r} is not one of its choices"
        if parameter.required_when and parameter.default is not None:
            yield path, "required-when: a parameter with a default is never missing"
        for what in _condition_problems(playbook, parameter.required_when, {}):
            yield path, f"required-when: {what}"


def _step_problems(playbook: Playbook, step: PlaybookStep, ids: Mapping[str, int], parser: StepParser) -> Iterator[str]:
    for condition in step.conditions:
        for what in _condition_problems(playbook, condition, ids):
            yield f"when: {what}"
    if step.follows:
        before = playbook.steps[ids[step.follows] - 1] if step.follows in ids else None
        if before is None:
            yield f"follows: no earlier step has the id {step.follows!r}"
        elif before.kind != "run":
            yield f"follows: {step.follows!r} is not a run step"
    unknown = [name for name in placeholders(placeholder_text(step)) if name not in playbook.parameters]
    yield from (f"{{{name}}} is not a parameter of this playbook" for name in unknown)
    yield from (f"{{{name}}} {why}" for name, why in _unset_placeholders(playbook, step))
    if step.kind == "ask":
        yield from _question_problems(playbook, step)
    elif not unknown:
        yield from _command_problems(playbook, step, parser)


def _question_problems(playbook: Playbook, step: PlaybookStep) -> Iterator[str]:
    """The problems of a question whose answer has no effect: it has no choices, or nothing depends on the choice."""
    if step.text.rstrip(" .\"')”’").endswith(("?", "？")) and not step.choices:
        yield "ask: a question needs choices; without choices, write an instruction"
    is_used = any(step.id in condition for later in playbook.steps for condition in later.conditions)
    if step.choices and not step.expected and not (step.id and is_used):
        yield "choices: no step depends on the answer; add the required one (expect: yes), or use it in a later step's when"


def _condition_problems(playbook: Playbook, condition: Condition, ids: Mapping[str, int]) -> Iterator[str]:
    for key, wanted in condition.items():
        if key in playbook.parameters:
            choices = playbook.parameters[key].choices
        elif key in ids and playbook.steps[ids[key] - 1].choices:
            choices = playbook.steps[ids[key] - 1].choices
        else:
            yield f"{key!r} is neither a parameter nor an earlier question with choices"
            continue
        yield from (
            f"{key} is never {value!r}; it is one of {', '.join(choices)}" for value in values(wanted) if choices and value not in choices
        )


def _unset_placeholders(playbook: Playbook, step: PlaybookStep) -> Iterator[tuple[str, str]]:
    """Placeholders that may have no value in this step: its `when` doesn't contain the parameter's `required-when`."""
    for name in placeholders(placeholder_text(step)):
        parameter = playbook.parameters.get(name)
        if parameter is None or not parameter.required_when:
            continue
        if not step.conditions or not all(_implies(condition, parameter.required_when) for condition in step.conditions):
            yield name, "may have no value here; add the parameter's required-when to the step's when"


def _implies(condition: Condition, other: Condition) -> bool:
    return all(key in condition and set(values(condition[key])) <= set(values(wanted)) for key, wanted in other.items())


def _command_problems(playbook: Playbook, step: PlaybookStep, parser: StepParser) -> Iterator[str]:
    used = {name: playbook.parameters[name] for name in placeholders(placeholder_text(step))}
    for chosen in _product({name: p.choices for name, p in used.items() if p.choices}):
        free = _product({name: _samples(p) for name, p in used.items() if not p.choices})
        tried = [_try_parse(parser, step, {**chosen, **guessed}) for guessed in free]
        parsed = next((each for each in tried if isinstance(each, ParsedCommand)), None)
        if wrong := str(tried[-1]) if parsed is None else _step_kind_problem(step, parsed):
            yield f"{step.kind}: {wrong}"
            return


def _samples(parameter: Parameter) -> list[str]:
    return [parameter.default] if parameter.default else list(SAMPLES)


def _product(candidates: Mapping[str, list[str]]) -> Iterator[dict[str, str]]:
    for combination in itertools.product(*candidates.values()):
        yield dict(zip(candidates, combination, strict=True))


def _try_parse(parser: StepParser, step: PlaybookStep, given: Mapping[str, str]) -> ParsedCommand | str:
    """The step's command with these values, or why the command tree rejects it."""
    try:
        return parser.parse(step, given)
    except (click.ClickException, ValueError) as wrong:
        return wrong.format_message() if isinstance(wrong, click.ClickException) else f"{step.text!r}: {wrong}"
    except click.exceptions.Exit:
        return f"{step.text!r} only prints help"


def _step_kind_problem(step: PlaybookStep, parsed: ParsedCommand) -> str:
    """Why a valid line doesn't fit its kind of step; empty when it fits."""
    if is_mutating(parsed) and (named := forbidden_options(parsed)):
        return f"{step.text!r} sets {', '.join(named)}, which belongs to the playbook's run"
    return {"run": _run_problem, "look": _look_problem, "verify": _verify_problem}[step.kind](step, parsed)


def _run_problem(step: PlaybookStep, parsed: ParsedCommand) -> str:
    return "" if is_mutating(parsed) else f"{step.text!r} changes nothing; use look to show something, or verify to check it"


def _look_problem(step: PlaybookStep, parsed: ParsedCommand) -> str:
    if is_mutating(parsed):
        return f"{step.text!r} changes something; a look may only read"
    return f"{step.text!r} neither reads nor changes a system" if parsed.command.kind == "local" else ""


def _verify_problem(step: PlaybookStep, parsed: ParsedCommand) -> str:
    """Why a verify can't fail; empty when it can. It fails by the command's verdict, by a remaining change, or by its expectation."""
    has_verdict = parsed.gives_verdict or is_mutating(parsed)
    if parsed.command.kind == "local" and not has_verdict:
        return f"{step.text!r} neither reads nor changes a system"
    if not step.expect:
        return "" if has_verdict else f"{step.text!r} only shows; add the expected result (expect: {{state: healthy}}), or use look"
    if has_verdict:
        return f"{step.text!r} passes or fails by itself, so expect is not allowed"
    try:
        Expectation.parse(cast(dict[str, Any], step.expect), parsed.values)
    except ValueError as wrong:
        return f"expect: {wrong}"
    return ""
