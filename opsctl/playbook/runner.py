"""Run a playbook: show all steps, ask once, execute step by step; and resume it later, also by another operator."""

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
from opsctl.render.tables import terminal_width
from opsctl.render.visible import visible
from opsctl.trust import TRUST

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext
    from opsctl.engine.ledger.rows import Run
    from opsctl.engine.options import Options
    from opsctl.engine.plan import Plan
    from opsctl.playbook.lines import StepParser
    from opsctl.playbook.preview import Preview


def run(app: AppContext, name: str, words: Sequence[str], options: Options, *, assume: bool = False) -> PlaybookOutcome:
    """Run playbook `name` with its `key=value` arguments; with `options.dry_run` only show what it would do.

    Raises every error from before the first step: an invalid playbook or parameter, a guard, a missing yes. Later errors are in the
    outcome.
    """
    if options.save:
        raise click.UsageError("A playbook's steps are planned when they are reached, so there is no plan to save.")
    loaded = load(name)
    given = parameters.check(loaded.playbook, words)
    if assume:
        app.assume_answers()
    _require_trusted(loaded, app)
    shown = preview.preview_steps(app, loaded, parameters.command_line(name, given), given, options)
    if options.dry_run:
        return _dry_run(app, shown, given, options)
    together = shown.together
    if not app.screen.json:
        app.reporter.message(
            format_preview(shown, terminal_width(err=True), whole=bool(shown.blocking) or not _approved_ahead(app, together, options))
        )
    if shown.blocking:
        raise shown.blocking
    if together and together.pending:
        guards.require_approval(together, app.engine.read, options)
    run = app.engine.new_run(shown.command, options, kind="playbook", details=_details(shown, given, assume))
    app.ledger.open(run, [])
    return _drive(app, run, loaded, options)


def _approved_ahead(app: AppContext, together: Plan | None, options: Options) -> bool:
    """Whether the options answer the question, so that nobody reads the plan before the run begins."""
    if together is None:
        return options.yes
    target = guards.confirmation_target(together, app.engine.read)
    return options.yes if target is None else options.confirm == target


def _require_trusted(loaded: Loaded, app: AppContext) -> Loaded:
    """The playbook. Raises Refused for an untrusted one of the current folder, unless it runs in a sandbox."""
    if not loaded.trusted and not app.environment.settings.sandbox:
        raise Refused(f"{loaded.path} is a playbook of the current folder, and its current content is not trusted. Nothing was run.", TRUST)
    return loaded


def _dry_run(app: AppContext, shown: Preview, given: dict[str, str], options: Options) -> PlaybookOutcome:
    if options.as_shell:
        app.reporter.message(format_preview(shown, terminal_width(err=True)))
    elif not app.screen.json:
        app.show(Text(format_preview(shown, terminal_width())))
    if options.as_shell and not shown.blocking:
        steps = by_shell.script(shown, given, app.environment)
        app.screen.script(script(app.environment, shown.command, steps))
    return outcome.dry_run_outcome(shown, app.environment.name)


def _details(shown: Preview, given: dict[str, str], assume: bool) -> dict[str, Any]:
    """What was approved, and what resuming the run needs."""
    return {
        "playbook": shown.loaded.name,
        "digest": shown.loaded.digest,
        "parameters": given,
        "bounds": shown.bounds,
        "steps": [{"step": previewed.key, previewed.kind: previewed.text} for previewed in shown.steps],
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
    """Resume a playbook's run where it stopped.

    `skip`, `retry` and `jump` name a step by its id or number; `reason` is recorded with them. Raises PlanStale when the playbook has
    changed since it was approved, Refused for a cancelled run or one of another environment.
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
        overrides = Overrides(history, reason, who).events(skip, retry, jump)
        if run.result and len(history.ended) == len(loaded.playbook.steps) and not overrides:
            finished = outcome.from_ledger(engine.ledger, run, history, outcome.result(engine.ledger, run, history, None), None)
            return _report_skipped(app, run, finished)
        engine.ledger.reopen(run.id, {"operator": who, "caller": engine.read.caller.arn})
        for what, detail in overrides:
            history.keep(what, detail)
        if retried := [detail["key"] for what, detail in overrides if what == AGAIN]:
            app.reporter.message(f"Repeated: {', '.join(retried)}")
        return _execute(app, run, loaded.parser, history, options, fresh=True)


def _load_approved(run: Run) -> Loaded:
    """The playbook that was approved. Raises PlanStale when it has changed."""
    loaded = load(run.details["playbook"])
    if loaded.digest != run.details["digest"]:
        raise PlanStale(
            f"Playbook {loaded.name} ({loaded.path}) has changed since run {run.id} was approved.",
            f"Restore the file, or run the playbook again (steps that are done stay done): opsctl {run.command}",
        )
    return loaded


def _drive(app: AppContext, run: Run, loaded: Loaded, options: Options) -> PlaybookOutcome:
    engine = app.engine
    history = History(engine.ledger, run, loaded.playbook)
    with engine.ledger.locks.hold(f"run/{run.id}", run.id, engine.operator, run.command):
        return _execute(app, run, loaded.parser, history, options)


def _execute(app: AppContext, run: Run, parser: StepParser, history: History, options: Options, *, fresh: bool = False) -> PlaybookOutcome:
    """Execute the steps up to the end or the first error, and close the run. The caller holds the run's lock.

    When the configuration has changed since the approval, no approved impact counts: each step that changes something asks.
    """
    engine, error = app.engine, None
    bounds = run.details["bounds"] if run.config_digest == engine.environment.digest else {}
    try:
        Executor(app, run, parser, history, options, bounds, fresh=fresh).execute()
    except OpsctlError as caught:
        error = caught
    result = outcome.result(engine.ledger, run, history, error)
    result, error = engine.close(run, result, error, touched=outcome.may_have_effect(engine.ledger, run))
    return _report_skipped(app, run, outcome.from_ledger(engine.ledger, run, history, result, error))


def _report_skipped(app: AppContext, run: Run, finished: PlaybookOutcome) -> PlaybookOutcome:
    """Report the steps that were not done, and how to do them later. Returns the outcome."""
    for step in finished.not_done:
        app.reporter.message(f"  not done: {visible(step)}")
    if finished.not_done and not finished.error:
        app.reporter.message(f"  to do a skipped step later: opsctl runs resume {run.id} --retry STEP --reason WHY")
    return finished
