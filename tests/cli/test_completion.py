"""Completion: the words that a shell is offered, and the script in each shell that is installed."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from opsctl.cli import completion
from opsctl.cli.app import run
from opsctl.cli.context import AppContext


@pytest.fixture
def offered(monkeypatch, capsys, tmp_path):
    """A function that returns the words which bash is offered after a line."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("_OPSCTL_COMPLETE", "bash_complete")

    def ask(line, word=""):
        monkeypatch.setenv("COMP_WORDS", f"{line} {word}")
        monkeypatch.setenv("COMP_CWORD", str(len(line.split())))
        assert run([]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return [each.partition(",")[2] for each in printed.out.splitlines() if each]

    return ask


def test_groups_commands_and_options(offered):
    assert offered("opsctl", "se") == ["secrets", "service", "sessions"]
    assert offered("opsctl service", "sc") == ["scale"]
    assert "--dry-run" in offered("opsctl service scale", "--d")


def test_names_of_the_configuration(offered, monkeypatch):
    settings = SimpleNamespace(services={"api": 1, "worker": 2}, secrets={"jwt": 1}, alarms=["high-cpu"])
    monkeypatch.setattr(AppContext, "environment", SimpleNamespace(settings=settings))
    assert offered("opsctl --env prod service scale") == ["api", "worker"]
    assert offered("opsctl secrets rotate", "j") == ["jwt"]
    assert offered("opsctl alarms ack") == ["high-cpu"]


def test_nothing_is_offered_where_nothing_is_known(offered):
    assert offered("opsctl --env nowhere service scale") == []
    assert offered("opsctl runs show") == []


def test_a_name_that_a_shell_would_obey_is_not_offered(offered, monkeypatch):
    hostile = ["$(id)", "`id`", "a b", "a;b", "x*", "a\nb", "\x1b[2J", "--yes"]
    settings = SimpleNamespace(services=["api", *hostile], secrets=["jwt", *hostile], alarms=["high-cpu", *hostile])
    monkeypatch.setattr(AppContext, "environment", SimpleNamespace(settings=settings))
    assert offered("opsctl service scale") == ["api"]
    assert offered("opsctl alarms ack") == ["high-cpu"]


def test_a_damaged_ledger_leaves_the_line_alone(offered, tmp_path):
    (tmp_path / "opsctl").mkdir(mode=0o700)
    (tmp_path / "opsctl/ledger.db").write_bytes(b"no database" * 1_000)
    (tmp_path / "opsctl/ledger.db").chmod(0o600)
    assert offered("opsctl runs show") == []


@pytest.mark.parametrize("stray", ["bash_complete", "odd"])
def test_a_stray_variable_is_named(stray, monkeypatch, capsys):
    monkeypatch.setenv("_OPSCTL_COMPLETE", stray)
    assert run(["runs", "list"]) == 2
    assert "unset _OPSCTL_COMPLETE" in capsys.readouterr().err


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_script(shell, capsys):
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_OPSCTL_COMPLETE" in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, text=True, check=True, timeout=60)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_in_bash(tmp_path):
    typed = 'eval "$(opsctl completion bash)"; COMP_WORDS=(opsctl ser); COMP_CWORD=1; _opsctl_completion opsctl; echo "${COMPREPLY[@]}"'
    (tmp_path / "opsctl").write_text(f'#!/bin/sh\nexec {sys.executable} -c "from opsctl.main import main; main()" "$@"\n')
    (tmp_path / "opsctl").chmod(0o700)
    surroundings = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(["bash", "-c", typed], env=surroundings, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["service"], done.stderr
