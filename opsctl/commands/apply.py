"""`opsctl apply`: a saved plan, exactly as it was reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl.changing import changing_options, finish, refused, split
from opsctl.cli import acts, single
from opsctl.errors import OpsctlError

if TYPE_CHECKING:
    from opsctl.invocation import Invocation


def with_changing_options(command: click.Command) -> click.Command:
    """Give a command that acts the options that changing commands share."""
    command.params.extend(changing_options())
    return command


@single("apply")
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@acts
def apply(invocation: Invocation, plan: Path, **shared: Any) -> None:
    """Apply a plan that was kept with `-n --save`; it must still be fresh, and each change as reviewed."""
    from opsctl.changes import decode
    from opsctl.engine import plan as plans

    options, _ = split(shared)
    saved = plans.load(plan, decode)
    plans.fresh(saved, invocation.read)
    try:
        if options.dry_run:
            outcome = invocation.engine.preview(saved, options)
        else:
            invocation.screen.plan(saved)
            outcome = invocation.engine.perform(saved, options)
    except OpsctlError as error:
        outcome = refused(invocation, saved.command, options, error)
    finish(invocation, outcome)


with_changing_options(apply)
