"""A command line that is parsed but not run, such as a playbook's step."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import click

from opsctl.cli import app
from opsctl.cli.command import VALUES, OpsCommand
from opsctl.cli.line import canonical_command_line


class ParsedCommand:
    """A command with its parameters. `text` is its canonical spelling, `values` are the values of its placeholders."""

    def __init__(self, line: str, values: Mapping[str, str]) -> None:
        words = shlex.split(line)
        command: click.Command = app.root
        ctx = click.Context(app.root, info_name="opsctl")
        while isinstance(command, click.Group):
            name = words.pop(0) if words else ""
            found = command.get_command(ctx, name)
            if found is None:
                raise click.UsageError(f"No such command {name!r} in {line!r}.")
            command = found
            ctx = click.Context(command, info_name=name, parent=ctx)
        if not isinstance(command, OpsCommand):
            raise click.UsageError(f"{line!r} names a group, not a command.")
        ctx.meta[VALUES] = values
        command.parse_args(ctx, words)
        self.command, self.values = command, values
        self.params: dict[str, Any] = dict(ctx.params)
        self.text = canonical_command_line(ctx)

    @property
    def gives_verdict(self) -> bool:
        """Whether this line gives a verdict."""
        return self.command.gives_verdict and (not self.command.verdict_flag or bool(self.params.get(self.command.verdict_flag)))
