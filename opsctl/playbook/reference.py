"""The generated parts of RUNBOOK.md: a playbook as a checklist in Markdown. Only `make docs` calls it, through cog."""

from __future__ import annotations

from typing import Any

from opsctl.cli.reference import table
from opsctl.playbook.schema import Condition, Playbook, PlaybookStep


def checklist(playbook: Playbook) -> str:
    """A playbook as a checklist under its sections, each with its mark; a run's line is what opsctl does by itself."""
    lines, heading = _parameters(playbook), ""
    for number, step in enumerate(playbook.steps, 1):
        found = " · ".join(word for word in (step.section, step.mark) if word)
        if found != heading:
            lines += ["", f"**{found}**", ""]
            heading = found
        lines += _step(number, step)
    return "\n".join(lines)


def _parameters(playbook: Playbook) -> list[str]:
    rows = []
    for name, parameter in playbook.parameters.items():
        value = "\\|".join(parameter.choices) or "VALUE"
        given = f"default `{parameter.default}`" if parameter.default is not None else "required"
        if parameter.required_when:
            given = f"required when {_condition(parameter.required_when)}"
        rows.append((f"`{name}={value}`", given, parameter.help))
    return table(("parameter", "given", "meaning"), rows).splitlines() if rows else []


def _expected(expect: dict[str, Any]) -> str:
    """What a verify expects, as it is written."""
    words = [f"{key} ({_expected(value)})" if isinstance(value, dict) else f"{key} `{_plain(value)}`" for key, value in expect.items()]
    return ", ".join(words)


def _plain(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " or ".join(value)


def _step(number: int, step: PlaybookStep) -> list[str]:
    said = f"{step.text}" if step.kind == "ask" else f"`opsctl {' '.join(step.text.split())}`"
    more = [f"answer {' or '.join(step.choices)}"] if step.choices else []
    more += [f"must be {' or '.join(step.expected)}"] if step.expected else []
    more += [f"expects {_expected(step.expect)}"] if isinstance(step.expect, dict) and step.expect else []
    more += [f"when {' or '.join(_condition(c) for c in step.conditions)}"] if step.conditions else []
    more += [f"as of the end of step `{step.follows}`"] if step.follows else []
    more += [f"within {step.within}"] if step.within else []
    word = {"ask": "", "run": "**runs** ", "look": "**shows** ", "verify": "**proves** "}[step.kind]
    name = f" `{step.id}`" if step.id else ""
    tail = f" ({'; '.join(more)})" if more else ""
    lines = [f"- [ ] {number}.{name} {word}{said}{tail}"]
    lines += [f"  - covers: {'; '.join(step.items)}"] if step.items else []
    return [*lines, f"  - {step.note}"] if step.note else lines


def _condition(condition: Condition) -> str:
    return " and ".join(f"{key} is {wanted if isinstance(wanted, str) else ' or '.join(wanted)}" for key, wanted in condition.items())
