"""A step's command line. The command tree of the terminal parses it once; placeholders are filled in after parsing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
import msgspec

from opsctl.cli.line import fill, placeholders
from opsctl.cli.options import split_options
from opsctl.cli.parsed import ParsedCommand
from opsctl.engine.options import Options
from opsctl.errors import ConfigurationError

if TYPE_CHECKING:
    from opsctl.contract import Planning
    from opsctl.engine.engine import Make
    from opsctl.playbook.schema import PlaybookStep

OWN = frozenset(("timeout", "max_affected", "again"))
"""The shared options that a single step may set."""


def placeholder_text(step: PlaybookStep) -> str:
    """The text of a step in which placeholders are filled in: its command or question, and its expectation."""
    return f"{step.text} {step.expect}"


def filled_text(text: str, values: Mapping[str, str]) -> str:
    """A question with its placeholders filled in; only for display."""
    return str(fill(text, values))


class StepParser:
    """Parses the command lines of a playbook's steps, each once for the same placeholder values."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[str, tuple[tuple[str, str], ...]], ParsedCommand] = {}

    def parse(self, step: PlaybookStep, values: Mapping[str, str]) -> ParsedCommand:
        """The step's command with these values. Raises a usage error when the command tree rejects it."""
        used = {name: values[name] for name in placeholders(placeholder_text(step)) if name in values}
        key = step.text, tuple(used.items())
        if key not in self._parsed:
            self._parsed[key] = ParsedCommand(step.text, used)
        return self._parsed[key]

    def given(self, step: PlaybookStep, values: Mapping[str, str]) -> ParsedCommand:
        """As `parse`, with the values of this run. Raises ConfigurationError for a value of the wrong type."""
        try:
            return self.parse(step, values)
        except click.ClickException as wrong:
            raise ConfigurationError(f"`{step.text}`: {wrong.format_message()}", "Fix the parameter's value.") from wrong


def is_mutating(parsed: ParsedCommand) -> bool:
    """Whether a line is a changing command."""
    return parsed.command.kind == "mutating"


def is_performed(parsed: ParsedCommand) -> bool:
    """Whether a line is a check with an effect of its own, such as granting a lease. A verify of it is run as a change."""
    return is_mutating(parsed) and parsed.gives_verdict


def forbidden_options(parsed: ParsedCommand) -> list[str]:
    """The shared options that a line sets although they belong to the playbook's run."""
    line_options, _ = split_options({**parsed.params, "dry_run": True})
    defaults = Options(dry_run=True)
    names = [n for n in Options.__struct_fields__ if n not in OWN and getattr(line_options, n) != getattr(defaults, n)]
    names += ["dry_run"] if parsed.params.get("dry_run") else []
    return [f"--{name.replace('_', '-')}" for name in names]


def make(parsed: ParsedCommand) -> Make:
    """A function that yields the changes of a changing command. Raises ConfigurationError for a usage error of the command."""
    _, own = split_options(parsed.params)

    def changes(planning: Planning) -> Iterator[Any]:
        try:
            yield from parsed.command.function(planning, **own)
        except click.UsageError as wrong:
            raise ConfigurationError(f"`{parsed.text}`: {wrong.format_message()}", "Fix the playbook or its parameters.") from wrong

    return changes


def options(parsed: ParsedCommand, given: Options) -> Options:
    """The run's options, overridden by the line's own; of two limits the lower one."""
    line_options, _ = split_options(parsed.params)
    bounds = [n for n in (line_options.max_affected, given.max_affected) if n is not None]
    return msgspec.structs.replace(
        given,
        timeout=line_options.timeout or given.timeout,
        max_affected=min(bounds, default=None),
        again=line_options.again or given.again,
    )
