"""The parts of RUNBOOK.md and README.md that can't drift: drawn as Markdown from the command tree, the playbooks and the errors.

Only `make docs` calls it, through cog; a function is handed what it draws.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from opsctl.errors import OpsctlError

if TYPE_CHECKING:
    from opsctl.playbook.schema import Condition, Playbook, Step

WIDTH = 120

EXIT = {
    0: "done, or already so",
    1: "failed, or found not so; nothing is half done that the ledger doesn't name",
    2: "wrong usage or configuration; nothing was run",
    3: "a dry run found something that would change, or an alert fires",
    4: "refused: a guard, a wrong place, a plan that no longer holds",
    5: "another run works on the same target: who, since when, doing what",
    6: "interrupted, or an outcome is unknown: `opsctl runs resume RUN`",
    7: "waiting for a person",
}
"""What each exit code of the process means."""


def leaves(root: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Every command that can be run, as its words (`service scale`) and itself, in the order of --help."""
    yield from _leaves(root, click.Context(root, info_name="opsctl"), ())


def _leaves(group: click.Group, ctx: click.Context, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from _leaves(command, click.Context(command, info_name=name, parent=ctx), (*words, name))
        elif command is not None:
            yield " ".join((*words, name)), command


def anchor(words: str) -> str:
    """`service scale` -> `service-scale`."""
    return words.replace(" ", "-")


def block(root: click.Group, words: str, shared: Collection[str]) -> str:
    """One command: its usage, its help and its own options; where it has all that `shared` names, those are only mentioned."""
    command = dict(leaves(root))[words]
    ctx = click.Context(command, info_name=words)
    formatter = click.HelpFormatter(width=WIDTH, max_width=WIDTH)
    formatter.write_usage(f"opsctl {words}", " ".join(command.collect_usage_pieces(ctx)))
    command.format_help_text(ctx, formatter)
    changing = {p.name for p in command.params}.issuperset(shared)
    own = _options(ctx, [p for p in command.params if not (changing and p.name in shared)])
    if own:
        with formatter.section("Options"):
            formatter.write_dl(own)
    if changing:
        formatter.write_paragraph()
        formatter.write_text("It also takes the options of every changing command.")
    return f"```text\n{formatter.getvalue().rstrip()}\n```"


def options(parameters: Sequence[click.Parameter]) -> str:
    """Options as a table."""
    rows = _options(click.Context(click.Command("opsctl")), parameters)
    return _table(("option", "meaning"), [(f"`{name}`", text) for name, text in rows])


def _options(ctx: click.Context, parameters: Sequence[click.Parameter]) -> list[tuple[str, str]]:
    return [record for p in parameters if isinstance(p, click.Option) and (record := p.get_help_record(ctx))]


def index(root: click.Group) -> str:
    """Every command with its first line of help, linked to its anchor."""
    rows = [(f"[`{words}`](#{anchor(words)})", command.get_short_help_str(200)) for words, command in leaves(root)]
    return _table(("command", "what it does"), rows)


def exit_codes() -> str:
    """The exit codes, with the errors that end in each."""
    kinds: dict[int, list[str]] = {}
    for kind in errors():
        kinds.setdefault(kind.exit_code, []).append(_spaced(kind.__name__))
    return _table(("exit", "meaning", "errors"), [(str(code), text, ", ".join(kinds.get(code, []))) for code, text in EXIT.items()])


def errors(base: type[OpsctlError] = OpsctlError) -> Iterator[type[OpsctlError]]:
    """Every error but the base, from the general to the special."""
    for kind in base.__subclasses__():
        if kind.__module__ == OpsctlError.__module__:
            yield kind
            yield from errors(kind)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Error")).lower()


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
    return _table(("parameter", "given", "meaning"), rows).splitlines() if rows else []


def _expected(expect: dict[str, Any]) -> str:
    """What a verify expects, as it is written."""
    words = [f"{key} ({_expected(value)})" if isinstance(value, dict) else f"{key} `{_plain(value)}`" for key, value in expect.items()]
    return ", ".join(words)


def _plain(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " or ".join(value)


def _step(number: int, step: Step) -> list[str]:
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


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
