"""Completion in bash, zsh and fish, with the names of the configuration and the ledger; it makes no call to another system."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from opsctl.cli.context import AppContext
from opsctl.errors import ConfigurationError, OpsctlError

if TYPE_CHECKING:
    from opsctl.settings import Settings

VARIABLE = "_OPSCTL_COMPLETE"
"""The variable by which a shell's script asks for completions."""
SHELLS = ("bash", "zsh", "fish")
RECENT = 20
"""Runs that are offered."""
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def complete(root: click.Group, app: AppContext) -> int:
    """Answer a shell's script: print the words that can follow; returns the exit code."""
    from click.shell_completion import shell_complete

    if not {"COMP_WORDS", "COMP_CWORD"} <= os.environ.keys() and not os.environ[VARIABLE].endswith("_source"):
        raise ConfigurationError(f"{VARIABLE} is set, but no shell asks for a completion; nothing was run.", f"unset {VARIABLE}")
    return shell_complete(root, {"obj": app}, "opsctl", VARIABLE, os.environ[VARIABLE])


def script(root: click.Group, shell: str) -> str:
    """The script that makes a shell complete opsctl's lines."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(root, {}, "opsctl", VARIABLE)
    return made.source_template % made.source_vars()


def configured(names: Callable[[Settings], Iterable[str]]) -> Completer:
    """A completer of the names that the environment's configuration has; it offers nothing where there is no valid configuration."""

    def completer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        app = ctx.find_object(AppContext)
        try:
            found = names(app.environment.settings) if app else ()
        except OpsctlError:
            return []
        return _typeable(found, incomplete)

    return completer


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the ids of the newest runs; offers nothing where the ledger can't be read, since a message would end up on the line."""
    app = ctx.find_object(AppContext)
    if app is None or not app.ledger_path.exists():
        return []
    try:
        with app:
            return _typeable((run.id for run in app.readable_ledger.runs(limit=RECENT)), incomplete)
    except OpsctlError:
        return []


def _typeable(names: Iterable[str], incomplete: str) -> list[str]:
    """The names that begin with `incomplete`, without those that need quotes: a shell puts them on the line, and runs them, as they are."""
    return [name for name in names if name.startswith(incomplete) and shlex.quote(name) == name and not name.startswith("-")]


SERVICES = configured(lambda settings: settings.services)
SECRETS = configured(lambda settings: settings.secrets)
ALARMS = configured(lambda settings: settings.alarms)
