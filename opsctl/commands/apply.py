"""`opsctl apply`: a saved plan, exactly as it was reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import acts, single
from opsctl.cli.changing import carry_out, changing, conclude, split

if TYPE_CHECKING:
    from opsctl.cli.context import Invocation
    from opsctl.engine.options import Options
    from opsctl.engine.outcome import Outcome
    from opsctl.engine.plan import Plan


@single("apply")
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@changing
@acts
def apply(invocation: Invocation, plan: Path, **shared: Any) -> None:
    """Apply a plan that was kept with `-n --save`; it must still be fresh, and each change as reviewed."""
    from opsctl.changes import decode
    from opsctl.engine import plan as plans

    options, _ = split(shared)
    saved = plans.load(plan, decode)
    invocation.at(saved.environment)
    conclude(invocation, saved.command, options, lambda: _applied(invocation, saved, options))


def _applied(invocation: Invocation, saved: Plan, options: Options) -> Outcome:
    from opsctl.engine import plan as plans

    plans.fresh(saved, invocation.read)
    return carry_out(invocation, invocation.engine.plan_again(saved, options), options)
