"""The `key=value` arguments of `playbook run`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import click

from opsctl.playbook.schema import Condition, Parameter, Playbook, values


def check(playbook: Playbook, words: Sequence[str]) -> dict[str, str]:
    """The value of every parameter, from `key=value` arguments and defaults.

    Raises a usage error for an unknown or repeated key, a value that isn't a choice, a missing value, and a value that is used only with
    another setting: `user=7` with the default `scope=widespread` would log out everybody instead of one user.
    """
    given = _given(playbook, words)
    known = {name: p.default for name, p in playbook.parameters.items() if p.default is not None} | given
    for name, parameter in playbook.parameters.items():
        wanted = not parameter.required_when or _is_met(parameter.required_when, known)
        if wanted and name not in known:
            value = "|".join(parameter.choices) or "VALUE"
            raise click.UsageError(f"{name}={value} is missing{_condition_text(parameter)}. {parameter.help}".strip())
        if name in given and not wanted:
            raise click.UsageError(f"{name} is used only{_condition_text(parameter)}; add that, or remove {name}.")
    return {name: known[name] for name in playbook.parameters if name in known}


def _given(playbook: Playbook, words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        parameter = playbook.parameters.get(name)
        if not equals or parameter is None:
            known = ", ".join(f"{n}={'|'.join(p.choices) or 'VALUE'}" for n, p in playbook.parameters.items())
            raise click.UsageError(f"{word!r} is not a parameter of this playbook. Its parameters: {known or 'none'}.")
        if name in given:
            raise click.UsageError(f"{name} is given twice.")
        if parameter.choices and value not in parameter.choices:
            raise click.UsageError(f"{name} is one of {', '.join(parameter.choices)}, not {value!r}.")
        given[name] = value
    return given


def _is_met(condition: Condition, known: Mapping[str, str]) -> bool:
    return all(known.get(key) in values(wanted) for key, wanted in condition.items())


def _condition_text(parameter: Parameter) -> str:
    conditions = " and ".join(f"{key} is {' or '.join(values(wanted))}" for key, wanted in parameter.required_when.items())
    return f" when {conditions}" if conditions else ""


def command_line(name: str, parameters: Mapping[str, str]) -> str:
    """The canonical command line of a playbook's run."""
    return shlex.join(["playbook", "run", name, *(f"{key}={value}" for key, value in parameters.items())])
