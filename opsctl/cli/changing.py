"""What every changing command does around its changes: the shared options, and the way from a plan to an outcome."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opsctl.engine.options import Options
from opsctl.errors import ConfigurationError, OpsctlError
from opsctl.redaction import foreign
from opsctl.settings import Duration

if TYPE_CHECKING:
    from opsctl.cli.context import Invocation
    from opsctl.config import Environment
    from opsctl.engine.engine import Make
    from opsctl.engine.outcome import Outcome
    from opsctl.engine.plan import Plan
    from opsctl.shell import Script, Statement

F = TypeVar("F")


class DurationType(click.ParamType[Duration]):
    """A time span: `90s`, `5m`, `24h`, `7d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        """Raises a usage error for anything else."""
        if isinstance(value, Duration):
            return value
        try:
            return Duration.parse(value)
        except ValueError as cause:
            self.fail(str(cause), param, ctx)


DURATION = DurationType()


class SourceType(click.ParamType[str]):
    """Where a secret value comes from; the refusal doesn't repeat what was typed, which may be the value itself."""

    name = "source"

    def __init__(self, *, generated: bool) -> None:
        self.generated = generated

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises a usage error for a value that is no source."""
        from opsctl.adapters.host.secret_sources import check_source

        if value == "generate" and not self.generated:
            self.fail("expected -, env:VARIABLE or file:PATH: the value is one that somebody else has.", param, ctx)
        try:
            return check_source(value)
        except ValueError as cause:
            self.fail(str(cause), param, ctx)


SOURCE = SourceType(generated=True)
GIVEN = SourceType(generated=False)
"""Where a value is that exists already, so that none is made up."""


class WordsType(click.types.StringParamType):
    """What a person tells others in their own words: kept, and shown later, without what looks like a secret."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Clean it."""
        return foreign(str(value))


WORDS = WordsType()


def changing_options() -> list[click.Parameter]:
    """The options that every changing command shares."""
    return [
        click.Option(["-n", "--dry-run"], is_flag=True, help="Show what would change; change nothing (exit 3 if something would)."),
        click.Option(["--save"], type=click.Path(dir_okay=False, path_type=Path), help="With -n: keep the plan in this file."),
        click.Option(["--force"], is_flag=True, help="With --save: replace the plan that the file holds."),
        click.Option(["--as-shell"], is_flag=True, help="With -n: print a bash script that does the same without opsctl."),
        click.Option(["-y", "--yes"], is_flag=True, help="Don't ask; guards still stand."),
        click.Option(["--confirm"], metavar="TARGET", help="The target's name, where it would have to be typed."),
        click.Option(["--reason"], type=WORDS, default="", help="Why; kept in the ledger."),
        click.Option(["--incident"], default="", metavar="ID", help="The incident that it belongs to."),
        click.Option(["--max-affected"], type=click.IntRange(0), metavar="N", help="Refuse above this many of anything."),
        click.Option(["--timeout"], type=DURATION, help="How long to wait for a change to come true."),
        click.Option(["--no-wait"], is_flag=True, help="Don't wait for the proof (exit 6; resume to prove it)."),
        click.Option(["--again"], is_flag=True, help="Do it again where only our own memory says it is done."),
    ]


def split(params: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """Part the shared options from a command's own parameters; raises a usage error for one of them without what it goes with."""
    names = {option.name or "" for option in changing_options()}
    options = Options(**{k: v for k, v in params.items() if k in names})
    if (options.save or options.as_shell) and not options.dry_run:
        raise click.UsageError("--save and --as-shell go with --dry-run (-n).")
    if options.force and not options.save:
        raise click.UsageError("--force goes with --save. It replaces a saved plan; it passes no guard.")
    return options, {k: v for k, v in params.items() if k not in names}


def changing(function: F) -> F:
    """Give a command that acts the options that changing commands share."""
    given = getattr(function, "__click_params__", [])
    function.__click_params__ = [*reversed(changing_options()), *given]  # type: ignore[attr-defined]
    return function


def run_changes(invocation: Invocation, line: str, make: Make, options: Options) -> None:
    """Plan a command and, unless it is a dry run, apply it; show the outcome and leave with its exit code."""
    conclude(invocation, line, options, lambda: carry_out(invocation, invocation.engine.plan(line, make, options), options))


def carry_out(invocation: Invocation, plan: Plan, options: Options) -> Outcome:
    """Show a plan and apply it; of a dry run, only find out what stands against it, and keep it where --save says."""
    from opsctl.engine import plan as plans

    if not options.dry_run:
        invocation.screen.plan(plan)
        return invocation.engine.perform(plan, options)
    preview = invocation.engine.preview(plan, options)
    if options.save and not preview.error:
        plans.save(plan, options.save, force=options.force)
    if options.as_shell and not preview.error:
        invocation.screen.script(script(invocation.environment, plan.command, statements(plan, invocation.environment)))
    return preview


def statements(plan: Plan, environment: Environment) -> list[Statement]:
    """The statements of a script that makes a plan's pending changes, in their order."""
    from opsctl.shell import Comment

    found: list[Statement] = []
    for planned in plan.pending:
        found += [Comment(line=f"{planned.seq}. {planned.change.summary}"), *planned.change.as_shell(environment)]
    return found


def script(environment: Environment, command: str, statements: list[Statement]) -> Script:
    """One script for all of a command's statements."""
    from opsctl.shell import Say, Script

    said = Say(
        line="Done. Nothing was verified by opsctl, and its ledger knows nothing of it." if statements else "There is nothing to do."
    )
    aws, title = environment.settings.aws, f"opsctl {command}, in the environment {environment.name}"
    account, endpoint = (aws.account, aws.endpoint) if aws else ("", None)
    ca = aws.ca if aws and aws.ca != "system" else None
    return Script(title=title, statements=(*statements, said), account=account, endpoint=endpoint, proxy=environment.settings.proxy, ca=ca)


def conclude(invocation: Invocation, line: str, options: Options, work: Callable[[], Outcome]) -> None:
    """Do the work, show its outcome, or that of the error which ended it, and leave with the exit code."""
    gc.enable()
    invocation.looks = options.dry_run
    try:
        outcome = work()
    except OpsctlError as error:
        outcome = refused(invocation, line, options, error)
    finish(invocation, outcome, aside=options.as_shell)


def refused(invocation: Invocation, line: str, options: Options, error: OpsctlError) -> Outcome:
    """The outcome of a command that an error ended before its run began."""
    from opsctl.engine.outcome import Outcome

    return Outcome(
        run=None,
        environment=invocation.name or "",
        command=line,
        dry_run=options.dry_run,
        result=error.result,  # type: ignore[arg-type]
        error=error,
        untouched=not invocation.begun,
    )


def finish(invocation: Invocation, outcome: Outcome, *, aside: bool = False) -> None:
    """Show an outcome (`aside`: on standard error, where a shell reads the output), then its error, and leave with its exit code."""
    if outcome.error and outcome.untouched:
        outcome.error.what = f"{outcome.error.what.rstrip('.')}."
    if outcome.error and isinstance(outcome.error, ConfigurationError):
        raise outcome.error
    invocation.screen.outcome(outcome, aside=aside)
    if outcome.error:
        raise outcome.error
    if outcome.exit_code:
        raise click.exceptions.Exit(outcome.exit_code)
