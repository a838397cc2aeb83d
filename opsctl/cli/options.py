"""The options that commands share, and the way from a changing command's plan to its exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opsctl.cli.context import AppContext
from opsctl.cli.hints import next_line
from opsctl.errors import ConfigurationError, OpsctlError

if TYPE_CHECKING:
    from opsctl.engine.engine import Make
    from opsctl.engine.options import Options
    from opsctl.engine.outcome import Outcome
    from opsctl.engine.plan import Plan

F = TypeVar("F")

MAX_VALUE = 4000
"""Characters that a typed value may have."""


def check_value(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Raise a usage error for a value that is too long, or is empty where the default isn't and any text would be taken.

    An empty value would mean "any" or "the usual one", and a script's variable that isn't set reads so. Other types refuse it themselves.
    """
    texts = list(_texts(value))
    if any(len(each) > MAX_VALUE for each in texts):
        raise click.BadParameter(f"it has more than {MAX_VALUE:,} characters.", ctx, param)
    if isinstance(param.type, click.types.StringParamType | click.Path) and param.default != "" and "" in texts:
        raise click.BadParameter("it is empty; leave it out, or say which.", ctx, param)


def _texts(value: Any) -> Iterator[str]:
    """Every text that was given for a parameter."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


class GlobalOption(click.Option):
    """An option of the whole command line, which is taken anywhere on it; its name is the AppContext's field after `global_`."""

    def __init__(self, decls: list[str], **attrs: Any) -> None:
        super().__init__(decls, expose_value=False, is_eager=True, multiple=not attrs.get("is_flag"), callback=_take, **attrs)


PLACES = ("name", "folder")
"""The fields that say where a command works: a line that gives two values for one of them is refused."""


def _take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Put a global option's values into the AppContext."""
    app, field = ctx.find_object(AppContext), (param.name or "").removeprefix("global_")
    for each in value if isinstance(value, tuple) else [value] * bool(value):
        if app is None:
            raise click.UsageError(f"{param.opts[-1]} is given once, when the playbook is run.", ctx)
        check_value(ctx, param, each)
        if field in PLACES and app.given.get(field, each) != each:
            raise click.BadParameter(f"it is given twice: {app.given[field]} and {each}.", ctx, param)
        app.given[field] = each
        setattr(app, field, each)


def global_options(own: Iterable[click.Parameter], *, hidden: bool = True) -> list[click.Parameter]:
    """The options that are taken anywhere on the line, without those for which a command's `own` parameters have a name already."""
    taken = {name for param in own if isinstance(param, click.Option) for name in (*param.opts, *param.secondary_opts)}
    output, folder = click.Choice(["table", "json"]), "The folder of the environments' configuration files."
    options = [
        GlobalOption(
            ["-e", "--env", "global_name"], metavar="NAME", help="The environment, for example prod; there is no default.", hidden=hidden
        ),
        GlobalOption(["-o", "--output", "global_output"], type=output, help="Print results as a table or as JSON.", hidden=hidden),
        GlobalOption(["-v", "--verbose", "global_verbose"], is_flag=True, help="Show more: causes of errors, and notes.", hidden=hidden),
        GlobalOption(["--config", "global_folder"], metavar="DIR", help=folder, hidden=hidden),
    ]
    return [option for option in options if taken.isdisjoint(option.opts)]


class SharedOption(click.Option):
    """An option of every changing command. It says how the command is run, and not what it does."""


@functools.cache
def shared_options() -> tuple[click.Parameter, ...]:
    """The options that every changing command shares."""
    from pathlib import Path

    from opsctl.cli.types import DURATION, WORDS

    return (
        SharedOption(["-n", "--dry-run"], is_flag=True, help="Show what would change; change nothing. Exit 3 if anything would."),
        SharedOption(["--save"], type=click.Path(dir_okay=False, path_type=Path), help="With -n: save the plan in this file."),
        SharedOption(["--force"], is_flag=True, help="With --save: replace the plan in the file."),
        SharedOption(["--as-shell"], is_flag=True, help="With -n: print a bash script that does the same without opsctl."),
        SharedOption(["-y", "--yes"], is_flag=True, help="Skip the y/N question; safety checks still apply."),
        SharedOption(["--confirm"], metavar="TARGET", help="The target's name, where the command would ask you to type it."),
        SharedOption(["--reason"], type=WORDS, default="", help="Why you run this; kept in the ledger."),
        SharedOption(["--incident"], default="", metavar="ID", help="The incident that this belongs to."),
        SharedOption(
            ["--max-affected"], type=click.IntRange(0), metavar="N", help="Refuse if more than N users, tasks or other things are affected."
        ),
        SharedOption(["--timeout"], type=DURATION, help="How long to wait for each change to finish."),
        SharedOption(["--no-wait"], is_flag=True, help="Don't wait for verification. Exit 6; `opsctl runs resume` verifies later."),
        SharedOption(["--again"], is_flag=True, help="Repeat, even if it was done recently."),
    )


def split_options(params: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """The shared options, and a command's own parameters. Raises a usage error for an option without the one that it goes with."""
    from opsctl.engine.options import Options

    names = {option.name or "" for option in shared_options()}
    options = Options(**{k: v for k, v in params.items() if k in names})
    if (options.save or options.as_shell) and not options.dry_run:
        raise click.UsageError("--save and --as-shell go with --dry-run (-n).")
    if options.force and not options.save:
        raise click.UsageError("--force goes with --save. It replaces a saved plan; it skips no safety check.")
    return options, {k: v for k, v in params.items() if k not in names}


def apply_options(function: F) -> F:
    """Give a local command the options that changing commands share."""
    given = getattr(function, "__click_params__", [])
    function.__click_params__ = [*reversed(shared_options()), *given]  # type: ignore[attr-defined]
    return function


def run_changes(app: AppContext, line: str, make: Make, options: Options) -> None:
    """Plan a command and, unless it is a dry run, apply it; show the outcome and leave with its exit code."""
    run_and_report(app, line, options, lambda: preview_or_apply(app, app.engine.plan(line, make, options), options))


def preview_or_apply(app: AppContext, plan: Plan, options: Options) -> Outcome:
    """Show a plan and apply it; of a dry run, only find out what stands against it, and keep it where --save says."""
    from opsctl.cli.script import script, statements
    from opsctl.engine import plan as plans

    if not options.dry_run:
        app.screen.plan(plan, typed=options.typed(plan.command))
        return app.engine.perform(plan, options)
    preview = app.engine.preview(plan, options)
    if options.save and not preview.error:
        plans.save(plan, options.save, app.keyring, force=options.force)
    if options.as_shell and not preview.error:
        app.screen.script(script(app.environment, plan.command, statements(plan, app.environment)))
    return preview


def run_and_report(app: AppContext, line: str, options: Options, work: Callable[[], Outcome]) -> None:
    """Do the work, show its outcome, or that of the error which ended it, and leave with the exit code."""
    app.only_looks = options.dry_run
    try:
        outcome = work()
    except OpsctlError as error:
        outcome = refused_outcome(app, line, options, error)
    report_and_exit(app, outcome, aside=options.as_shell)


def refused_outcome(app: AppContext, line: str, options: Options, error: OpsctlError) -> Outcome:
    """The outcome of a command that an error ended before its run began."""
    from opsctl.engine.outcome import Outcome

    return Outcome(
        run=None,
        environment=app.name or "",
        command=line,
        dry_run=options.dry_run,
        result=error.result,  # type: ignore[arg-type]
        error=error,
        untouched=not app.has_begun,
    )


def report_and_exit(app: AppContext, outcome: Outcome, *, aside: bool = False) -> None:
    """Show an outcome (`aside`: on standard error, where a shell reads the output), then its error, and leave with its exit code."""
    if outcome.error and outcome.untouched:
        outcome.error.what = f"{outcome.error.what.rstrip('.')}."
    if outcome.error and isinstance(outcome.error, ConfigurationError):
        raise outcome.error
    if outcome.error:
        outcome.error.next = next_line(outcome.error.next)
    app.screen.outcome(outcome, aside=aside)
    if outcome.error:
        raise outcome.error
    if outcome.exit_code:
        raise click.exceptions.Exit(outcome.exit_code)
