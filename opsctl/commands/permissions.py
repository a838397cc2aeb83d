"""`opsctl permissions`: the least that a command needs to be allowed, in each outside system."""

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
"""The commands that make changes of any kind."""


@root_command("permissions")
@click.argument("command", nargs=-1, metavar="[COMMAND|PLAYBOOK]")
@click.option("--format", "form", type=click.Choice(["iam", "grants"]), help="Print only AWS policies (JSON), or only grants.")
@read_only
def permissions(systems: Systems, command: tuple[str, ...], form: str | None) -> Page | Text | dict[str, Any]:
    """Show the permissions that a command, a group, a playbook or, by default, everything needs: AWS, Postgres, Redis, HTTP."""
    from opsctl.permissions import grants, iam, scopes

    settings = systems.environment.settings
    needed = of(" ".join(command))
    policies = iam.policies(settings, needed)
    if form == "iam":
        return Text(json.dumps(policies, indent=2))
    sql, acl, scoped = grants.statements(settings, needed), grants.access_lists(settings, needed), scopes.scopes(needed)
    if form == "grants":
        return Text("\n".join(_lines(sql, acl, scoped)))
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
    """A row an action: where many resources are named, the number of the others."""
    for statement in policy["Statement"]:
        first, *more = statement["Resource"]
        yield from ({"action": action, "resource": f"{first} and {len(more)} more" if more else first} for action in statement["Action"])


def _lines(sql: list[str], acl: list[str], scoped: dict[str, list[dict[str, str]]]) -> Iterator[str]:
    """The grants as a script: SQL, then Redis and HTTP, which psql doesn't take, as comments."""
    yield from sql
    yield from (f"-- Redis: {line}" for line in acl)
    for side, rows in scoped.items():
        yield from (f"-- {row['system']} ({side}): {row['scope']}" for row in rows)


def of(name: str) -> Permissions:
    """The permissions of the command, group or playbook `name`, or of everything; raises NotFound for a name of none."""
    from opsctl.playbook import loader

    words = name.split()
    found = dict(_commands(words, root)) if _exists(words) else {}
    if not found and name in loader.names():
        for step in loader.load(name).playbook.steps:
            if step.kind != "ask":
                found |= dict(_commands(shlex.split(step.text), root))
    if not found:
        raise NotFound(f"There is no command and no playbook {name!r}.", "opsctl --help; opsctl playbook list")
    return union(_needed(words, command) for words, command in found.items())


def _exists(words: list[str]) -> bool:
    command: click.Command | None = root
    for word in words:
        command = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
    return command is not None


def _commands(words: list[str], command: click.Command, path: str = "") -> Iterator[tuple[str, OpsCommand]]:
    """The commands that begin with these words, each with its path; options before a command's name, and what follows it, are left out."""
    if isinstance(command, OpsCommand):
        yield path, command
    if not isinstance(command, click.Group):
        return
    ctx = click.Context(command)
    names = command.list_commands(ctx)
    chosen = next((word for word in words if word in names), None)
    for name in names if chosen is None else [chosen]:
        found = command.get_command(ctx, name)
        assert found is not None
        rest = words[words.index(name) + 1 :] if chosen else []
        yield from _commands(rest, found, f"{path} {name}".strip())


def _needed(words: str, command: OpsCommand) -> Permissions:
    from opsctl.changes import all_kinds

    own = command.requirement
    made = [kind for kind in all_kinds() if words in EVERY_KIND or kind.__struct_config__.tag in own.changes]
    return union([Permissions(own.reads), *(kind.permissions for kind in made)])
