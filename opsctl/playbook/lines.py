"""A step's command line, parsed once by the same tree as the terminal's, its placeholders filled after parsing."""

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
"""The shared options that a single step may say for itself."""


def step_text(step: PlaybookStep) -> str:
    """All of a step's text in which placeholders are filled: its line or question, and what a verify expects."""
    return f"{step.text} {step.expect}"


def filled_text(text: str, values: Mapping[str, str]) -> str:
    """A question with its placeholders filled; only for showing."""
    return str(fill(text, values))


class StepParser:
    """Parses the lines of one playbook's steps, each once for the same values of its placeholders."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[str, tuple[tuple[str, str], ...]], ParsedCommand] = {}

    def parse(self, step: PlaybookStep, values: Mapping[str, str]) -> ParsedCommand:
        """The step's line with these values. Raises a usage error for a line that the command tree refuses."""
        used = {name: values[name] for name in placeholders(step_text(step)) if name in values}
        key = step.text, tuple(used.items())
        if key not in self._parsed:
            self._parsed[key] = ParsedCommand(step.text, used)
        return self._parsed[key]

    def given(self, step: PlaybookStep, values: Mapping[str, str]) -> ParsedCommand:
        """As `parse`, with the values that a person gave. Raises ConfigurationError for a value that its type refuses."""
        try:
            return self.parse(step, values)
        except click.ClickException as wrong:
            raise ConfigurationError(f"`{step.text}`: {wrong.format_message()}", "Mend the parameter's value.") from wrong


def is_mutating(parsed: ParsedCommand) -> bool:
    """Whether a line is a changing command's."""
    return parsed.command.kind == "mutating"


def is_performed(parsed: ParsedCommand) -> bool:
    """Whether a line is a check that is itself an effect, such as taking out a lease: a verify of it is performed, as a run is."""
    return is_mutating(parsed) and parsed.gives_verdict


def forbidden_options(parsed: ParsedCommand) -> list[str]:
    """The shared options that a line says though they belong to the playbook's run."""
    said, _ = split_options({**parsed.params, "dry_run": True})
    plain = Options(dry_run=True)
    names = [n for n in Options.__struct_fields__ if n not in OWN and getattr(said, n) != getattr(plain, n)]
    names += ["dry_run"] if parsed.params.get("dry_run") else []
    return [f"--{name.replace('_', '-')}" for name in names]


def make(parsed: ParsedCommand) -> Make:
    """The function that yields a changing line's changes; a usage error of the command itself becomes a ConfigurationError."""
    _, own = split_options(parsed.params)

    def changes(planning: Planning) -> Iterator[Any]:
        try:
            yield from parsed.command.function(planning, **own)
        except click.UsageError as wrong:
            raise ConfigurationError(f"`{parsed.text}`: {wrong.format_message()}", "Mend the playbook or its parameters.") from wrong

    return changes


def options(parsed: ParsedCommand, given: Options) -> Options:
    """The run's options with what the line says for itself; of two bounds the narrower."""
    said, _ = split_options(parsed.params)
    bounds = [n for n in (said.max_affected, given.max_affected) if n is not None]
    return msgspec.structs.replace(
        given, timeout=said.timeout or given.timeout, max_affected=min(bounds, default=None), again=said.again or given.again
    )
