"""`opsctl runs`: what was run; look, resume, settle, undo, pause, cancel, verify, seal."""

from __future__ import annotations

import errno
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl import files
from opsctl.cli.app import group
from opsctl.cli.command import gives_verdict, local
from opsctl.cli.options import apply_options, preview_or_apply, run_and_report, split_options
from opsctl.cli.types import DURATION, WORDS
from opsctl.errors import ConfigurationError, LedgerBroken, Refused
from opsctl.render.shapes import Page
from opsctl.render.visible import visible

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext
    from opsctl.engine.ledger.rows import Run
    from opsctl.engine.ledger.verify import Verified
    from opsctl.engine.options import Options
    from opsctl.engine.outcome import Outcome

HEAD = re.compile("(?:[0-9a-f]{8}:)?[0-9a-f]{64}")
SHOWN = 3
"""How many items of a list are shown; of more, how many they are."""
NO_SEAL = "Give the file that was made with: opsctl runs seal --to FILE"

runs = group("runs")


@runs.command("list")
@click.option("--active", is_flag=True, help="Only those that haven't ended.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many to show.")
@local
def list_(app: AppContext, active: bool, limit: int) -> list[dict[str, Any]]:
    """List runs, the newest first.

    Examples:
        opsctl runs list
        opsctl runs list --active
    """
    ledger = app.readable_ledger
    driven = ledger.locks.active_runs()
    return [_row(run, driven) for run in (ledger.active(limit) if active else ledger.runs(limit=limit))]


def _row(run: Run, driven: set[str]) -> dict[str, Any]:
    state = "running" if run.id in driven else "cancelled" if run.wish == "cancel" else run.result or "interrupted"
    return {
        "run": run.id,
        "environment": run.environment,
        "opened": run.opened,
        "state": state,
        "command": run.command,
        "operator": run.operator,
        "reason": run.reason,
    }


@runs.command()
@click.argument("run")
@local
def show(app: AppContext, run: str) -> Page:
    """Show a run: its steps, and its history event by event.

    Examples:
        opsctl runs show 7f3a2c
        opsctl runs show 7f3a2c -o json
    """
    ledger = app.readable_ledger
    found = ledger.run(run)
    head = {**_row(found, ledger.locks.active_runs()), "account": found.account, "caller": found.caller, "version": found.version}
    family = [found, *reversed(ledger.children(found.id))]
    steps = [
        {"run": r.id, "step": s.seq, "state": s.state, "what": s.change.summary, "why": s.why, "evidence": _brief(s.evidence)}
        for r in family
        for s in ledger.steps(r.id)
    ]
    events = [
        {"at": e.at, "run": e.run, "event": e.what, "step": e.seq, "detail": _brief(_short(e.detail))}
        for r in family
        for e in ledger.events(r.id)
    ]
    return Page([("Run", head), ("Steps", steps), ("Events", sorted(events, key=lambda e: e["at"]))])


def _short(detail: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in detail.items() if k not in ("steps", "bounds", "row") and v not in (None, "", {})}


def _brief(detail: dict[str, Any] | None) -> str:
    return ", ".join(f"{k} {_plain(v)}" for k, v in (detail or {}).items())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return "; ".join(str(_plain(each)) for each in value) if len(value) <= SHOWN else f"{len(value)} items"
    return _brief(value) if isinstance(value, dict) else value


@runs.command()
@click.argument("run")
@click.option("--skip", metavar="STEP", help="Go on without this step of a playbook.")
@click.option("--retry", metavar="STEP", help="Do this step of a playbook once more, and what rests on it.")
@click.option("--jump", metavar="STEP", help="Go on at this step of a playbook.")
@click.option("--assume-answers", is_flag=True, help="Pass questions without a person; in the sandbox only.")
@apply_options
@local
def resume(app: AppContext, run: str, skip: str | None, retry: str | None, jump: str | None, assume_answers: bool, **shared: Any) -> None:
    """Take a run up again where the ledger says that it stopped.

    Examples:
        opsctl runs resume 7f3a2c
        opsctl runs resume 7f3a2c --skip rollout --reason 'Redeployed by hand'
    """
    options, _ = split_options(shared)
    found = (app.readable_ledger if options.dry_run else app.ledger).run(run)
    app.use_environment(found.environment)
    if assume_answers:
        app.assume_answers()
    special = skip or retry or jump
    if special and not options.reason:
        raise click.UsageError("--skip, --retry and --jump need a --reason, which is kept.")
    if special and found.kind != "playbook":
        raise click.UsageError(f"Run {found.id} is no playbook: it has no steps to skip, retry or jump to.")
    run_and_report(app, found.command, options, lambda: _resumed(app, found, options, skip=skip, retry=retry, jump=jump))


def _resumed(app: AppContext, run: Run, options: Options, **special: str | None) -> Outcome:
    if run.kind != "playbook" and options.dry_run:
        return preview_or_apply(app, app.engine.remaining(run), options)
    if not options.dry_run:
        _ = app.environment
        app.reporter.message("\n".join(visible(line) for line in (run.command, app.place) if line))
    if run.kind != "playbook":
        return app.engine.resume(run, options)
    if options.dry_run:
        raise Refused("A playbook's steps are planned when they are reached; nothing was run.", f"What is left: opsctl runs show {run.id}")
    from opsctl.playbook import runner

    return runner.resume(app, run, options, **special, reason=options.reason)


@runs.command()
@click.argument("run")
@click.argument("seq", type=int)
@click.option("--done/--not-done", "happened", default=None, help="Whether it happened.")
@click.option("--reason", type=WORDS, required=True, help="How you know; kept in the ledger.")
@local
def settle(app: AppContext, run: str, seq: int, happened: bool | None, reason: str) -> dict[str, Any]:
    """Say what a step did whose outcome nobody but a person can tell.

    Examples:
        opsctl runs settle 7f3a2c 2 --done --reason 'The console shows it'
    """
    if happened is None:
        raise click.UsageError("Say --done or --not-done.")
    found = app.ledger.run(run)
    app.use_environment(found.environment)
    step = app.engine.settle(found, seq, happened=happened, reason=reason)
    return {"run": found.id, "step": seq, "state": step.state, "next": f"opsctl runs resume {found.id}"}


@runs.command()
@click.argument("run")
@apply_options
@local
def undo(app: AppContext, run: str, **shared: Any) -> None:
    """Take a run's changes back, the newest first, where there is a way back; says which have none.

    Examples:
        opsctl runs undo 7f3a2c -n
        opsctl runs undo 7f3a2c
    """
    options, _ = split_options(shared)
    found = (app.readable_ledger if options.dry_run else app.ledger).run(run)
    app.use_environment(found.environment)
    line = f"runs undo {found.id}"

    def work() -> Outcome:
        # Whoever still drives it would make again what is taken back here.
        with app.ledger.locks.hold(f"run/{found.id}", found.id, app.operator, line):
            return _undone(app, found, options)

    run_and_report(app, line, options, work)


def _undone(app: AppContext, run: Run, options: Options) -> Outcome:
    app.engine.same_place(run, allow_cancelled=True)
    plan, nevers = app.engine.undo_plan(run)
    for never in nevers:
        app.reporter.message(f"  can't be undone: {visible(never)}")
    skipped = [planned for planned in plan.changes if planned.state == "skipped"]
    if not plan.pending and (skipped or not plan.changes):
        left = "".join(f" Left alone: {planned.why.rstrip('.')}." for planned in skipped)
        raise Refused(f"Nothing of run {run.id} can be taken back.{left}", f"opsctl runs show {run.id}")
    return preview_or_apply(app, plan, options)


@runs.command()
@click.argument("run")
@local
def pause(app: AppContext, run: str) -> dict[str, Any]:
    """Ask the process that drives a run to stop between two effects; resume it later.

    Examples:
        opsctl runs pause 7f3a2c
    """
    return _wish(app, run, "pause")


@runs.command()
@click.argument("run")
@local
def cancel(app: AppContext, run: str) -> dict[str, Any]:
    """Give a run up for good; what it has done stays (see undo).

    Examples:
        opsctl runs cancel 7f3a2c
    """
    return _wish(app, run, "cancel")


def _wish(app: AppContext, run: str, wish: str) -> dict[str, Any]:
    found = app.ledger.run(run)
    driven = found.id in app.ledger.locks.active_runs()
    if found.result in ("changed", "unchanged") and not driven:
        raise Refused(f"Run {found.id} has ended: {found.result}.", f"Take it back: opsctl runs undo {found.id}")
    if wish == "pause" and not driven:
        raise Refused(f"Run {found.id} isn't running, so there is nothing to pause.", f"opsctl runs resume {found.id}")
    app.ledger.request_stop(found.id, wish)
    return {"run": found.id, "asked": wish, "takes effect": "at its next step or batch" if driven else "now"}


@runs.command()
@click.option("--seal", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A sealed head that the ledger must still hold.")
@gives_verdict()
@local
def verify(app: AppContext, seal: Path | None) -> dict[str, Any]:
    """Walk the ledger's chains and find whatever was changed, lost or reordered.

    Examples:
        opsctl runs verify
        opsctl runs verify --seal opsctl.seal
    """
    from opsctl.engine.ledger import verify as chains

    ledger = app.readable_ledger
    found = chains.examine(ledger, _sealed(seal) if seal else None)
    if found.wrong:
        raise LedgerBroken(f"The ledger was changed: {'; '.join(found.wrong)}.", "Keep a copy of it, and ask who had access.")
    whole = {
        "ledger": str(app.ledger_path),
        "runs": found.runs,
        "events": found.events,
        "chains": "whole",
        "key": ledger.keyring.current.id,
    }
    return {**whole, **_unkeyed(found)} if found.unkeyed else whole


def _unkeyed(found: Verified) -> dict[str, Any]:
    """What the key vouches for, where the ledger is older than the key."""
    since = f"{found.keyed_since:%Y-%m-%d %H:%M} UTC" if found.keyed_since else "their sealing"
    told = (
        f"log entries 1 to {found.unkeyed} were made without a key: the key proves that nobody has changed them since {since}, not before"
    )
    return {"without a key": told}


def _sealed(path: Path) -> str:
    """The head that a file keeps; raises ConfigurationError for one that isn't what `runs seal` gave."""
    try:
        kept = files.read(path).decode("ascii").strip()
    except OSError as cause:
        raise ConfigurationError(f"The seal {path} can't be read: {cause.strerror}.", NO_SEAL) from cause
    except UnicodeDecodeError as cause:
        raise ConfigurationError(f"The seal {path} can't be read: {cause}.", NO_SEAL) from cause
    if not HEAD.fullmatch(kept):
        raise ConfigurationError(f"{path} holds no seal, which is one line of hex digits from `runs seal`; nothing was compared.", NO_SEAL)
    return kept


@runs.command()
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="Keep it in this file, on another machine's disk.")
@click.option("--force", is_flag=True, help="With --to: replace the seal that the file holds.")
@local
def seal(app: AppContext, to: Path | None, force: bool) -> dict[str, Any]:
    """Give the log's head, to be kept elsewhere, so that a cut tail shows.

    Examples:
        opsctl runs seal --to /mnt/elsewhere/opsctl.seal
    """
    from opsctl.engine.ledger import verify as chains

    if force and not to:
        raise click.UsageError("--force goes with --to.")
    head = chains.head(app.readable_ledger)
    if to:
        try:
            files.write(to, f"{head}\n".encode(), replaces=_is_seal if force else None)
        except OSError as cause:
            force_it = ", or replace an older seal with --force" if cause.errno == errno.EEXIST and not force else ""
            raise ConfigurationError(f"The seal can't be kept in {to}: {cause.strerror}.", f"Choose another file{force_it}.") from cause
    return {"head": head, "check": "opsctl runs verify --seal FILE"}


def _is_seal(content: bytes) -> bool:
    return HEAD.fullmatch(content.decode("ascii", "replace").strip()) is not None


@runs.command()
@click.option("--older-than", type=DURATION, required=True, help="Forget what was last used longer ago.")
@local
def purge(app: AppContext, older_than: timedelta) -> dict[str, Any]:
    """Forget personal data (e-mails) in the ledger; its chains still hold.

    Examples:
        opsctl runs purge --older-than 365d
    """
    return {"forgotten": app.ledger.purge(app.ledger.now() - older_than)}
