"""Help pages: the examples in a command's docstring, and lists of commands whose lines are shown whole."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import click

EXAMPLES = "\n\nExamples:\n"
"""What divides a docstring into the help text and its examples, one command line a line."""


def split_examples(docstring: str | None) -> tuple[str, list[str]]:
    """The help text, and the command lines of its `Examples:` part."""
    text, _, examples = inspect.cleandoc(docstring or "").partition(EXAMPLES)
    return text, [line.strip() for line in examples.splitlines() if line.strip()]


def write_examples(formatter: click.HelpFormatter, examples: list[str]) -> None:
    """Write command lines one under the other; a line is never wrapped, so that it can be copied."""
    if examples:
        with formatter.section("Examples"):
            for line in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def first_sentence(command: click.Command) -> str:
    """The line that stands for a command in a list of commands."""
    return command.get_short_help_str(1000)


class HelpfulGroup(click.Group):
    """A group that lists its commands with whole lines, and names the nearest command for a mistyped one."""

    def lines(self, ctx: click.Context) -> Mapping[str, str]:
        """Every command's name, and its line of help."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        return {name: first_sentence(command) for name, command in found.items() if command is not None}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lines(ctx).items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names; raises NoSuchCommand, with the nearest names."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as wrong:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx) from wrong
