"""`opsctl completion`: the script that makes a shell complete opsctl's lines."""

from __future__ import annotations

import click

from opsctl.cli.app import root, root_command
from opsctl.cli.command import local, offline
from opsctl.cli.completion import SHELLS, script
from opsctl.cli.context import AppContext
from opsctl.render.shapes import Text


@root_command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@offline
@local
def completion(app: AppContext, shell: str) -> Text:
    """Print the script that completes opsctl's commands, options and names in a shell. Add `eval "$(opsctl completion bash)"` to ~/.bashrc.

    Examples:
        opsctl completion bash
        opsctl completion zsh
        opsctl completion fish
    """
    return Text(script(root, shell), raw=True)
