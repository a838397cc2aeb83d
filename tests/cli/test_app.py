"""The root of the command tree, and how an error is shown."""

from __future__ import annotations

import click
import pytest
from terminal import Terminal

from opsctl import __version__ as version
from opsctl.cli import app as cli
from opsctl.errors import OpsctlError, Refused


@pytest.fixture(autouse=True)
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line takes SIGTERM; this process keeps its own way with it."""
    monkeypatch.setattr(cli.signal, "signal", lambda number, handler: None)


def test_no_folder_is_not_the_usual_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--config", "", "people", "list"]) == 2
    assert "'--config': it is empty" in capsys.readouterr().err


def test_every_group_has_its_help_without_being_imported() -> None:
    ctx = click.Context(cli.root, info_name="opsctl")
    for name in cli.root.list_commands(ctx):
        command = cli.root.get_command(ctx, name)
        assert command is not None
        assert cli.GROUPS[name]
        assert command.get_short_help_str()


def test_an_error_is_one_line_and_a_next(capsys: pytest.CaptureFixture[str]) -> None:
    error = Refused("it is\n  not   to be", "do another thing")
    error.__cause__ = OSError("the disk is gone")
    cli.show_error(error)
    assert capsys.readouterr().err == "opsctl: it is not to be\n  next: do another thing\n"
    cli.show_error(error, verbose=True)
    assert "caused by OSError: the disk is gone" in capsys.readouterr().err


def test_a_defect_is_told_as_one_and_without_a_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("it divides")

    monkeypatch.setattr(cli.root, "invoke", broken)
    assert cli.run(["status"]) == 1
    said = capsys.readouterr().err
    assert "defect in opsctl (ZeroDivisionError: it divides)" in said
    assert "Traceback" not in said
    assert cli.run(["-v", "status"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 6), (click.Abort(), 6), (OpsctlError("x"), 1), (Refused("x"), 4)])
def test_what_ends_a_command_gives_its_exit_code(raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*args: object, **kwargs: object) -> None:
        raise raised

    monkeypatch.setattr(cli.root, "main", ends)
    assert cli.run(["status"]) == code


def test_the_version_is_told(opsctl: Terminal) -> None:
    assert opsctl("--version", check=0).out.strip().endswith(version)
