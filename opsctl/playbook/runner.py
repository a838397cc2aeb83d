"""Running a playbook: shown whole, agreed to once, then step by step, and taken up again by whoever comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from opsctl.cli.changing import script
from opsctl.engine import guards
from opsctl.errors import OpsctlError, PlanStale, Refused
from opsctl.playbook import by_shell, outcome, parameters, preview
from opsctl.playbook import format as draw
from opsctl.playbook.executor import Walk
from opsctl.playbook.history import AGAIN, History
from opsctl.playbook.loader import Loaded, load
from opsctl.playbook.outcome import PlaybookOutcome
from opsctl.playbook.overrides import Detours
from opsctl.render.shapes import Text
from opsctl.render.visible import visible
from opsctl.trust import TRUST

if TYPE_CHECKING:
    from opsctl.cli.context import Invocation
    from opsctl.engine.ledger.rows import Run
    from opsctl.engine.options import Options
    from opsctl.playbook.preview import Preview


def run(invocation: Invocation, name: str, words: Sequence[str], options: Options, *, assume: bool = False) -> PlaybookOutcome:
    """Run playbook `name` with its `key=value` words, or with `options.dry_run` only show it.

    Raises whatever stands before the run's first step: a broken playbook or parameter, a guard, a missing yes. Later errors are in the
    outcome.
    """
    if options.save:
        raise click.UsageError("A playbook's steps are planned when they are reached, so there is no plan to save.")
    loaded = load(name)
    given = parameters.check(loaded.playbook, words)
    if assume:
        invocation.assume_answers()
    _usable(loaded, invocation)
    shown = preview.look(invocation, loaded, parameters.command(name, given), given, options)
    if options.dry_run:
        return _dry(invocation, shown, given, options)
    if not invocation.screen.json:
        invocation.watcher.says(draw.preview(shown))
    if shown.blocking:
        raise shown.blocking
    together = shown.together
    if together and together.pending:
        guards.approved(together, invocation.engine.read, options)
    run = invocation.engine.new_run(shown.command, options, kind="playbook", details=_details(shown, given, assume))
    invocation.ledger.open(run, [])
    return _drive(invocation, run, History(invocation.ledger, run, loaded.playbook), options)


def _usable(loaded: Loaded, invocation: Invocation) -> Loaded:
    """The playbook; raises Refused for one of the current folder that nobody has trusted, unless it runs in a sandbox."""
    if not loaded.trusted and not invocation.environment.settings.sandbox:
        raise Refused(f"{loaded.path} is a playbook of the current folder, which nobody has trusted as it is now: nothing was run.", TRUST)
    return loaded


def _dry(invocation: Invocation, shown: Preview, given: dict[str, str], options: Options) -> PlaybookOutcome:
    if options.as_shell:
        invocation.watcher.says(draw.preview(shown))
    elif not invocation.screen.json:
        invocation.show(Text(draw.preview(shown)))
    if options.as_shell and not shown.blocking:
        steps = by_shell.script(shown, given, invocation.environment)
        invocation.screen.script(script(invocation.environment, shown.command, steps))
    return outcome.dry(shown, invocation.environment.name)


def _details(shown: Preview, given: dict[str, str], assume: bool) -> dict[str, Any]:
    """What was approved, and what taking it up again needs."""
    return {
        "playbook": shown.loaded.name,
        "digest": shown.loaded.digest,
        "parameters": given,
        "bounds": shown.bounds,
        "steps": [{"step": look.key, look.kind: look.text} for look in shown.looks],
        "assume": assume,
    }


def resume(
    invocation: Invocation,
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
    engine = invocation.engine
    engine.same_place(run)
    loaded = _usable(_approved(run), invocation)
    if run.details.get("assume"):
        invocation.assume_answers()
    options = msgspec.structs.replace(options, incident=options.incident or run.incident, reason=options.reason or run.reason)
    with engine.ledger.locks.holding(f"run/{run.id}", run.id, engine.operator, run.command):
        history = History(engine.ledger, run, loaded.playbook)
        who = engine.operator
        detours = Detours(history, reason, who).asked(skip, retry, jump)
        if run.result and len(history.ended) == len(loaded.playbook.steps) and not detours:
            came = outcome.told(engine.ledger, run, history, outcome.result(engine.ledger, run, history, None), None)
            return _left(invocation, run, came)
        engine.ledger.reopen(run.id, {"operator": who, "caller": engine.read.caller.arn})
        for what, detail in detours:
            history.keep(what, detail)
        if anew := [detail["key"] for what, detail in detours if what == AGAIN]:
            invocation.watcher.says(f"Taken anew: {', '.join(anew)}")
        return _through(invocation, run, history, options, fresh=True)


def _approved(run: Run) -> Loaded:
    """The playbook, if it still is the one that was approved."""
    loaded = load(run.details["playbook"])
    if loaded.digest != run.details["digest"]:
        raise PlanStale(
            f"Playbook {loaded.name} ({loaded.path}) is another than the one that run {run.id} was approved with.",
            f"Restore it, or begin anew (what is done is found already so): opsctl {run.command}",
        )
    return loaded


def _drive(invocation: Invocation, run: Run, history: History, options: Options) -> PlaybookOutcome:
    engine = invocation.engine
    with engine.ledger.locks.holding(f"run/{run.id}", run.id, engine.operator, run.command):
        return _through(invocation, run, history, options)


def _through(invocation: Invocation, run: Run, history: History, options: Options, *, fresh: bool = False) -> PlaybookOutcome:
    """Walk to the end or to what ends it, and close the run with that; its lock is held by the caller.

    Under another configuration than the approved one, no step's bound was shown: each that changes something asks.
    """
    engine, error = invocation.engine, None
    bounds = run.details["bounds"] if run.config_digest == engine.environment.digest else {}
    try:
        Walk(invocation, run, history, options, bounds, fresh=fresh).go()
    except OpsctlError as caught:
        error = caught
    word = outcome.result(engine.ledger, run, history, error)
    word, error = engine.close(run, word, error, touched=outcome.touched(engine.ledger, run))
    return _left(invocation, run, outcome.told(engine.ledger, run, history, word, error))


def _left(invocation: Invocation, run: Run, came: PlaybookOutcome) -> PlaybookOutcome:
    """The outcome, once what was left out is said; of a run that has come to its end, also how to do it later."""
    for left in came.left:
        invocation.watcher.says(f"  not done: {visible(left)}")
    if came.left and not came.error:
        invocation.watcher.says(f"  to do one of these after all: opsctl runs resume {run.id} --retry STEP --reason WHY")
    return came
