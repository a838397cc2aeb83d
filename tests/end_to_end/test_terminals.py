"""Odd terminals and odd readers: closed, full, narrow, gone away, without UTF-8; never a traceback, never a lost effect."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from bad_days import plain, runs
from terminal import ROOT
from world import World, table

SCALE = ("service", "scale", "api", "4", "-y")


def shell(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A line as a shell runs it, `opsctl` being this one."""
    told = {**os.environ, "PYTHONPATH": str(ROOT), "OPSCTL": f"{sys.executable} -m opsctl.main", **env}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=told, timeout=60, start_new_session=True, check=False)


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    assert "defect" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_a_closed_output_nothing_is_run(world: World, closed: str) -> None:
    done = shell(f"$OPSCTL {' '.join(SCALE)} {closed}")
    assert done.returncode == 1
    told = said(done)
    assert not told or "nothing was run" in told
    assert world.service("api")["desiredCount"] == 2
    assert runs(world) == []


def changed_and_not_printed(world: World, done: subprocess.CompletedProcess[str]) -> None:
    """The effect is there and in the ledger, though nobody could be shown the outcome; where to look is said."""
    assert done.returncode == 1
    assert "could not be printed" in said(done)
    assert "opsctl runs list" in done.stderr
    assert runs(world)[0]["state"] == "changed"
    assert world.service("api")["desiredCount"] == 4


def test_a_full_disk_for_the_output_loses_no_effect(world: World) -> None:
    done = shell(f"$OPSCTL -o json {' '.join(SCALE)} >/dev/full")
    changed_and_not_printed(world, done)
    assert world.opsctl("runs", "verify", check=0)


@pytest.mark.parametrize("form", ["", "-o json"])
def test_a_reader_that_is_gone_before_the_outcome_loses_no_effect(world: World, form: str) -> None:
    done = shell(f"set -o pipefail; $OPSCTL {form} {' '.join(SCALE)} | true")
    changed_and_not_printed(world, done)


def test_a_tempo_that_is_no_number_is_a_usage_error(world: World) -> None:
    for tempo in ("abc", "-1", "nan", "inf"):
        assert "OPSCTL_TEMPO" in plain(world.opsctl(*SCALE, env={"OPSCTL_TEMPO": tempo}), 2)
    assert runs(world) == []


def test_a_full_disk_for_everything_changes_nothing_unrecorded(world: World) -> None:
    done = shell(f"$OPSCTL {' '.join(SCALE)} >/dev/full 2>/dev/full")
    assert done.returncode == 1
    active = world.opsctl("-o", "json", "runs", "list", "--active", check=0).json
    assert (world.service("api")["desiredCount"] == 2) or active or runs(world)
    for run in active:
        world.opsctl("runs", "resume", run["run"], check=0)


@pytest.mark.parametrize("line", ["$OPSCTL sessions list", "$OPSCTL -o json sessions list", "$OPSCTL --help", "$OPSCTL secrets list"])
def test_a_reader_that_goes_away(world: World, line: str) -> None:
    done = shell(f"{line} | head -1")
    assert [line for line in said(done).splitlines() if not line.startswith("in sandbox, configured by ")] == []
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("locale", [{"LANG": "C", "LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_locale_without_letters(world: World, locale: dict[str, str]) -> None:
    for line in ("$OPSCTL service scale api 4 -n", f"$OPSCTL {' '.join(SCALE)}", "$OPSCTL playbook show token-compromise"):
        done = shell(line, **locale)
        assert done.returncode in (0, 3), done.stderr
        said(done)
    assert world.service("api")["desiredCount"] == 4


def test_a_terminal_of_twenty_columns(world: World) -> None:
    for line in (
        ("--help",),
        ("service", "status"),
        ("status",),
        ("service", "scale", "api", "4", "-n"),
        ("playbook", "show", "token-compromise"),
    ):
        done = world.opsctl(*line, env={"COLUMNS": "20", "LINES": "5"})
        assert done.code in (0, 3), str(done)
        assert "Traceback" not in done.err


def test_a_pager_sees_no_colours(world: World) -> None:
    for line in ("$OPSCTL service scale api 4 -n", "$OPSCTL status", "$OPSCTL playbook show token-compromise"):
        assert "\x1b" not in shell(line).stdout


def test_a_terminal_that_hangs_up_at_the_question(world: World) -> None:
    """End of input at the question is no yes."""
    done = world.opsctl("service", "scale", "api", "4", typed="\x04")
    plain(done, 7)
    assert world.service("api")["desiredCount"] == 2


def _everything_on_the_terminal() -> None:
    """Have the child's outputs on its terminal, as a person's shell has."""
    terminal = os.open("/dev/tty", os.O_RDWR)
    for number in (1, 2):
        os.dup2(terminal, number)


@pytest.mark.parametrize("ahead", ["y\n", "y", "y\ny\ny\n", "service/api\n"])
def test_what_was_typed_before_the_question_is_no_answer(world: World, ahead: str) -> None:
    done = world.opsctl("service", "scale", "api", "5", typed="n\n", ahead=ahead)
    plain(done, 4)
    assert world.service("api")["desiredCount"] == 2


def test_a_question_has_a_line_of_its_own(world: World) -> None:
    """What is drawn while a step is looked at goes away before a person is asked."""
    world.configure({table("channels"): ""})
    done = world.opsctl("notify", "slack", "--message", "look", "-y", typed="done\n", before=_everything_on_the_terminal)
    drawn = done.screen
    assert "checking" in drawn
    assert drawn[: drawn.index("Tell the team: look [done]: ")].endswith(("\r", "\n")), drawn
    assert runs(world)[0]["state"] == "changed"


def test_closed_standard_input_is_no_value(world: World) -> None:
    done = shell("$OPSCTL secrets rotate mail-key --value-from - -y <&-")
    assert done.returncode in (4, 7)
    said(done)


def test_verbose_tells_the_cause(world: World) -> None:
    env: dict[str, Any] = {"XDG_STATE_HOME": "/dev/null"}
    quiet, verbose = world.opsctl(*SCALE, env=env), world.opsctl("-v", *SCALE, env=env)
    assert "caused by" not in quiet.err
    assert "caused by" in verbose.err
    assert "Traceback" not in verbose.err
