"""`opsctl runs`: list and show runs; resume, settle, undo, pause or cancel one; verify and seal the ledger."""

from __future__ import annotations

import errno
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl import files
from opsctl.cli import completion
from opsctl.cli.app import group
from opsctl.cli.command import gives_verdict, local
from opsctl.cli.options import apply_options, preview_or_apply, run_and_report, split_options
from opsctl.cli.run_record import run_page, run_row
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
NO_SEAL = "Use a file from: opsctl runs seal --to FILE"

runs = group("runs")


@runs.command("list")
@click.option("--active", is_flag=True, help="Only runs that haven't ended.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many runs to show.")
@local
def list_(app: AppContext, active: bool, limit: int) -> list[dict[str, Any]]:
    """List runs, newest first.

    Examples:
        opsctl runs list
        opsctl runs list --active
    """
    ledger = app.readable_ledger
    driven = ledger.locks.active_runs()
    return [run_row(run, driven) for run in (ledger.active(limit) if active else ledger.runs(limit=limit))]


@runs.command()
@click.argument("run", shell_complete=completion.runs)
@local
def show(app: AppContext, run: str) -> Page:
    """Show a run: its steps and its events.

    Examples:
        opsctl runs show 7f3a2c
        opsctl runs show 7f3a2c -o json
    """
    ledger = app.readable_ledger
    return run_page(ledger, ledger.run(run))


@runs.command()
@click.argument("run", shell_complete=completion.runs)
@click.option("--skip", metavar="STEP", help="Skip this step of a playbook.")
@click.option("--retry", metavar="STEP", help="Repeat this step of a playbook, and the steps that depend on it.")
@click.option("--jump", metavar="STEP", help="Continue at this step of a playbook.")
@click.option("--assume-answers", is_flag=True, help="Answer questions automatically; sandbox only.")
@apply_options
@local
def resume(app: AppContext, run: str, skip: str | None, retry: str | None, jump: str | None, assume_answers: bool, **shared: Any) -> None:
    """Resume a run where it stopped.

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
        raise click.UsageError("--skip, --retry and --jump need a --reason; it is recorded.")
    if special and found.kind != "playbook":
        raise click.UsageError(f"Run {found.id} is not a playbook run, so --skip, --retry and --jump do not apply.")
    run_and_report(app, found.command, options, lambda: _resume(app, found, options, skip=skip, retry=retry, jump=jump))


def _resume(app: AppContext, run: Run, options: Options, **special: str | None) -> Outcome:
    if run.kind != "playbook" and options.dry_run:
        return preview_or_apply(app, app.engine.remaining(run), options)
    if not options.dry_run:
        _ = app.environment
        app.reporter.message("\n".join(visible(line) for line in (run.command, app.place) if line))
    if run.kind != "playbook":
        return app.engine.resume(run, options)
    if options.dry_run:
        raise Refused(
            "A playbook's steps are planned when they are reached, so there is no dry run of the rest.",
            f"See the remaining steps: opsctl runs show {run.id}",
        )
    from opsctl.playbook import runner

    return runner.resume(app, run, options, **special, reason=options.reason)


@runs.command()
@click.argument("run", shell_complete=completion.runs)
@click.argument("seq", type=int, metavar="STEP")
@click.option("--done/--not-done", "happened", default=None, help="Whether the step happened.")
@click.option("--reason", type=WORDS, required=True, help="How you know; it is recorded.")
@local
def settle(app: AppContext, run: str, seq: int, happened: bool | None, reason: str) -> dict[str, Any]:
    """Record whether an uncertain step happened.

    STEP is the step's number in `runs show`.

    Examples:
        opsctl runs settle 7f3a2c 2 --done --reason 'The console shows it'
    """
    if happened is None:
        raise click.UsageError("Add --done or --not-done.")
    found = app.ledger.run(run)
    app.use_environment(found.environment)
    step = app.engine.settle(found, seq, happened=happened, reason=reason)
    return {"run": found.id, "step": seq, "state": step.state, "next": f"opsctl runs resume {found.id}"}


@runs.command()
@click.argument("run", shell_complete=completion.runs)
@apply_options
@local
def undo(app: AppContext, run: str, **shared: Any) -> None:
    """Undo a run's changes, newest first; changes that can't be undone are listed.

    Examples:
        opsctl runs undo 7f3a2c -n
        opsctl runs undo 7f3a2c
    """
    options, _ = split_options(shared)
    found = (app.readable_ledger if options.dry_run else app.ledger).run(run)
    app.use_environment(found.environment)
    line = f"runs undo {found.id}"

    def work() -> Outcome:
        # A process that still executes the run would apply again what is undone here.
        with app.ledger.locks.hold(f"run/{found.id}", found.id, app.operator, line):
            return _undo(app, found, options)

    run_and_report(app, line, options, work)


def _undo(app: AppContext, run: Run, options: Options) -> Outcome:
    app.engine.same_place(run, allow_cancelled=True)
    plan, irreversible = app.engine.undo_plan(run)
    for reason in irreversible:
        app.reporter.message(f"  can't be undone: {visible(reason)}")
    skipped = [planned for planned in plan.changes if planned.state == "skipped"]
    if not plan.pending and (skipped or not plan.changes):
        left = "".join(f" Skipped: {planned.why.rstrip('.')}." for planned in skipped)
        raise Refused(f"Nothing of run {run.id} can be undone.{left}", f"opsctl runs show {run.id}")
    return preview_or_apply(app, plan, options)


@runs.command()
@click.argument("run", shell_complete=completion.runs)
@local
def pause(app: AppContext, run: str) -> dict[str, Any]:
    """Pause a run before its next step or batch; resume it later.

    Examples:
        opsctl runs pause 7f3a2c
    """
    return _request_stop(app, run, "pause")


@runs.command()
@click.argument("run", shell_complete=completion.runs)
@local
def cancel(app: AppContext, run: str) -> dict[str, Any]:
    """Cancel a run for good. Its changes stay; `runs undo` undoes them.

    Examples:
        opsctl runs cancel 7f3a2c
    """
    return _request_stop(app, run, "cancel")


def _request_stop(app: AppContext, run: str, wish: str) -> dict[str, Any]:
    found = app.ledger.run(run)
    driven = found.id in app.ledger.locks.active_runs()
    if found.result in ("changed", "unchanged") and not driven:
        raise Refused(f"Run {found.id} has ended: {found.result}.", f"Undo it: opsctl runs undo {found.id}")
    if wish == "pause" and not driven:
        raise Refused(f"Run {found.id} isn't running, so there is nothing to pause.", f"opsctl runs resume {found.id}")
    app.ledger.request_stop(found.id, wish)
    return {"run": found.id, "asked": wish, "takes effect": "at its next step or batch" if driven else "now"}


@runs.command()
@click.option(
    "--seal",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A seal from `runs seal`; the ledger must still contain it.",
)
@gives_verdict()
@local
def verify(app: AppContext, seal: Path | None) -> dict[str, Any]:
    """Verify the ledger: find entries that were changed, deleted or reordered.

    Examples:
        opsctl runs verify
        opsctl runs verify --seal opsctl.seal
    """
    from opsctl.engine.ledger import verify as chains

    ledger = app.readable_ledger
    found = chains.examine(ledger, _read_seal(seal) if seal else None)
    if found.wrong:
        raise LedgerBroken(
            f"The ledger was changed: {'; '.join(found.wrong)}.", "Keep a copy of the ledger, and find out who had access to it."
        )
    result = {
        "ledger": str(app.ledger_path),
        "runs": found.runs,
        "events": found.events,
        "chains": "intact",
        "key": ledger.keyring.current.id,
    }
    return {**result, **_unkeyed(found)} if found.unkeyed else result


def _unkeyed(found: Verified) -> dict[str, Any]:
    """The entries that are older than the key, and since when the key protects them."""
    since = f"{found.keyed_since:%Y-%m-%d %H:%M} UTC" if found.keyed_since else "they were sealed"
    protected = (
        f"log entries 1 to {found.unkeyed} were written without a key: the key shows that they are unchanged since {since}, not earlier"
    )
    return {"without a key": protected}


def _read_seal(path: Path) -> str:
    """The hash in a seal file. Raises ConfigurationError for a file that `runs seal` didn't write."""
    try:
        kept = files.read(path).decode("ascii").strip()
    except OSError as cause:
        raise ConfigurationError(f"The seal {path} can't be read: {cause.strerror}.", NO_SEAL) from cause
    except UnicodeDecodeError as cause:
        raise ConfigurationError(f"The seal {path} can't be read: {cause}.", NO_SEAL) from cause
    if not HEAD.fullmatch(kept):
        raise ConfigurationError(f"{path} is not a seal (one line of hex digits from `runs seal`); nothing was compared.", NO_SEAL)
    return kept


@runs.command()
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file; keep the file on another machine.")
@click.option("--force", is_flag=True, help="With --to: replace the seal in the file.")
@local
def seal(app: AppContext, to: Path | None, force: bool) -> dict[str, Any]:
    """Export the ledger's last hash, to detect deleted entries.

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
            raise ConfigurationError(f"The seal can't be written to {to}: {cause.strerror}.", f"Choose another file{force_it}.") from cause
    return {"head": head, "check": "opsctl runs verify --seal FILE"}


def _is_seal(content: bytes) -> bool:
    return HEAD.fullmatch(content.decode("ascii", "replace").strip()) is not None


@runs.command()
@click.option("--older-than", type=DURATION, required=True, help="Delete data that was last used longer ago than this.")
@local
def purge(app: AppContext, older_than: timedelta) -> dict[str, Any]:
    """Delete personal data (e-mails) from the ledger; the ledger can still be verified.

    Examples:
        opsctl runs purge --older-than 365d
    """
    return {"forgotten": app.ledger.purge(app.ledger.now() - older_than)}
