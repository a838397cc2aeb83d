"""Running a playbook: shown whole, agreed to once, then step by step, and taken up again by whoever comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from opsctl.cli.script import script
from opsctl.engine import guards
from opsctl.errors import OpsctlError, PlanStale, Refused
from opsctl.playbook import by_shell, outcome, parameters, preview
from opsctl.playbook.executor import Executor
from opsctl.playbook.format import format_preview
from opsctl.playbook.history import AGAIN, History
from opsctl.playbook.loader import Loaded, load
from opsctl.playbook.outcome import PlaybookOutcome
from opsctl.playbook.overrides import Overrides
from opsctl.render.shapes import Text
from opsctl.render.visible import visible
from opsctl.trust import TRUST

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext
    from opsctl.engine.ledger.rows import Run
    from opsctl.engine.options import Options
    from opsctl.playbook.lines import StepParser
    from opsctl.playbook.preview import Preview


def run(app: AppContext, name: str, words: Sequence[str], options: Options, *, assume: bool = False) -> PlaybookOutcome:
    """Run playbook `name` with its `key=value` words, or with `options.dry_run` only show it.

    Raises whatever stands before the run's first step: a broken playbook or parameter, a guard, a missing yes. Later errors are in the
    outcome.
    """
    if options.save:
        raise click.UsageError("A playbook's steps are planned when they are reached, so there is no plan to save.")
    loaded = load(name)
    given = parameters.check(loaded.playbook, words)
    if assume:
        app.assume_answers()
    _require_trusted(loaded, app)
    shown = preview.preview_steps(app, loaded, parameters.command(name, given), given, options)
    if options.dry_run:
        return _dry_run(app, shown, given, options)
    if not app.screen.json:
        app.reporter.message(format_preview(shown))
    if shown.blocking:
        raise shown.blocking
    together = shown.together
    if together and together.pending:
        guards.require_approval(together, app.engine.read, options)
    run = app.engine.new_run(shown.command, options, kind="playbook", details=_details(shown, given, assume))
    app.ledger.open(run, [])
    return _drive(app, run, loaded, options)


def _require_trusted(loaded: Loaded, app: AppContext) -> Loaded:
    """The playbook; raises Refused for one of the current folder that nobody has trusted, unless it runs in a sandbox."""
    if not loaded.trusted and not app.environment.settings.sandbox:
        raise Refused(f"{loaded.path} is a playbook of the current folder, which nobody has trusted as it is now: nothing was run.", TRUST)
    return loaded


def _dry_run(app: AppContext, shown: Preview, given: dict[str, str], options: Options) -> PlaybookOutcome:
    if options.as_shell:
        app.reporter.message(format_preview(shown))
    elif not app.screen.json:
        app.show(Text(format_preview(shown)))
    if options.as_shell and not shown.blocking:
        steps = by_shell.script(shown, given, app.environment)
        app.screen.script(script(app.environment, shown.command, steps))
    return outcome.dry_run_outcome(shown, app.environment.name)


def _details(shown: Preview, given: dict[str, str], assume: bool) -> dict[str, Any]:
    """What was approved, and what taking it up again needs."""
    return {
        "playbook": shown.loaded.name,
        "digest": shown.loaded.digest,
        "parameters": given,
        "bounds": shown.bounds,
        "steps": [{"step": look.key, look.kind: look.text} for look in shown.steps],
        "assume": assume,
    }


def resume(
    app: AppContext,
    run: Run,
    options: Options,
    *,
    skip: str | None = None,
    retry: str | None = None,
    jump: str | None = None,
    reason: str = "",
) -> PlaybookOutcome:
    """Take a playbook's run up where the ledger says it stopped, in this or any other process.

    `skip`, `retry` and `jump` name a step by its id or number; `reason` is kept with them. Raises PlanStale when the playbook is no longer
    the one that was approved, Refused for a run of another place or one that was cancelled.
    """
    engine = app.engine
    engine.same_place(run)
    loaded = _require_trusted(_load_approved(run), app)
    if run.details.get("assume"):
        app.assume_answers()
    options = msgspec.structs.replace(options, incident=options.incident or run.incident, reason=options.reason or run.reason)
    with engine.ledger.locks.hold(f"run/{run.id}", run.id, engine.operator, run.command):
        history = History(engine.ledger, run, loaded.playbook)
        who = engine.operator
        overrides = Overrides(history, reason, who).asked(skip, retry, jump)
        if run.result and len(history.ended) == len(loaded.playbook.steps) and not overrides:
            came = outcome.from_ledger(engine.ledger, run, history, outcome.result(engine.ledger, run, history, None), None)
            return _report_skipped(app, run, came)
        engine.ledger.reopen(run.id, {"operator": who, "caller": engine.read.caller.arn})
        for what, detail in overrides:
            history.keep(what, detail)
        if anew := [detail["key"] for what, detail in overrides if what == AGAIN]:
            app.reporter.message(f"Taken anew: {', '.join(anew)}")
        return _execute(app, run, loaded.parser, history, options, fresh=True)


def _load_approved(run: Run) -> Loaded:
    """The playbook, if it still is the one that was approved."""
    loaded = load(run.details["playbook"])
    if loaded.digest != run.details["digest"]:
        raise PlanStale(
            f"Playbook {loaded.name} ({loaded.path}) is another than the one that run {run.id} was approved with.",
            f"Restore it, or begin anew (what is done is found already so): opsctl {run.command}",
        )
    return loaded


def _drive(app: AppContext, run: Run, loaded: Loaded, options: Options) -> PlaybookOutcome:
    engine = app.engine
    history = History(engine.ledger, run, loaded.playbook)
    with engine.ledger.locks.hold(f"run/{run.id}", run.id, engine.operator, run.command):
        return _execute(app, run, loaded.parser, history, options)


def _execute(app: AppContext, run: Run, parser: StepParser, history: History, options: Options, *, fresh: bool = False) -> PlaybookOutcome:
    """Walk to the end or to what ends it, and close the run with that; its lock is held by the caller.

    Under another configuration than the approved one, no step's bound was shown: each that changes something asks.
    """
    engine, error = app.engine, None
    bounds = run.details["bounds"] if run.config_digest == engine.environment.digest else {}
    try:
        Executor(app, run, parser, history, options, bounds, fresh=fresh).execute()
    except OpsctlError as caught:
        error = caught
    word = outcome.result(engine.ledger, run, history, error)
    word, error = engine.close(run, word, error, touched=outcome.may_have_effect(engine.ledger, run))
    return _report_skipped(app, run, outcome.from_ledger(engine.ledger, run, history, word, error))


def _report_skipped(app: AppContext, run: Run, came: PlaybookOutcome) -> PlaybookOutcome:
    """The outcome, once what was left out is said; of a run that has come to its end, also how to do it later."""
    for left in came.left:
        app.reporter.message(f"  not done: {visible(left)}")
    if came.left and not came.error:
        app.reporter.message(f"  to do one of these after all: opsctl runs resume {run.id} --retry STEP --reason WHY")
    return came
