"""`opsctl client`, typed on a customer's machine: no AWS, no configuration, no environment."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import click
import pytest
from machines import OLD, built
from terminal import Terminal

from opsctl import fingerprints
from opsctl.adapters.host.hh import HhClient
from opsctl.adapters.host.machine import Group, Machine
from opsctl.adapters.host.secret_sources import SecretSources
from opsctl.commands import client as commands
from opsctl.render.shapes import Check

NEW = "the-new-edge-secret"


@pytest.fixture
def path(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration. The environment that the shell names has no world: it must not be asked for."""
    monkeypatch.delenv("HH_CONFIG", raising=False)
    monkeypatch.setenv("OPSCTL_CONFIG", str(machine / "no-such-folder"))
    found = machine / ".hh" / "config.json"
    found.parent.mkdir()
    found.write_text(json.dumps({"code": "PAIR-1234", "edge_auth": OLD}, indent=4))
    found.chmod(0o600)
    return found


def edge_auth(path: Path) -> str:
    found: str = json.loads(path.read_text())["edge_auth"]
    return found


def test_show_tells_everything_but_the_value(opsctl: Terminal, path: Path) -> None:
    shown = opsctl("-o", "json", "client", "show", check=0)
    user = next(row for row in shown.json if row["place"] == "user")
    assert (user["in force"], user["exists"], user["mode"], user["state"]) == (True, True, "0600", "ok")
    assert re.fullmatch(fingerprints.PATTERN, user["edge_auth"])
    assert OLD not in shown.out + shown.err
    assert OLD not in opsctl("-v", "client", "show", check=0).out


@pytest.mark.parametrize("name", [None, "prod", "sandbox", "no-such-environment"])
def test_it_needs_no_environment_whatever_the_shell_names(opsctl: Terminal, path: Path, name: str | None) -> None:
    env = {"OPSCTL_ENV": name or ""}
    done = opsctl("-o", "json", "client", "set-edge-auth", "--value-from", "-", "-y", input=f"{NEW}\n", env=env, check=0).json
    assert (done["environment"], done["result"]) == ("local", "changed")
    assert edge_auth(path) == NEW
    again = opsctl("-o", "json", "client", "set-edge-auth", "--value-from", "-", "-y", input=f"{NEW}\n", env=env, check=0).json
    assert again["result"] == "unchanged"
    runs = opsctl("-o", "json", "runs", "list", env=env, check=0).json
    assert {(run["environment"], run["state"]) for run in runs} == {("local", "changed"), ("local", "unchanged")}
    refused = opsctl("runs", "undo", done["run"], "-y", env=env, check=4)
    assert "doesn't store the former edge_auth" in refused.err
    assert opsctl("-o", "json", "runs", "resume", done["run"], env=env, check=0).json["result"] == "changed"


def test_the_plan_names_this_machine_and_its_user(opsctl: Terminal, path: Path) -> None:
    planned = opsctl("client", "set-edge-auth", "--value-from", "-", "-n", "--as-shell", input=NEW, check=3)
    assert f"in local, account -, as {os.popen('id -un').read().strip()}@" in planned.err
    assert "want NEW_EDGE_AUTH " in planned.out
    assert edge_auth(path) == OLD


def test_a_saved_plan_is_applied_where_it_was_made(opsctl: Terminal, path: Path, machine: Path) -> None:
    plan = str(machine / "plan.json")
    env = {"NEW_EDGE": NEW}
    opsctl("client", "set-edge-auth", "--value-from", "env:NEW_EDGE", "-n", "--save", plan, env=env, check=3)
    assert NEW not in Path(plan).read_text()
    opsctl("apply", plan, "-y", check=7)
    opsctl("apply", plan, "-y", env={"OPSCTL_ENV": "prod", **env}, check=0)
    assert edge_auth(path) == NEW


def test_an_environment_that_is_named_is_meant(opsctl: Terminal, path: Path) -> None:
    refused = opsctl("--env", "no-such", "client", "show")
    assert refused.code == 2
    assert "no-such" in refused.err


def test_what_needs_aws_says_so_on_this_machine(opsctl: Terminal, path: Path) -> None:
    refused = opsctl("--env", "local", "service", "metrics", "api")
    assert refused.code == 2
    assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    ("spoil", "code", "told", "next"),
    [
        (lambda path: path.write_text('{"edge_auth": "x",}'), 4, "is not valid JSON", "hh login"),
        (lambda path: path.unlink(), 1, "no configuration of hh", "hh login"),
        (lambda path: (path.rename(path.parent / "real"), path.symlink_to(path.parent / "real")), 4, "is a link to", "HH_CONFIG="),
    ],
)
def test_a_bad_file_is_one_clear_line(opsctl: Terminal, path: Path, spoil, code: int, told: str, next: str) -> None:
    spoil(path)
    if (path.parent / "real").exists():
        before = (path.parent / "real").read_bytes()
    for options in (["-y"], ["-n"]):
        refused = opsctl("client", "set-edge-auth", "--value-from", "-", *options, input=NEW, check=code)
        assert told in refused.err
        assert next in refused.err.split("next:")[1]
    if (path.parent / "real").exists():
        assert (path.parent / "real").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--value-from", NEW), 2),
        (("--value-from", "generate"), 2),
        (("--user", "--system", "--value-from", "-"), 2),
        ((), 2),
        (("--value-from", "-"), 4),
    ],
)
def test_a_bad_line_or_value_is_refused_without_repeating_it(opsctl: Terminal, path: Path, args: tuple[str, ...], code: int) -> None:
    refused = opsctl("client", "set-edge-auth", *args, "-y", input="two-lines-of\nsecret-text\n", check=code)
    assert NEW not in refused.err + refused.out
    assert "secret-text" not in refused.err + refused.out
    assert edge_auth(path) == OLD


def test_the_file_that_hh_config_names_is_the_one(opsctl: Terminal, path: Path, machine: Path) -> None:
    other = machine / "other.json"
    other.write_text('{"edge_auth":"x-x-x-x"}')
    other.chmod(0o644)
    opsctl("client", "set-edge-auth", "--value-from", "-", "-y", input=NEW, env={"HH_CONFIG": str(other)}, check=0)
    assert other.read_text() == f'{{"edge_auth":"{NEW}"}}'
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
    assert edge_auth(path) == OLD


class Here:
    """The systems of a machine that is a folder."""

    def __init__(self, machine: Machine) -> None:
        self.client = HhClient(machine, writing=False)
        self.values = SecretSources()


def diagnosed(machine: Machine, **options: object) -> dict[str, Check]:
    usual = {"user": False, "system": False, "registry": None, "without_helper": False}
    verdict = commands.doctor.callback(Here(machine), **{**usual, **options})  # type: ignore[misc]
    assert "ghp_never_shown" not in str(verdict)
    return {check.name.replace(str(machine.home.parent), ""): check for check in verdict.checks}


@pytest.mark.skipif(os.geteuid() != 0, reason="system mode is root's to look at")
def test_a_good_machine_is_told_so(tmp_path: Path) -> None:
    found = diagnosed(built(tmp_path))
    assert {name for name, check in found.items() if check.ok is False} == {"docker can be reached"}
    for name in ("the helper answers in user mode", "the helper answers in system mode", "/root/.docker/config.json names the helper hh"):
        assert found[name].ok, found[name]


def test_each_failing_check_says_the_next_line(tmp_path: Path) -> None:
    it = built(tmp_path, uid=os.geteuid() + 77, groups=frozenset(), docker_group=Group(999, frozenset()))
    (tmp_path / "bin/docker-credential-hh").chmod(0o775)
    (tmp_path / "home/.docker/config.json").unlink()
    found = diagnosed(it, user=True)
    wanted = {
        "/home/.hh/config.json is its owner's alone": "sudo chown jo",
        "jo is in the group docker": "sudo usermod -aG docker $USER && newgrp docker; or use system mode: hh login --system",
        "docker can be reached": "sudo systemctl start docker",
        "/home/.docker/config.json names the helper hh": '"credHelpers": {"ghcr.io": "hh"}',
        "/bin/docker-credential-hh can be run": "sudo chown root" if os.geteuid() else "sudo chmod 755",
    }
    for name, line in wanted.items():
        assert found[name].ok is False, name
        assert line in found[name].detail
    assert not any("answers" in name for name in found), "a program that others can change was run"


def test_what_only_root_sees_is_not_called_broken(tmp_path: Path) -> None:
    it = built(tmp_path, uid=os.geteuid() + 77)
    found = diagnosed(it, system=True)
    assert found["the helper answers in system mode"].ok is None if "the helper answers in system mode" in found else True


@pytest.mark.parametrize("text", ["{", '{"a": 1}', None])
def test_a_broken_configuration_is_named(tmp_path: Path, text: str | None) -> None:
    it = built(tmp_path)
    path = tmp_path / "home/.hh/config.json"
    path.unlink() if text is None else path.write_text(text)
    check = diagnosed(it, user=True, without_helper=True)["user mode's /home/.hh/config.json is good"]
    assert check.ok is False
    line = "opsctl client set-edge-auth --user" if text == '{"a": 1}' else "hh login --code"
    assert line in check.detail


def test_a_lease_is_only_taken_out_where_the_helper_may_be_asked(tmp_path: Path) -> None:
    it = built(tmp_path)
    (tmp_path / "bin/docker-credential-hh").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    found = diagnosed(it, user=True, without_helper=True)
    assert not (tmp_path / "ran").exists()
    assert not any("answers" in name for name in found)
    assert "no login" in diagnosed(it, user=True)["the helper answers in user mode"].detail


def test_every_option_is_explained() -> None:
    for command in commands.client.commands.values():
        assert all(p.help for p in command.params if isinstance(p, click.Option))
