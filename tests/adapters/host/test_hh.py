"""The files of `hh` and docker on a machine that is a folder of the test."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from terminal import until

from opsctl.adapters.host import docker
from opsctl.adapters.host import hh as adapter
from opsctl.adapters.host.docker import Docker
from opsctl.adapters.host.hh import HhClient
from opsctl.adapters.host.machine import Group, Machine
from opsctl.errors import Denied, DriftError, NotFound, ReadOnly, Refused
from opsctl.formats.json_edit import set_member, value_of
from opsctl.redaction import Secret, vault
from opsctl.sandbox import processes

OLD = "the-edge-secret-of-old"
NEW = 'new "quoted" \\ value'


def machine(root: Path, **given: Any) -> Machine:
    """A machine under a folder; who runs the tests works there."""
    for name in ("home", "etc", "root", "bin"):
        (root / name).mkdir(exist_ok=True)
    usual: dict[str, Any] = {
        "user": "jo",
        "uid": os.geteuid(),
        "groups": frozenset({100}),
        "docker_group": Group(999, frozenset()),
        "variables": {"PATH": os.environ["PATH"]},
        "home": root / "home",
        "etc": root / "etc",
        "root_home": root / "root",
        "programs": root / "bin",
        "socket": root / "docker.sock",
    }
    return Machine(**{**usual, **given})


def client(root: Path, *, writing: bool = True, **given: Any) -> HhClient:
    return HhClient(machine(root, **given), writing=writing)


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def config(edge_auth: str = OLD) -> str:
    return json.dumps({"code": "PAIR-1", "edge_auth": edge_auth}, indent=2) + "\n"


# Where hh looks.


def test_the_four_places_in_their_order(tmp_path: Path) -> None:
    variables = {"HH_CONFIG": str(tmp_path / "mine.json"), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    found = client(tmp_path, variables=variables).places()
    assert [place.name for place in found] == ["HH_CONFIG", "XDG", "user", "system"]
    paths = [str(place.path.relative_to(tmp_path)) for place in found]
    assert paths == ["mine.json", "xdg/hh/config.json", "home/.hh/config.json", "etc/hh/config.json"]


@pytest.mark.parametrize("there", [["XDG", "user", "system"], ["user", "system"], ["system"]])
def test_the_first_that_is_there_is_in_force(tmp_path: Path, there: list[str]) -> None:
    it = client(tmp_path, variables={"XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    assert it.in_force() is None
    for place in it.places():
        if place.name in there:
            write(place.path, config())
    chosen = it.in_force()
    assert chosen is not None
    assert chosen.name == there[0]


def test_hh_config_is_in_force_even_where_nothing_is(tmp_path: Path) -> None:
    it = client(tmp_path, variables={"HH_CONFIG": str(tmp_path / "none")})
    write(tmp_path / "home/.hh/config.json", config())
    chosen = it.in_force()
    assert chosen is not None
    assert chosen.name == "HH_CONFIG"


def test_a_look_tells_mode_owner_and_what_is_wrong(tmp_path: Path) -> None:
    it = client(tmp_path)
    place = it.place("user")
    assert it.read_state(place).exists is False
    for text, problem in {
        config(): "",
        '{"code": "x"}': "has no edge_auth",
        '{"edge_auth": 5}': "has an edge_auth that is not text",
        '{\n "edge_auth": }': "is not valid JSON for hh (line 2, column 15)",
        "[1]": "is not valid JSON for hh (it is not an object)",
    }.items():
        write(place.path, text, 0o640)
        found = it.read_state(place)
        assert (found.exists, found.mode, found.uid, found.problem) == (True, 0o640, os.geteuid(), problem)
        assert OLD not in repr(found)


def test_a_dangling_link_is_said(tmp_path: Path) -> None:
    it = client(tmp_path)
    place = it.place("user")
    place.path.parent.mkdir()
    place.path.symlink_to("/nowhere/config.json")
    assert it.read_state(place).problem == "is a link to /nowhere/config.json, which does not exist"


def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    it = client(tmp_path)
    place = it.place("user")
    place.path.parent.mkdir()
    os.mkfifo(place.path)
    assert "not a file" in it.read_state(place).problem


# The one field.


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"edge_auth":"a"}', '{"edge_auth":"b"}'),
        ('{\r\n\t"edge_auth" :  "a\\u0041\\"" ,\r\n\t"n": 2.50, "é": [1,{"edge_auth":"x"}]}\r\n', None),
        ("{}", '{"edge_auth": "b"}'),
        ('{ "a" : 1 }', '{ "a" : 1, "edge_auth" : "b" }'),
        ('{"a":1,"c":2}', '{"a":1,"c":2,"edge_auth":"b"}'),
        ('{\n  "a": 1\n}\n', '{\n  "a": 1,\n  "edge_auth": "b"\n}\n'),
        ('{\n  "a": 1,\n  "edge_auth": null\n}', '{\n  "a": 1,\n  "edge_auth": "b"\n}'),
    ],
)
def test_one_member_is_replaced_and_every_other_byte_stays(text: str, wanted: str | None) -> None:
    found = set_member(text, "edge_auth", "b")
    assert found == (wanted or text.replace('"a\\u0041\\""', '"b"'))
    assert json.loads(found) == {**json.loads(text), "edge_auth": "b"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a":1} x', "\ufeff{}", '{"a": NaN}', '{"edge_auth":1,"edge_auth":2}', '{"a":' + "[" * 100_000]
)
def test_what_is_no_such_object_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        value_of(text, "edge_auth")
    assert len(str(raised.value)) < 60


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o640])
def test_a_rewrite_keeps_mode_owner_and_bytes(tmp_path: Path, mode: int) -> None:
    it = client(tmp_path)
    path = write(it.place("user").path, config(), mode)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    before = path.stat()
    it.set_edge_auth(it.read(path), Secret(NEW), "run-1")
    after = path.stat()
    assert path.read_text() == config().replace(json.dumps(OLD), json.dumps(NEW))
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino, "the old file is still being written to"
    assert [p.name for p in path.parent.iterdir()] == ["config.json"]


@pytest.mark.parametrize(("mode", "kept"), [(0o600, False), (0o640, True)])
def test_a_group_is_let_go_only_where_it_has_no_rights(tmp_path: Path, mode: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    it = client(tmp_path)
    path = write(it.place("user").path, config(), mode)
    seen = it.read(path)
    fields = {n: getattr(seen.info, n) for n in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_mode", "st_uid", "st_gid")}
    other = SimpleNamespace(**{**fields, "st_gid": fields["st_gid"] + 1})
    monkeypatch.setattr(os, "fchown", lambda *args: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
    monkeypatch.setattr(adapter, "_stamp", lambda info: ())
    rewrite = lambda: it.set_edge_auth(msgspec.structs.replace(seen, info=other), Secret(NEW), "run-1")  # noqa: E731
    if kept:
        with pytest.raises(Denied, match="can't be preserved"):
            rewrite()
    else:
        rewrite()
    assert (path.read_text() == config()) is kept
    assert [p.name for p in path.parent.iterdir()] == ["config.json"]


def test_what_a_killed_attempt_left_is_taken_away_by_the_next(tmp_path: Path) -> None:
    it = client(tmp_path)
    path = write(it.place("user").path, config())
    write(path.parent / ".config.json.opsctl-run-1", '{"edge_auth": "half')
    it.set_edge_auth(it.read(path), Secret(NEW), "run-1")
    assert [p.name for p in path.parent.iterdir()] == ["config.json"]


def test_a_file_that_somebody_wrote_meanwhile_is_theirs(tmp_path: Path) -> None:
    it = client(tmp_path)
    path = write(it.place("user").path, config())
    seen = it.read(path)
    write(path, config("theirs-alone"))
    with pytest.raises(DriftError):
        it.set_edge_auth(seen, Secret(NEW), "run-1")
    assert path.read_text() == config("theirs-alone")
    assert [p.name for p in path.parent.iterdir()] == ["config.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = client(tmp_path)
    path = write(it.place("user").path, config())

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="No space left"):
        it.set_edge_auth(it.read(path), Secret(NEW), "run-1")
    assert path.read_text() == config()
    assert [p.name for p in path.parent.iterdir()] == ["config.json"]


def test_a_reading_client_writes_nothing(tmp_path: Path) -> None:
    it = client(tmp_path, writing=False)
    path = write(it.place("user").path, config())
    with pytest.raises(ReadOnly):
        it.set_edge_auth(it.read(path), Secret(NEW), "run-1")
    assert path.read_text() == config()


# What is refused.


def test_a_missing_file_says_hh_login(tmp_path: Path) -> None:
    it = client(tmp_path)
    for mode, line in {"user": "hh login --code", "system": "hh login --system"}.items():
        with pytest.raises(NotFound) as raised:
            it.read(it.place(mode).path)  # type: ignore[arg-type]
        assert line in raised.value.next


def test_a_link_is_refused_and_says_where_to(tmp_path: Path) -> None:
    it = client(tmp_path)
    real = write(tmp_path / "dotfiles" / "hh.json", config())
    path = it.place("user").path
    path.parent.mkdir()
    path.symlink_to(real)
    with pytest.raises(Refused, match=f"is a link to {real}") as raised:
        it.read(path)
    assert f"HH_CONFIG={real}" in raised.value.next
    assert it.read_state(it.place("user")).link == str(real)


def test_another_users_file_is_refused_but_for_root(tmp_path: Path) -> None:
    path = write(client(tmp_path).place("user").path, config())
    other = os.geteuid() + 4321
    with pytest.raises(Refused, match=r"belongs to .*, not to jo"):
        client(tmp_path, uid=other).read(path)
    assert client(tmp_path, uid=0).read(path).edge_auth == Secret(OLD)


def test_a_folder_that_cannot_be_written_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = client(tmp_path)
    path = write(it.place("user").path, config())
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(Denied, match="can't be written"):
        it.read(path)


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    it = client(tmp_path)
    path = write(tmp_path / "home/.hh/config.json", '{"edge_auth": "\\ud800abc"}')
    with pytest.raises(Refused, match="has an edge_auth that is not text"):
        it.read(path)
    assert "is not text" in it.read_state(it.place("user")).problem
    write(path, '{"edge_auth": "the-edge-secret", "token": "\\ud800abcdef"}')
    assert it.read(path).edge_auth == Secret("the-edge-secret")


def test_what_is_not_json_is_refused_by_its_place(tmp_path: Path) -> None:
    it = client(tmp_path)
    for text in (b'{"edge_auth": "s3cr3t-value", }', b'{"edge_auth": "\xff"}'):
        path = write(it.place("user").path, text)
        with pytest.raises(Refused, match="is not valid JSON") as raised:
            it.read(path)
        assert "s3cr3t" not in str(raised.value)


# Docker.


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"uid": 0}, "root"),
        ({"uid": 5, "docker_group": None}, "no group"),
        ({"uid": 5, "groups": frozenset({999})}, "member"),
        ({"uid": 5, "docker_group": Group(999, frozenset({"jo"}))}, "after login"),
        ({"uid": 5}, "outsider"),
    ],
)
def test_who_may_use_docker(tmp_path: Path, given: dict[str, Any], wanted: str) -> None:
    assert Docker(machine(tmp_path, **given)).membership() == wanted


def test_the_socket_is_tried(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    # A unix socket's path has 107 bytes at most.
    monkeypatch.chdir(tmp_path_factory.mktemp("s"))
    it = Docker(machine(Path.cwd(), socket=Path("docker.sock")))
    assert it.unreachable_reason() == "does not exist"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("docker.sock")
        assert "docker doesn't answer" in it.unreachable_reason()
        server.listen()
        assert it.unreachable_reason() == ""


@pytest.mark.parametrize(
    ("text", "registries", "problem"),
    [
        ('{"credHelpers": {"ghcr.io": "hh", "other.io": "ecr"}}', ("ghcr.io",), ""),
        ('{"credsStore": "hh"}', ("ghcr.io",), ""),
        ('{"credsStore": "desktop", "credHelpers": []}', (), "doesn't contain"),
        ("[]", (), "doesn't contain"),
        ("{", (), "is not JSON"),
        (None, (), "does not exist"),
    ],
)
def test_whom_docker_asks(tmp_path: Path, text: str | None, registries: tuple[str, ...], problem: str) -> None:
    it = Docker(machine(tmp_path))
    for mode, folder in {"user": "home", "system": "root"}.items():
        if text is not None:
            write(tmp_path / folder / ".docker/config.json", text)
        found = it.config(mode)  # type: ignore[arg-type]
        assert found.registries == registries
        assert problem in found.problem
        assert bool(problem) == bool(found.problem)


def helper(root: Path, script: str, mode: int = 0o755) -> Docker:
    it = Docker(machine(root, variables={"PATH": os.environ["PATH"], "HOME": "/h", "NEW_EDGE": "canary"}), deadline=10)
    write(root / "bin/docker-credential-hh", f"#!/bin/sh\n{script}\n", mode)
    return it


def test_the_helper_is_looked_at_before_it_is_run(tmp_path: Path) -> None:
    assert "not installed" in Docker(machine(tmp_path)).helper().problem
    assert helper(tmp_path, "").helper().problem == ""
    assert "can be changed by other users" in helper(tmp_path, "", 0o775).helper().problem
    path = tmp_path / "bin/docker-credential-hh"
    path.unlink()
    path.mkdir()
    assert "is not a file" in Docker(machine(tmp_path)).helper().problem


def test_the_helper_is_spoken_to_by_its_protocol(tmp_path: Path) -> None:
    it = helper(
        tmp_path,
        f"""cat > {tmp_path}/asked; env > {tmp_path}/env; echo "$@" > {tmp_path}/args
echo '{{"ServerURL":"ghcr.io","Username":"hh-partner","Secret":"ghp_verysecret"}}'""",
    )
    answer = it.ask("ghcr.io", tmp_path / "etc/hh/config.json")
    assert (answer.ok, answer.told) == (True, "returns a login for ghcr.io")
    assert (tmp_path / "asked").read_text() == "ghcr.io"
    assert (tmp_path / "args").read_text() == "get\n"
    given = (tmp_path / "env").read_text()
    assert f"HH_CONFIG={tmp_path}/etc/hh/config.json" in given
    assert "NEW_EDGE" not in given
    assert vault.hide("ghp_verysecret") == "[secret]"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'credentials not found in native keychain'; exit 1", "refused (exit 1): credentials not found in native keychain"),
        ('echo \'{"Username":"u","Secret":"ghp_leaked"}\'; exit 1', "refused (exit 1)"),
        ("echo nonsense-that-may-be-secret", "returned no login (Username and Secret); its output isn't shown"),
        ('echo \'{"Username":"u","Secret":""}\'', "returned no login (Username and Secret); its output isn't shown"),
        ("exit 3", "refused (exit 3)"),
    ],
)
def test_what_the_helper_answers_instead(tmp_path: Path, script: str, told: str) -> None:
    answer = helper(tmp_path, script).ask("ghcr.io")
    assert (answer.ok, answer.told) == (False, told)


def test_a_helper_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    helper(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    it = Docker(machine(tmp_path), deadline=0.5)
    assert it.ask("ghcr.io").told == "did not answer in 0.5 s"
    child = int((tmp_path / "child").read_text())
    # Whoever was killed may still be on the way out.
    until(lambda: processes.start_time(child) is None)


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    it = helper(tmp_path, "")
    path = write(tmp_path / "bin/docker-credential-hh", "no program", 0o755)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert "can't be run" in it.ask(docker.REGISTRY).told
