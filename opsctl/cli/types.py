"""Types of arguments: each turns what was typed into a value, or raises a usage error."""

from __future__ import annotations

from typing import Any

import click

from opsctl.redaction import clean_text
from opsctl.settings import Duration


class DurationType(click.ParamType[Duration]):
    """A time span: `90s`, `5m`, `24h`, `7d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        """Raises a usage error for anything else."""
        if isinstance(value, Duration):
            return value
        try:
            return Duration.parse(value)
        except ValueError as cause:
            self.fail(str(cause), param, ctx)


DURATION = DurationType()


class SecretSourceType(click.ParamType[str]):
    """Where a secret value comes from. The usage error doesn't repeat what was typed, which may be the value itself."""

    name = "source"

    def __init__(self, *, generated: bool) -> None:
        self.generated = generated

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises a usage error for a value that is no source."""
        from opsctl.adapters.host.secret_sources import check_source

        if value == "generate" and not self.generated:
            self.fail("expected -, env:VARIABLE or file:PATH: the value is one that somebody else has.", param, ctx)
        try:
            return check_source(value)
        except ValueError as cause:
            self.fail(str(cause), param, ctx)


SOURCE = SecretSourceType(generated=True)
GIVEN = SecretSourceType(generated=False)
"""The source of a value that exists already, so `generate` is refused."""


class WordsType(click.types.StringParamType):
    """A text that is kept and shown to others later; what looks like a secret is removed from it."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the cleaned text."""
        return clean_text(str(value))


WORDS = WordsType()
