"""`opsctl permissions`: the least permissions that a command needs in each outside system."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import root, root_command
from opsctl.cli.command import OpsCommand, read_only
from opsctl.errors import NotFound
from opsctl.permissions import Permissions, union
from opsctl.render.shapes import Page, Text

if TYPE_CHECKING:
    from opsctl.systems import Systems

EVERY_KIND = frozenset(("apply", "runs resume", "runs undo"))
"""The commands that can apply changes of any kind."""


@root_command("permissions")
@click.argument("command", nargs=-1, metavar="[COMMAND|PLAYBOOK]")
@click.option("--format", "form", type=click.Choice(["iam", "grants"]), help="Print only the AWS policies, or only a script of grants.")
@read_only
def permissions(systems: Systems, command: tuple[str, ...], form: str | None) -> Page | Text | dict[str, Any]:
    """Show the permissions that a command, a group, a playbook or (the default) everything needs: AWS, Postgres, Redis, HTTP.

    Examples:
        opsctl permissions service scale
        opsctl permissions token-compromise --format iam
    """
    from opsctl.permissions import grants, iam, scopes

    settings = systems.environment.settings
    needed = of(" ".join(command))
    policies = iam.policies(settings, needed)
    if form == "iam":
        return Text(json.dumps(policies, indent=2))
    sql, acl, scoped = grants.statements(settings, needed), grants.access_lists(settings, needed), scopes.scopes(needed)
    if form == "grants":
        return Text("\n".join(_lines(sql, acl, scoped)), data={"postgres": sql, "redis": acl, "http": scoped})
    http = [{"for": side, **row} for side, rows in scoped.items() for row in rows]
    return Page(
        [
            ("AWS", [{"for": side, **row} for side, policy in policies.items() for row in _rows(policy)]),
            ("Postgres", [{"grant": line} for line in sql]),
            ("Redis", [{"user": line} for line in acl]),
            ("HTTP", http),
        ]
    )


def _rows(policy: dict[str, Any]) -> Iterator[dict[str, str]]:
    """One row per action, with its first resource and the number of the others."""
    for statement in policy["Statement"]:
        first, *more = statement["Resource"]
        yield from ({"action": action, "resource": f"{first} and {len(more)} more" if more else first} for action in statement["Action"])


def _lines(sql: list[str], acl: list[str], scoped: dict[str, list[dict[str, str]]]) -> Iterator[str]:
    """The grants as a psql script: SQL, then Redis and HTTP as comments, because psql can't run those."""
    yield from sql
    yield from (f"-- Redis: {line}" for line in acl)
    for side, rows in scoped.items():
        yield from (f"-- {row['system']} ({side}): {row['scope']}" for row in rows)


def of(name: str) -> Permissions:
    """The permissions of the command, group or playbook `name` (empty: of everything). Raises NotFound for an unknown name."""
    from opsctl.playbook import loader

    command, rest = _begun(name.split())
    found = dict(_under(command, name)) if not rest else {}
    if rest and name in loader.playbook_files():
        for step in loader.load(name).playbook.steps:
            if step.kind != "ask":
                command, rest = _begun(words := shlex.split(step.text))
                found |= dict(_under(command, " ".join(words[: len(words) - len(rest)])))
    if not found:
        raise NotFound(f"There is no command and no playbook {name!r}.", "opsctl --help; opsctl playbook list")
    return union(_needed(words, command) for words, command in found.items())


def _begun(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command or group that the first words name, and the remaining words."""
    command: click.Command = root
    while words and isinstance(command, click.Group) and (found := command.get_command(click.Context(command), words[0])):
        command, words = found, words[1:]
    return command, words


def _under(command: click.Command, path: str) -> Iterator[tuple[str, OpsCommand]]:
    """The command itself, or each command of the group, with its path."""
    if isinstance(command, OpsCommand):
        yield path, command
    elif isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            if found := command.get_command(ctx, name):
                yield from _under(found, f"{path} {name}".strip())


def _needed(words: str, command: OpsCommand) -> Permissions:
    from opsctl.changes import all_kinds

    own = command.requirement
    needed = [kind for kind in all_kinds() if words in EVERY_KIND or kind.__struct_config__.tag in own.changes]
    return union([Permissions(own.reads), *(kind.permissions for kind in needed)])
