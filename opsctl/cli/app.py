"""The root of the command tree, whose groups are imported when their name is typed; running a command line, and showing its error."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from opsctl.cli import completion
from opsctl.cli.command import OpsCommand, OpsGroup, to_nowhere
from opsctl.cli.context import AppContext
from opsctl.cli.help import HelpfulGroup
from opsctl.cli.options import global_options
from opsctl.errors import OpsctlError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

GROUPS = {
    "access": "Review IAM users' rights and activity, and revoke access.",
    "alarms": "Check alerts against their sources, and acknowledge alarms.",
    "apply": "Apply a saved plan exactly as it was reviewed.",
    "auth": "Verify that sign-in works and that old tokens are refused.",
    "bounces": "Process, list and act on bounced e-mails.",
    "client": "Check and configure hh and docker on a customer's machine.",
    "completion": "Print the script that completes commands in bash, zsh or fish.",
    "config": "Show which configuration files are used; trust a folder.",
    "database": "Show the database's state, connections and queries; end queries; fail over.",
    "downloads": "Allow or stop customers' downloads.",
    "lease": "Test whether a customer can download.",
    "logs": "Show and search logs.",
    "logout": "End the sessions of one user, many users or all users.",
    "maintenance": "Announce maintenance to users.",
    "notify": "Post to the status page, Slack or the pager.",
    "pairing": "Create and revoke customers' pairing codes.",
    "people": "List who to call.",
    "permissions": "Show the permissions that a command needs: AWS, Postgres, Redis, HTTP.",
    "playbook": "Run a procedure: commands and checklist items in order.",
    "protection": "Show and change DDoS protection: Shield Advanced, firewall blocks and rate limit.",
    "runbook": "Show what to do in an incident.",
    "runs": "Show, resume, undo and verify what was run.",
    "sandbox": "Start a sandbox of all systems on this machine, to rehearse in.",
    "secrets": "List, rotate, roll back and verify secrets.",
    "service": "Show, scale and redeploy services.",
    "sessions": "List who is signed in.",
    "snapshots": "List, create, restore and prune database snapshots.",
    "status": "Show what is wrong, and the state of every system.",
}
"""Every file of commands/, and its line in --help: read without importing any of them."""


class Root(HelpfulGroup):
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

    def lines(self, ctx: click.Context) -> Mapping[str, str]:
        """Every group's line of help, from the table."""
        return GROUPS

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a group's name from the table, or a global option."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=line) for name, line in GROUPS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def group(name: str) -> OpsGroup:
    """A command group of commands/NAME.py, with its line of help from the table."""
    return OpsGroup(name, help=GROUPS[name])


def root_command(name: str) -> Callable[[Callable[..., object]], OpsCommand]:
    """A command at the root, of commands/NAME.py."""
    return click.command(name, cls=OpsCommand)


@click.command(cls=Root, params=global_options((), hidden=False), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="opsctl-runbook")
@click.pass_obj
def root(app: AppContext) -> None:
    """Run operations procedures: see what would change, confirm it, and later resume, undo or verify it.

    These options can be typed anywhere on the line.
    """
    click.get_current_context().with_resource(app)


MAX_REPEATED = 1000
"""Characters of the command line that a usage error repeats at most."""


def run(args: Sequence[str]) -> int:
    """Run one command line; return its exit code. Every error is shown here, once."""
    app = AppContext(name=os.environ.get("OPSCTL_ENV") or None, folder=os.environ.get("OPSCTL_CONFIG") or None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stdout is None or sys.stderr is None:
        return _refuse_closed_streams()
    for arg in args:
        if not arg.isascii() and arg.encode(errors="replace").decode() != arg:
            return _print_error(2, f"The argument {arg!a} is not valid UTF-8; nothing was run.", "Type it in UTF-8.")
    try:
        code = _complete_or_run(args, app)
        sys.stdout.flush()
    except click.ClickException as wrong:
        return _show_usage_error(wrong)
    except OpsctlError as error:
        show_error(error, app.verbose)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _print_error(6, "Interrupted. What had begun is recorded in the ledger.", "opsctl runs list --active")
    except OSError as cause:
        return _report_unwritable(cause.errno, app) if _is_unwritable(cause) else _print_error(1, f"{cause}.", "Add -v to see more.")
    except SystemExit:
        # Click raises SystemExit for a broken pipe.
        return _report_unwritable(errno.EPIPE, app)
    except Exception as bug:  # noqa: BLE001 - the last resort: users never see a traceback
        return _show_defect(bug, app.verbose)
    return code if isinstance(code, int) else 0


def _complete_or_run(args: Sequence[str], app: AppContext) -> object:
    if completion.VARIABLE in os.environ:
        return completion.complete(root, app)
    return root.main(args=list(args), prog_name="opsctl", standalone_mode=False, obj=app)


def show_error(error: OpsctlError, verbose: bool = False) -> None:
    """Print an error: what happened and what to do next; with `verbose` also its causes."""
    from opsctl.cli.hints import next_line

    _print_error(error.exit_code, str(error.what), next_line(error.next), error.place, error.details)
    from opsctl.redaction import clean_sentence

    cause = error.__cause__
    while verbose and cause is not None:
        _print_error(error.exit_code, f"caused by {type(cause).__name__}: {clean_sentence(cause)}")
        cause = cause.__cause__


def _print_error(code: int, what: str, next: str = "", place: str = "", details: Sequence[str] = ()) -> int:
    from opsctl.redaction import visible
    from opsctl.render import out

    try:
        out.say(visible(f"opsctl: {' '.join(what.split())}"), err=True)
        for each in details:
            out.say(visible(f"  {each}"), err=True)
        if place:
            out.say(visible(f"  {place}"), err=True)
        if next:
            out.say(visible(f"  next: {next}"), err=True)
    except OSError:
        # Nothing can be printed; the exit code and the ledger still show the result.
        sys.stderr = to_nowhere(2)
    return code


def _refuse_closed_streams() -> int:
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    return _print_error(1, "Standard output or standard error is closed; nothing was run.", "Redirect it to a file or to /dev/null.")


def _is_unwritable(cause: OSError) -> bool:
    """Whether an error is that of writing to a stream: a closed pipe, a full disk or a failing device, without a file's name."""
    return cause.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO) and cause.filename is None


def _report_unwritable(code: int | None, app: AppContext) -> int:
    """Say that the result couldn't be printed; a reader who left early, as `head` does, is told only where something was begun."""
    sys.stdout = to_nowhere(1)
    if code == errno.EPIPE and not app.has_begun:
        return 1
    recorded = " What was done is recorded in the ledger." if app.has_begun else ""
    return _print_error(1, f"The result could not be printed: {os.strerror(code or 0)}.{recorded}", "opsctl runs list" if recorded else "")


def _show_usage_error(wrong: click.ClickException) -> int:
    """Print a usage error. What it repeats of the command line is limited to one line."""
    from opsctl.redaction import clean_sentence
    from opsctl.render import out

    usage = ""
    if isinstance(wrong, click.UsageError) and wrong.ctx:
        usage = f"{wrong.ctx.get_usage()}\nTry '{wrong.ctx.command_path} --help' for help.\n\n"
    try:
        what = clean_sentence(wrong.format_message(), MAX_REPEATED)
        out.say(f"{usage}Error: {what.removesuffix('.') if '?' in what[-3:] else what}", err=True)
    except OSError:
        sys.stderr = to_nowhere(2)
    return wrong.exit_code


def _show_defect(bug: Exception, verbose: bool) -> int:
    from opsctl.redaction import clean_sentence, clean_text
    from opsctl.render import out

    if verbose:
        import traceback

        with contextlib.suppress(OSError):
            out.say(clean_text("".join(traceback.format_exception(bug))), err=True)
    what = f"This is a defect in opsctl ({type(bug).__name__}: {clean_sentence(bug)[:-1]}). What had begun is recorded in the ledger."
    return _print_error(1, what, "opsctl runs list --active; please report the defect with the output of -v")
