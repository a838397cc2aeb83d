"""The grammar: lazy groups, the three kinds of command, how a line is parsed, and how an error is shown.

A command is marked one of three. `changes` yields changes; `views` returns what to show; `acts` does opsctl's own business. None of them
prints, prompts or catches.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, ClassVar

import click
from click.core import ParameterSource

from opsctl.cli.context import LOCAL, Invocation
from opsctl.errors import OpsctlError

GROUPS = {
    "access": "Who may do what, what they did, and how it is taken away.",
    "alarms": "What fires, against its real source, and who looks after it.",
    "apply": "Apply a saved plan, exactly as it was reviewed.",
    "auth": "Prove that signing in works, and that old tokens don't.",
    "bounces": "Mail that came back: count it, mark it, act on it.",
    "client": "The customer's machine: hh's configuration, docker and its credential helper.",
    "config": "Where the configuration was found, and which folders are trusted.",
    "database": "The database: state, connections, queries, failover.",
    "downloads": "Allow or stop customers' downloads.",
    "lease": "Check a customer's download as the customer would.",
    "logs": "Watch log groups, and query them.",
    "logout": "End sessions: one user's, many users', or all.",
    "maintenance": "Tell users of maintenance ahead.",
    "notify": "Tell people: the status page, Slack, the pager.",
    "pairing": "Mint and revoke the tokens that pair customers' machines.",
    "people": "Who to call.",
    "playbook": "Run a procedure: commands and checklist items in order.",
    "protection": "What stands between the service and the internet: Shield, and the firewall's rules.",
    "runs": "What was run: look, resume, undo, verify.",
    "sandbox": "The rehearsal world on this machine.",
    "secrets": "List, rotate, roll back and verify secrets.",
    "service": "Look at, scale and redeploy services.",
    "sessions": "Who is signed in.",
    "snapshots": "Snapshots of the database: make, restore, prune.",
    "status": "One page: what is up and what is not.",
}
"""Every file of commands/, and its line in --help: read without importing any of them."""


MOST = 4000
"""Characters that a typed value may have."""


def texts(value: Any) -> Iterator[str]:
    """Every text that was given for a parameter."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)


class Strict(click.Command):
    """A command that takes nothing empty, which would mean "any" or "the usual one": a script's variable that isn't set reads so.

    Where nothing is given unless something is, the default being empty, it may be empty. A type of our own says better what it takes.
    """

    def make_parser(self, ctx: click.Context) -> Any:
        """Fill `{name}` in the parser's result, so that a value stays one argument whatever is in it; then look for what is empty."""
        parser = super().make_parser(ctx)
        values, parse = ctx.meta.get("opsctl.values") or {}, parser.parse_args

        def filled(args: list[str]) -> Any:
            given, rest, order = parse(args)
            given = fill(given, values)
            self._none_empty(ctx, given)
            return given, fill(rest, values), order

        parser.parse_args = filled  # type: ignore[method-assign]
        return parser

    def _none_empty(self, ctx: click.Context, given: dict[str, Any]) -> None:
        for param in self.params:
            value = given.get(param.name or "")
            if any(len(each) > MOST for each in texts(value)):
                raise click.BadParameter(f"it has more than {MOST:,} characters.", ctx, param)
            plain = isinstance(param.type, click.types.StringParamType | click.Path) and param.default != ""
            if plain and (value == "" or (isinstance(value, list | tuple) and "" in value)):
                raise click.BadParameter("it is empty; leave it out, or say which.", ctx, param)


class Line(Strict):
    """A command whose callback is marked `changes`, `views` or `acts`, and whose placeholders are filled after parsing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.role: Role = self.callback  # type: ignore[assignment]
        self.params.extend(self.role.options())

    def invoke(self, ctx: click.Context) -> Any:
        """Hand the parsed line to the command's role."""
        invocation = ctx.ensure_object(Invocation)
        if self.role.here and ctx.find_root().get_parameter_source("name") is not ParameterSource.COMMANDLINE:
            invocation.at(LOCAL)
        try:
            return self.role.run(invocation, line_of(ctx, self), dict(ctx.params))
        except OpsctlError as error:
            # A view's header has named it already.
            error.place = "" if invocation.screen.headed else invocation.place
            raise


class Group(click.Group):
    """A group whose commands are `Line`s, and whose groups are such groups."""

    command_class = Line
    group_class = type


class Root(Strict, Group):
    """The root: a command's file is imported when its name is typed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, without importing anything."""
        return list(GROUPS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import commands/NAME.py and return what it calls NAME."""
        if name not in GROUPS:
            return None
        found: click.Command = getattr(importlib.import_module(f"opsctl.commands.{name}"), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl(list(GROUPS.items()))


def group(name: str) -> Group:
    """A command group of commands/NAME.py, with its line of help from the table."""
    return Group(name, help=GROUPS[name])


def single(name: str) -> Callable[[Role], Line]:
    """A command at the root, of commands/NAME.py."""
    return click.command(name, cls=Line)


class Role:
    """What a command does with its function.

    `here` tells that it concerns this machine alone. `verdict` tells that its result is a verdict, with the flag `verdict_flag` where that
    is set: a function that returns a Verdict says so itself, others are marked. `probes` says what asking does in the system that is asked,
    so that a dry run doesn't ask.
    """

    here = False
    verdict_flag = ""
    probes = ""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.verdict = not VERDICTS.isdisjoint(_returned(function))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def options(self) -> list[click.Parameter]:
        """The options that every command of this role has."""
        return []

    def run(self, invocation: Invocation, line: str, params: dict[str, Any]) -> None:
        """Do it."""
        raise NotImplementedError


class changes(Role):  # noqa: N801
    """Mark a command that yields changes: `def scale(systems, name, count)`."""

    def options(self) -> list[click.Parameter]:
        """The shared options of a changing command."""
        from opsctl.cli.changing import changing_options

        return changing_options()

    def run(self, invocation: Invocation, line: str, params: dict[str, Any]) -> None:
        """Plan, and unless it is a dry run, guard, confirm and apply."""
        from opsctl.cli.changing import run_changes, split

        options, own = split(params)
        run_changes(invocation, line, lambda systems: self.function(systems, **own), options)


class views(Role):  # noqa: N801
    """Mark a command that returns rows, a record, a verdict or a stream: `def list_(systems)`."""

    def run(self, invocation: Invocation, line: str, params: dict[str, Any]) -> None:
        """Show what the function returns."""
        invocation.looks = True
        try:
            read = invocation.read
            invocation.screen.header(invocation.place)
            invocation.show(self.function(read, **params))
        except BrokenPipeError as gone:
            # Who stops reading has read enough, and nothing else was done.
            sys.stdout = _nowhere(1)
            raise click.exceptions.Exit(1) from gone


class acts(Role):  # noqa: N801
    """Mark a command that does opsctl's own business: `def list_(invocation)`."""

    def run(self, invocation: Invocation, line: str, params: dict[str, Any]) -> None:
        """Call the function and show what it returns, if anything."""
        found = self.function(invocation, **params)
        if found is not None:
            invocation.show(found)


VERDICTS = frozenset(("Verdict", "Alerts"))
"""The kinds of result that are good or not, by name: a command's file need not import them to say that it returns one."""


def _returned(function: Callable[..., Any]) -> set[str]:
    """The names of what a function is annotated to return, and of that class's bases."""
    kind = getattr(function, "__annotations__", {}).get("return", "")
    return {kind} if isinstance(kind, str) else {each.__name__ for each in getattr(kind, "__mro__", ())}


def gives_verdict(*, flag: str = "", probes: str = "") -> Callable[[Role], Role]:
    """Mark a command whose result is a verdict, by which a playbook's `verify` can fail; with `flag`, only where that flag is given.

    `probes` says what asking does in the system that is asked ("it signs in"), for what a dry run may not ask.
    """

    def mark(role: Role) -> Role:
        role.verdict, role.verdict_flag, role.probes = True, flag, probes
        return role

    return mark


def here(role: Role) -> Role:
    """Mark a command that concerns this machine alone: unless --env names one, it runs without environment, configuration and AWS."""
    role.here = True
    return role


@click.command(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="opsctl-runbook")
@click.option("-e", "--env", "name", envvar="OPSCTL_ENV", metavar="NAME", help="The environment; there is no default.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How results are printed.")
@click.option("-v", "--verbose", is_flag=True, help="Show the cause of an error too.")
@click.option("--config", "folder", envvar="OPSCTL_CONFIG", metavar="DIR", help="Where the environments' files are.")
@click.pass_context
def root(ctx: click.Context, name: str | None, output: str, verbose: bool, folder: str | None) -> None:
    """Runbook-as-code: see what would change, say yes, and be able to stop, resume, undo and prove it."""
    ctx.obj = ctx.with_resource(Invocation(name=name, output=output, verbose=verbose, folder=folder))


TYPED = 1000
"""Characters of what was typed that a usage error repeats."""
PLACEHOLDER = re.compile(r"\{(\w+)\}")


def fill(value: Any, values: dict[str, str]) -> Any:
    """Replace placeholders in whatever the parser returned."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda m: values.get(m[1], m[0]), value)
    if isinstance(value, list | tuple):
        return type(value)(fill(v, values) for v in value)
    if isinstance(value, dict):
        return {k: fill(v, values) for k, v in value.items()}
    return value


class Parsed:
    """A command line that was parsed and not run. `text` is its one canonical spelling."""

    PARENT: ClassVar[click.Context] = click.Context(root, info_name="opsctl")

    def __init__(self, line: str, values: dict[str, str]) -> None:
        words = shlex.split(line)
        command: click.Command = root
        ctx = self.PARENT
        while isinstance(command, click.Group):
            name = words.pop(0) if words else ""
            found = command.get_command(ctx, name)
            if found is None:
                raise click.UsageError(f"No such command {name!r} in {line!r}.")
            command = found
            ctx = click.Context(command, info_name=name, parent=ctx)
        if not isinstance(command, Line):
            raise click.UsageError(f"{line!r} names a group, not a command.")
        ctx.meta["opsctl.values"] = values
        command.parse_args(ctx, words)
        self.command: Line = command
        self.params: dict[str, Any] = dict(ctx.params)
        self.values = values
        self.text = line_of(ctx, command)

    @property
    def verdict(self) -> bool:
        """Whether this line gives a verdict."""
        role = self.command.role
        return role.verdict and (not role.verdict_flag or bool(self.params.get(role.verdict_flag)))


def line_of(ctx: click.Context, command: Line) -> str:
    """The canonical spelling of a parsed line: its words, without the options that all changing commands share."""
    shared = {p.name for p in command.role.options()}
    words = [w for w in ctx.command_path.split() if w != "opsctl"]
    words = words[1:] if ctx.find_root().info_name not in (None, "opsctl") else words
    arguments: list[str] = []
    options: list[str] = []
    for param in command.params:
        value = ctx.params.get(param.name or "")
        if param.name in shared or value is None or value == ():
            continue
        if isinstance(param, click.Argument):
            arguments += [_plain(v) for v in (value if isinstance(value, tuple) else [value])]
        elif not isinstance(param, click.Option):
            continue
        elif param.is_flag:
            options += [param.opts[-1]] if value else []
        else:
            options += [w for v in (value if param.multiple else [value]) for w in (param.opts[-1], _plain(v))]
    if any(argument.startswith("-") for argument in arguments):
        return shlex.join([*words, *options, "--", *arguments])
    return shlex.join([*words, *arguments, *options])


def _plain(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def run(args: Sequence[str]) -> int:
    """Run one command line; return its exit code. Every error is shown here, once."""
    verbose = "-v" in args or "--verbose" in args
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stdout is None or sys.stderr is None:
        return _closed()
    for arg in args:
        if not arg.isascii() and arg.encode(errors="replace").decode() != arg:
            return _say(2, f"The argument {arg!a} is not UTF-8; nothing was run.", "Type it in UTF-8.")
    try:
        code = root.main(args=list(args), prog_name="opsctl", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as wrong:
        return _misused(wrong)
    except OpsctlError as error:
        show(error, verbose)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _say(6, "Interrupted. Whatever had begun is in the ledger.", "opsctl runs list --active")
    except OSError as cause:
        return _unwritable(str(cause.strerror))
    except SystemExit:
        # What click makes of a pipe that nobody reads.
        return _unwritable(os.strerror(errno.EPIPE))
    except Exception as bug:  # noqa: BLE001 - the last wall: a person never sees a traceback
        return _bug(bug, verbose)
    return code if isinstance(code, int) else 0


def show(error: OpsctlError, verbose: bool = False) -> None:
    """Show an error: what happened, and what to type next; with `verbose` its causes."""
    # An adapter says how to go on and knows no run; where none was begun, the line itself is typed again.
    _say(error.exit_code, str(error.what), error.next.replace("opsctl runs resume ID", "the same line again"), error.place)
    from opsctl.redaction import sentence

    cause = error.__cause__
    while verbose and cause is not None:
        _say(error.exit_code, f"caused by {type(cause).__name__}: {sentence(cause)}")
        cause = cause.__cause__


def _say(code: int, what: str, next: str = "", place: str = "") -> int:
    from opsctl.redaction import visible
    from opsctl.render import out

    try:
        out.say(visible(f"opsctl: {' '.join(what.split())}"), err=True)
        if place:
            out.say(visible(f"  {place}"), err=True)
        if next:
            out.say(visible(f"  next: {next}"), err=True)
    except OSError:
        # Nobody can be told; the exit code and the ledger are what is left.
        sys.stderr = _nowhere(2)
    return code


def _nowhere(number: int) -> IO[str]:
    """Send a file descriptor that can't be written to nowhere, so that what is left in its buffer can be let go."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115
    os.dup2(nowhere.fileno(), number)
    return nowhere


def _closed() -> int:
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    return _say(1, "Standard output or error is closed, so nothing was run.", "Give it somewhere to write.")


def _unwritable(why: str) -> int:
    sys.stdout = _nowhere(1)
    return _say(1, f"The result couldn't be printed: {why}. What was done is in the ledger.", "opsctl runs list")


def _misused(wrong: click.ClickException) -> int:
    """Show a usage error; what was typed, which it may repeat, stays on one line of bounded length."""
    from opsctl.redaction import sentence
    from opsctl.render import out

    usage = ""
    if isinstance(wrong, click.UsageError) and wrong.ctx:
        usage = f"{wrong.ctx.get_usage()}\nTry '{wrong.ctx.command_path} --help' for help.\n\n"
    try:
        out.say(f"{usage}Error: {sentence(wrong.format_message(), TYPED)}", err=True)
    except OSError:
        sys.stderr = _nowhere(2)
    return wrong.exit_code


def _bug(bug: Exception, verbose: bool) -> int:
    from opsctl.redaction import foreign, sentence
    from opsctl.render import out

    if verbose:
        import traceback

        with contextlib.suppress(OSError):
            out.say(foreign("".join(traceback.format_exception(bug))), err=True)
    what = f"This is a defect in opsctl ({type(bug).__name__}: {sentence(bug)[:-1]}). What had begun is in the ledger."
    return _say(1, what, "opsctl runs list --active; report it with the output of -v")
