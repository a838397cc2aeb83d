"""The command class, and the decorators that mark a command's function.

A command is of one of three kinds: a mutating command yields changes, a read-only command returns what to show, and a local command
manages opsctl itself. Commands don't print, prompt or catch errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from opsctl.cli.context import LOCAL, AppContext
from opsctl.cli.help import HelpfulGroup, split_examples, write_examples
from opsctl.cli.line import canonical_command_line, fill
from opsctl.cli.options import check_value, global_options, run_changes, shared_options, split_options
from opsctl.errors import OpsctlError

if TYPE_CHECKING:
    from opsctl.permissions import Requirement

Kind = Literal["mutating", "read-only", "local"]
F = TypeVar("F", bound=Callable[..., Any])

VALUES = "opsctl.values"
"""The key of a context's `meta` that holds the values of placeholders."""
VERDICTS = frozenset(("Verdict", "Alerts"))
"""Names of the result types that are verdicts, so that a command's file need not import them."""
MARKS = "opsctl_marks"


def _mark(function: F, **marks: Any) -> F:
    function.__dict__.setdefault(MARKS, {}).update(marks)
    return function


def mutating(function: F) -> F:
    """Mark a command that yields changes."""
    return _mark(function, kind="mutating")


def read_only(function: F) -> F:
    """Mark a command that returns rows, a record, a verdict or a stream."""
    return _mark(function, kind="read-only")


def local(function: F) -> F:
    """Mark a command that manages opsctl itself; its first parameter is the AppContext."""
    return _mark(function, kind="local")


def offline(function: F) -> F:
    """Mark a command that needs only this machine: without --env it runs without environment, configuration and AWS."""
    return _mark(function, offline=True)


def gives_verdict(*, flag: str = "", probes: str = "") -> Callable[[F], F]:
    """Mark a command whose result is a verdict, so that a playbook's `verify` can fail; with `flag`, only if that flag is given.

    `probes` describes an effect of the query on the system ("it signs in"); a dry run then skips the query.
    """
    return lambda function: _mark(function, gives_verdict=True, verdict_flag=flag, probes=probes)


def requires(reads: str = "", *, changes: str = "") -> Callable[[F], F]:
    """Declare the permissions that a command needs for reading, and the tags of its changes; both separated by spaces."""
    from opsctl.permissions import Requirement

    return lambda function: _mark(function, requirement=Requirement(frozenset(reads.split()), tuple(changes.split())))


class OpsCommand(click.Command):
    """A command of a marked function. Empty values are refused, because they usually come from an unset variable of a script."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from opsctl.permissions import Requirement

        super().__init__(*args, **kwargs)
        self.help, self.examples = split_examples(self.help)
        assert self.callback is not None
        self.function: Callable[..., Any] = self.callback
        marks = self.function.__dict__[MARKS]
        self.kind: Kind = marks["kind"]
        self.offline: bool = marks.get("offline", False)
        self.gives_verdict: bool = marks.get("gives_verdict", False) or not VERDICTS.isdisjoint(_returned(self.function))
        self.verdict_flag: str = marks.get("verdict_flag", "")
        self.probes: str = marks.get("probes", "")
        self.requirement: Requirement = marks.get("requirement", Requirement())
        if self.kind == "mutating":
            self.params.extend(shared_options())
        self.params.extend(global_options(self.params))

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help text and the examples."""
        super().format_help_text(ctx, formatter)
        write_examples(formatter, self.examples)

    def make_parser(self, ctx: click.Context) -> Any:
        """A parser that replaces `{name}` after splitting the line, so that a value is always one argument."""
        parser = super().make_parser(ctx)
        values, parse = ctx.meta.get(VALUES) or {}, parser.parse_args

        def filled(args: list[str]) -> Any:
            given, rest, order = parse(args)
            given = fill(given, values)
            for param in self.params:
                check_value(ctx, param, given.get(param.name or ""))
            return given, fill(rest, values), order

        parser.parse_args = filled  # type: ignore[method-assign]
        return parser

    def invoke(self, ctx: click.Context) -> Any:
        """Run the function according to its kind."""
        app = ctx.ensure_object(AppContext)
        if self.offline and not app.env_given:
            app.use_environment(LOCAL)
        run = {"mutating": self._change, "read-only": self._view, "local": self._act}[self.kind]
        try:
            run(app, canonical_command_line(ctx), dict(ctx.params))
        except OpsctlError as error:
            # The header of a view has already named the environment.
            error.place = "" if app.screen.headed else app.place
            raise

    def _change(self, app: AppContext, line: str, params: dict[str, Any]) -> None:
        options, own = split_options(params)
        run_changes(app, line, lambda planning: self.function(planning, **own), options)

    def _view(self, app: AppContext, line: str, params: dict[str, Any]) -> None:
        app.only_looks = True
        try:
            read = app.read
            app.screen.header(app.place)
            app.show(self.function(read, **params))
        except BrokenPipeError as gone:
            # The reader has closed the pipe; nothing else was done.
            sys.stdout = to_nowhere(1)
            raise click.exceptions.Exit(1) from gone

    def _act(self, app: AppContext, line: str, params: dict[str, Any]) -> None:
        found = self.function(app, **params)
        if found is not None:
            app.show(found)


class OpsGroup(HelpfulGroup):
    """A group of `OpsCommand`s and `OpsGroup`s."""

    command_class = OpsCommand
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options(self.params))


def _returned(function: Callable[..., Any]) -> set[str]:
    """The names of a function's return type and its bases."""
    kind = getattr(function, "__annotations__", {}).get("return", "")
    return {kind} if isinstance(kind, str) else {each.__name__ for each in getattr(kind, "__mro__", ())}


def to_nowhere(number: int) -> Any:
    """Redirect a file descriptor that can't be written to the null device, so that flushing its buffer doesn't fail."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115
    os.dup2(nowhere.fileno(), number)
    return nowhere
