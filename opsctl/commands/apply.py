"""`opsctl apply`: apply a saved plan, exactly as it was reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import root_command
from opsctl.cli.command import local
from opsctl.cli.options import apply_options, preview_or_apply, run_and_report, split_options

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext
    from opsctl.engine.options import Options
    from opsctl.engine.outcome import Outcome
    from opsctl.engine.plan import Plan


@root_command("apply")
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@apply_options
@local
def apply(app: AppContext, plan: Path, **shared: Any) -> None:
    """Apply a plan that was saved with `-n --save`; nothing may have changed since.

    Examples:
        opsctl apply plan.json
    """
    from opsctl.changes import find_kind
    from opsctl.engine import plan as plans
    from opsctl.engine.ledger.codec import Codec

    options, _ = split_options(shared)
    saved = plans.load(plan, Codec(find_kind), app.keyring)
    app.use_environment(saved.environment)
    run_and_report(app, saved.command, options, lambda: _apply_saved(app, saved, options))


def _apply_saved(app: AppContext, saved: Plan, options: Options) -> Outcome:
    from opsctl.engine import plan as plans

    plans.fresh(saved, app.read)
    return preview_or_apply(app, app.engine.plan_again(saved, options), options)
