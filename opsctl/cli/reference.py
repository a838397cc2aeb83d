"""The generated parts of RUNBOOK.md and README.md: the command tree and the exit codes as Markdown.

Only `make docs` calls it, through cog.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import click

from opsctl.errors import OpsctlError

WIDTH = 120

EXIT = {
    0: "done, or nothing to do",
    1: "failed or partly done; anything half done is recorded",
    2: "wrong usage or configuration",
    3: "a dry run or audit found something to change, or an alert fires",
    4: "refused: a guard, a stale plan, the wrong place, a missing approval",
    5: "another run holds the lock: who, since when, doing what",
    6: "interrupted, or an outcome is unknown: `opsctl runs resume ID`",
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
    return table(("option", "meaning"), [(f"`{name}`", text) for name, text in rows])


def _options(ctx: click.Context, parameters: Sequence[click.Parameter]) -> list[tuple[str, str]]:
    return [record for p in parameters if isinstance(p, click.Option) and (record := p.get_help_record(ctx))]


def index(root: click.Group) -> str:
    """Every command with its first line of help, linked to its anchor."""
    rows = [(f"[`{words}`](#{anchor(words)})", command.get_short_help_str(200)) for words, command in leaves(root)]
    return table(("command", "what it does"), rows)


def exit_codes() -> str:
    """The exit codes, with the errors that end in each."""
    kinds: dict[int, list[str]] = {}
    for kind in errors():
        kinds.setdefault(kind.exit_code, []).append(_spaced(kind.__name__))
    return table(("exit", "meaning", "errors"), [(str(code), text, ", ".join(kinds.get(code, []))) for code, text in EXIT.items()])


def errors(base: type[OpsctlError] = OpsctlError) -> Iterator[type[OpsctlError]]:
    """Every error but the base, from the general to the special."""
    for kind in base.__subclasses__():
        if kind.__module__ == OpsctlError.__module__:
            yield kind
            yield from errors(kind)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Error")).lower()


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
