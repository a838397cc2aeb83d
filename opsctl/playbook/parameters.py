"""The `key=value` words of `playbook run`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import click

from opsctl.playbook.schema import Condition, Parameter, Playbook, values


def check(playbook: Playbook, words: Sequence[str]) -> dict[str, str]:
    """Turn `key=value` words into every parameter's value, defaults included.

    Raises a usage error for an unknown or repeated key, a value that is no choice, a missing one, and one that counts only when another
    parameter says otherwise: `user=7` with the default `scope=widespread` would be a much larger run than was meant.
    """
    given = _given(playbook, words)
    known = {name: p.default for name, p in playbook.parameters.items() if p.default is not None} | given
    for name, parameter in playbook.parameters.items():
        wanted = not parameter.required_when or _meets(parameter.required_when, known)
        if wanted and name not in known:
            value = "|".join(parameter.choices) or "VALUE"
            raise click.UsageError(f"{name}={value} is missing{_why(parameter)}. {parameter.help}".strip())
        if name in given and not wanted:
            raise click.UsageError(f"{name} counts only{_why(parameter)}; say that too, or leave {name} out.")
    return {name: known[name] for name in playbook.parameters if name in known}


def _given(playbook: Playbook, words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        parameter = playbook.parameters.get(name)
        if not equals or parameter is None:
            known = ", ".join(f"{n}={'|'.join(p.choices) or 'VALUE'}" for n, p in playbook.parameters.items())
            raise click.UsageError(f"{word!r} sets no parameter of this playbook; it has: {known or 'none'}.")
        if name in given:
            raise click.UsageError(f"{name} is given twice.")
        if parameter.choices and value not in parameter.choices:
            raise click.UsageError(f"{name} is one of {', '.join(parameter.choices)}, not {value!r}.")
        given[name] = value
    return given


def _meets(condition: Condition, known: Mapping[str, str]) -> bool:
    return all(known.get(key) in values(wanted) for key, wanted in condition.items())


def _why(parameter: Parameter) -> str:
    told = " and ".join(f"{key} is {' or '.join(values(wanted))}" for key, wanted in parameter.required_when.items())
    return f" when {told}" if told else ""


def command(name: str, parameters: Mapping[str, str]) -> str:
    """The one canonical spelling of a playbook's run."""
    return shlex.join(["playbook", "run", name, *(f"{key}={value}" for key, value in parameters.items())])
