"""Global options are taken anywhere on the line, and say one thing."""

from __future__ import annotations

import click
import pytest

from opsctl.cli import app as cli
from opsctl.cli.command import OpsCommand, OpsGroup, local
from opsctl.cli.context import AppContext
from opsctl.cli.parsed import ParsedCommand
from opsctl.engine.options import Options


class Seen:
    """What the command `thing do` was handed."""

    env: str | None = None
    output: str = ""
    verbose: bool = False
    words: tuple[str, ...] = ()
    own: str | None = None


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """A tree with two commands: `thing do`, and `thing own`, which has an option `-o` of its own."""
    seen, thing = Seen(), OpsGroup("thing")

    def keep(app: AppContext, words: tuple[str, ...], own: str | None = None) -> None:
        seen.env, seen.output, seen.verbose, seen.words, seen.own = app.name, app.output, app.verbose, words, own

    for name, options in (("do", []), ("own", [click.Option(["-o", "--own"])])):
        argument = click.Argument(["words"], nargs=-1)
        thing.add_command(OpsCommand(name, callback=local(keep), params=[argument, *options]))
    monkeypatch.setattr(cli.Root, "get_command", lambda self, ctx, name: thing if name == "thing" else None)
    monkeypatch.setattr(cli.signal, "signal", lambda number, handler: None)
    monkeypatch.delenv("OPSCTL_ENV", raising=False)
    return seen


@pytest.mark.parametrize(
    "line",
    [
        "-e here -o json -v thing do a",
        "thing -e here -o json -v do a",
        "thing do -e here a -o json -v",
        "-e here thing -v do a --output=json",
    ],
)
def test_a_global_option_is_taken_anywhere(seen: Seen, line: str) -> None:
    assert cli.run(line.split()) == 0
    assert (seen.env, seen.output, seen.verbose, seen.words) == ("here", "json", True, ("a",))


def test_what_follows_two_dashes_is_no_option(seen: Seen) -> None:
    assert cli.run(["thing", "do", "--", "-e", "here", "-v"]) == 0
    assert (seen.env, seen.verbose, seen.words) == (None, False, ("-e", "here", "-v"))


def test_a_commands_own_option_wins(seen: Seen) -> None:
    assert cli.run(["-e", "here", "thing", "own", "-o", "json"]) == 0
    assert (seen.env, seen.output, seen.own) == ("here", "table", "json")


@pytest.mark.parametrize("line", ["-e one thing do -e two", "thing do -e one -e two", "--config a thing do --config b"])
def test_two_places_are_refused(seen: Seen, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(line.split()) == 2
    assert "it is given twice" in capsys.readouterr().err
    assert seen.output == ""


def test_the_line_comes_before_the_variable(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSCTL_ENV", "there")
    assert cli.run(["thing", "do"]) == 0
    assert seen.env == "there"
    assert cli.run(["thing", "do", "-e", "here"]) == 0
    assert seen.env == "here"


@pytest.mark.parametrize("option", ["-e here", "-o json", "-v", "--config folder"])
def test_a_playbooks_step_takes_no_global_option(option: str) -> None:
    with pytest.raises(click.UsageError, match="is given once, when the playbook is run"):
        ParsedCommand(f"service scale api 4 {option}", {})


def test_without_an_environment_those_that_exist_are_listed(
    machine: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPSCTL_ENV", raising=False)
    monkeypatch.setattr(cli.signal, "signal", lambda number, handler: None)
    assert cli.run(["status"]) == 2
    assert "Choose one with --env NAME or OPSCTL_ENV=NAME. Environments: prod, sandbox, staging." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "given", "typed"),
    [
        ("service scale api 4", {}, "service scale api 4"),
        ("service scale api 4", {"again": True}, "service scale api 4 --again"),
        ("logout user -- -5", {"again": True, "max_affected": 9}, "logout user --max-affected 9 --again -- -5"),
        ("notify slack 'a -- b'", {"again": True}, "notify slack 'a -- b' --again"),
    ],
)
def test_options_that_change_what_is_applied_are_shown_as_typed(command, given, typed):
    assert Options(**given).typed(command) == typed
