"""The text of a command line: its placeholders, and its one canonical spelling."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

import click

from opsctl.cli.options import SharedOption

PLACEHOLDER = re.compile(r"\{(\w+)\}")


def placeholders(text: str) -> list[str]:
    """The names in braces, each once, in order."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def fill(value: Any, values: Mapping[str, str]) -> Any:
    """Replace the placeholders in a text, and in every text of a list, tuple or dict."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda m: values.get(m[1], m[0]), value)
    if isinstance(value, list | tuple):
        return type(value)(fill(v, values) for v in value)
    if isinstance(value, dict):
        return {k: fill(v, values) for k, v in value.items()}
    return value


def canonical_command_line(ctx: click.Context) -> str:
    """The canonical spelling of a parsed command line, without global and shared options, and without options that have their default."""
    words = [w for w in ctx.command_path.split() if w != "opsctl"]
    words = words[1:] if ctx.find_root().info_name not in (None, "opsctl") else words
    arguments: list[str] = []
    options: list[str] = []
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if isinstance(param, SharedOption) or value is None or value == ():
            continue
        if isinstance(param, click.Argument):
            arguments += [_word(v) for v in (value if isinstance(value, tuple) else [value])]
        elif not isinstance(param, click.Option) or value == default_value(ctx, param):
            continue
        elif param.is_flag:
            options += [param.opts[-1]] if value else []
        else:
            options += [w for v in (value if param.multiple else [value]) for w in (param.opts[-1], _word(v))]
    if any(argument.startswith("-") for argument in arguments):
        return shlex.join([*words, *options, "--", *arguments])
    return shlex.join([*words, *arguments, *options])


def default_value(ctx: click.Context, param: click.Option) -> Any:
    """The value that an option has when nobody types it; None without one."""
    default = param.get_default(ctx)
    return param.type_cast_value(ctx, default) if isinstance(default, str | int | float) else None


def _word(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
