"""What can be wrong with a playbook that its schema allows: names that lead nowhere, and lines that the command tree refuses."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import click

from opsctl.cli.line import placeholders
from opsctl.cli.parsed import ParsedCommand
from opsctl.playbook.expectation import Expectation
from opsctl.playbook.lines import StepParser, forbidden_options, is_mutating, step_text
from opsctl.playbook.schema import Condition, Parameter, Playbook, PlaybookStep, values
from opsctl.playbook.source import Problem, YamlSource

SAMPLES = ("1", "1h", "2024-01-01", "name@example.com", "env:VALUE", "name", os.devnull)
"""Values that stand for one that is only known when the playbook is run: the first that the parameter's type takes is enough."""


def lint(playbook: Playbook, source: YamlSource, parser: StepParser) -> list[Problem]:
    """Find every problem of a playbook, in the order of its lines."""
    found: list[tuple[str, str]] = list(_parameters(playbook))
    ids: dict[str, int] = {}
    for number, step in enumerate(playbook.steps, 1):
        path = f"$.steps[{number - 1}]"
        found += [(path, what) for what in _step(playbook, step, ids, parser)]
        if step.id in ids or step.id in playbook.parameters:
            taken = "a parameter" if step.id in playbook.parameters else f"step {ids[step.id or '']}"
            found.append((f"{path}.id", f"id: {step.id!r} is {taken} already"))
        elif step.id:
            ids[step.id] = number
    problems = [Problem(line=source.line(path), what=what) for path, what in found]
    return sorted(problems, key=lambda p: p.line)


def _parameters(playbook: Playbook) -> Iterator[tuple[str, str]]:
    for name, parameter in playbook.parameters.items():
        path = f"$.parameters.{name}"
        if parameter.choices and parameter.default not in (None, *parameter.choices):
            yield path, f"default: {parameter.default!r} is none of its choices"
        if parameter.required_when and parameter.default is not None:
            yield path, "required-when: one with a default is never missing"
        for what in _condition(playbook, parameter.required_when, {}):
            yield path, f"required-when: {what}"


def _step(playbook: Playbook, step: PlaybookStep, ids: Mapping[str, int], parser: StepParser) -> Iterator[str]:
    for condition in step.conditions:
        for what in _condition(playbook, condition, ids):
            yield f"when: {what}"
    if step.follows:
        before = playbook.steps[ids[step.follows] - 1] if step.follows in ids else None
        if before is None:
            yield f"follows: no earlier step has the id {step.follows!r}"
        elif before.kind != "run":
            yield f"follows: {step.follows!r} is no run"
    unknown = [name for name in placeholders(step_text(step)) if name not in playbook.parameters]
    yield from (f"{{{name}}} is no parameter of this playbook" for name in unknown)
    yield from (f"{{{name}}} {why}" for name, why in _unset(playbook, step))
    if step.kind == "ask":
        yield from _question(playbook, step)
    elif not unknown:
        yield from _line(playbook, step, parser)


def _question(playbook: Playbook, step: PlaybookStep) -> Iterator[str]:
    """A question whose answer would change nothing: it has no choices, or nothing depends on which one is made."""
    if step.text.rstrip(" .\"')”’").endswith(("?", "？")) and not step.choices:
        yield "ask: a question needs choices; without them say what to do, in words that can be done"
    rests = any(step.id in condition for later in playbook.steps for condition in later.conditions)
    if step.choices and not step.expected and not (step.id and rests):
        yield "choices: no step depends on the answer; say which one must be given (expect: yes), or use it in a later step's when"


def _condition(playbook: Playbook, condition: Condition, ids: Mapping[str, int]) -> Iterator[str]:
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


def _unset(playbook: Playbook, step: PlaybookStep) -> Iterator[tuple[str, str]]:
    """Placeholders that may have no value when the step is reached, since its `when` doesn't imply the parameter's `required-when`."""
    for name in placeholders(step_text(step)):
        parameter = playbook.parameters.get(name)
        if parameter is None or not parameter.required_when:
            continue
        if not step.conditions or not all(_implies(condition, parameter.required_when) for condition in step.conditions):
            yield name, "may have no value here: the step's when must contain the parameter's required-when"


def _implies(condition: Condition, other: Condition) -> bool:
    return all(key in condition and set(values(condition[key])) <= set(values(wanted)) for key, wanted in other.items())


def _line(playbook: Playbook, step: PlaybookStep, parser: StepParser) -> Iterator[str]:
    used = {name: playbook.parameters[name] for name in placeholders(step_text(step))}
    for chosen in _product({name: p.choices for name, p in used.items() if p.choices}):
        free = _product({name: _samples(p) for name, p in used.items() if not p.choices})
        tried = [_parsed(parser, step, {**chosen, **guessed}) for guessed in free]
        parsed = next((each for each in tried if isinstance(each, ParsedCommand)), None)
        if wrong := str(tried[-1]) if parsed is None else _refusal(step, parsed):
            yield f"{step.kind}: {wrong}"
            return


def _samples(parameter: Parameter) -> list[str]:
    return [parameter.default] if parameter.default else list(SAMPLES)


def _product(candidates: Mapping[str, list[str]]) -> Iterator[dict[str, str]]:
    for combination in itertools.product(*candidates.values()):
        yield dict(zip(candidates, combination, strict=True))


def _parsed(parser: StepParser, step: PlaybookStep, given: Mapping[str, str]) -> ParsedCommand | str:
    """The step's line with these values, or why the command tree refuses it."""
    try:
        return parser.parse(step, given)
    except (click.ClickException, ValueError) as wrong:
        return wrong.format_message() if isinstance(wrong, click.ClickException) else f"{step.text!r}: {wrong}"
    except click.exceptions.Exit:
        return f"{step.text!r} only prints help"


def _refusal(step: PlaybookStep, parsed: ParsedCommand) -> str:
    """Why a line that the command tree takes doesn't do for its kind of step; empty when it does."""
    if is_mutating(parsed) and (named := forbidden_options(parsed)):
        return f"{step.text!r} says {', '.join(named)}, which is said once, when the playbook is run"
    return {"run": _run, "look": _look, "verify": _verify}[step.kind](step, parsed)


def _run(step: PlaybookStep, parsed: ParsedCommand) -> str:
    return "" if is_mutating(parsed) else f"{step.text!r} changes nothing; a step that looks is a look, one that proves a verify"


def _look(step: PlaybookStep, parsed: ParsedCommand) -> str:
    if is_mutating(parsed):
        return f"{step.text!r} is a changing command; a look only reads"
    return f"{step.text!r} neither views nor changes anything" if parsed.command.kind == "local" else ""


def _verify(step: PlaybookStep, parsed: ParsedCommand) -> str:
    """A proof must be able to fail: by the command's own verdict, by what a changing command would still change, or by what is expected."""
    gives_one = parsed.gives_verdict or is_mutating(parsed)
    if parsed.command.kind == "local" and not gives_one:
        return f"{step.text!r} neither views nor changes anything"
    if not step.expect:
        return "" if gives_one else f"{step.text!r} only shows; say what it must show (expect: {{state: healthy}}), or make it a look"
    if gives_one:
        return f"{step.text!r} gives a verdict by itself, so it takes no expect"
    try:
        Expectation.parse(cast(dict[str, Any], step.expect), parsed.values)
    except ValueError as wrong:
        return f"expect: {wrong}"
    return ""
