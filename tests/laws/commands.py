"""Finds every command in the Click tree, so that none can be forgotten."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import click

from opsctl.cli.app import GROUPS, root
from opsctl.cli.command import OpsCommand

UNIMPORTABLE: dict[str, str] = {}
"""Groups whose file can't be imported, and why; a test fails when there is one."""


@functools.cache
def lines() -> dict[str, OpsCommand]:
    """Every command by its words, `service scale`."""
    found: dict[str, OpsCommand] = {}
    ctx = click.Context(root)
    for name in GROUPS:
        try:
            command = root.get_command(ctx, name)
        except ImportError as cause:
            UNIMPORTABLE[name] = str(cause)
            continue
        assert command is not None, f"{name} is in GROUPS, and no command"
        found |= dict(_lines(name, command))
    return found


def _lines(words: str, command: click.Command) -> Iterator[tuple[str, OpsCommand]]:
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _lines(f"{words} {name}", each)
    else:
        assert isinstance(command, OpsCommand), f"{words} is no OpsCommand"
        yield words, command


def changing() -> list[str]:
    """The words of every command that changes something."""
    return [words for words, line in lines().items() if line.kind == "mutating"]
