"""A file of the current folder says nothing before a person has trusted it, and a file that others may write never does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Result, Terminal

from opsctl import config, trust
from opsctl.errors import ConfigurationError, Refused

AWS = '[aws]\naccount = "123456789012"\nregion = "us-east-1"\n'
OURS, THEIRS = f'title = "ours"\n{AWS}', f'title = "theirs"\n{AWS}'
SANDBOX = f'sandbox = true\nprotected = false\n{THEIRS}endpoint = "http://127.0.0.1:1"\naccess-key-id = "a"\nsecret-access-key = "b"\n'
PLAYBOOK = "title: A drill\nsteps:\n  - ask: Out\n"


@pytest.fixture
def place(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that somebody else made, in which a person now stands; the user has files of their own."""
    monkeypatch.delenv("OPSCTL_ENV")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    made = machine / "download"
    (made / "config").mkdir(parents=True)
    (made / "playbooks").mkdir()
    monkeypatch.chdir(made)
    world = machine / "world"
    world.mkdir()
    (world / "world.json").write_text(json.dumps({"ready": True, "facts": {"x": "y"}}))
    monkeypatch.setenv("OPSCTL_SANDBOX", str(world))
    return made


@pytest.fixture
def home(machine: Path) -> Path:
    made = machine / ".config" / "opsctl"
    made.mkdir(parents=True)
    return made


def title(name: str) -> str:
    return config.load(name).settings.title


def agree() -> None:
    config.trusted().add(Path("config"), trust.content(Path("config")))


def test_the_users_own_file_comes_first(place: Path, home: Path) -> None:
    (place / "config" / "prod.toml").write_text(THEIRS)
    (home / "prod.toml").write_text(OURS)
    assert title("prod") == "ours"


@pytest.mark.parametrize("name", ["prod", "staging", "elsewhere"])
def test_a_file_of_the_current_folder_is_refused_and_so_is_what_is_shipped_in_its_place(place: Path, name: str) -> None:
    (place / "config" / f"{name}.toml").write_text(THEIRS)
    with pytest.raises(Refused, match="not trusted") as refused:
        config.load(name)
    assert "opsctl config trust" in refused.value.next


def test_a_trusted_folder_comes_first(place: Path, home: Path) -> None:
    (place / "config" / "prod.toml").write_text(THEIRS)
    (home / "prod.toml").write_text(OURS)
    agree()
    assert title("prod") == "theirs"


Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {
    "edited": lambda folder: (folder / "prod.toml").write_text(THEIRS + "\n"),
    "another added": lambda folder: (folder / "other.toml").write_text(THEIRS),
    "another removed": lambda folder: (folder / "staging.toml").unlink(),
    "one deep inside edited": lambda folder: (folder / "queries" / "q.txt").write_text("changed"),
    "renamed": lambda folder: (folder / "staging.toml").rename(folder / "stagin.toml"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_has_changed_is_trusted_no_more(place: Path, change: str) -> None:
    folder = place / "config"
    (folder / "queries").mkdir()
    (folder / "queries" / "q.txt").write_text("as it was")
    for name in ("prod", "staging"):
        (folder / f"{name}.toml").write_text(THEIRS)
    agree()
    assert title("prod") == "theirs"
    CHANGES[change](folder)
    with pytest.raises(Refused, match="not trusted in its present state"):
        config.load("prod")
    agree()
    assert title("prod") == "theirs"


def test_another_folder_with_the_same_content_is_another(place: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "config" / "prod.toml").write_text(THEIRS)
    agree()
    (machine / "copy" / "config").mkdir(parents=True)
    (machine / "copy" / "config" / "prod.toml").write_text(THEIRS)
    monkeypatch.chdir(machine / "copy")
    with pytest.raises(Refused):
        config.load("prod")


@pytest.mark.parametrize("odd", ["link", "linked folder", "pipe"])
def test_a_folder_with_more_than_plain_files_can_not_be_trusted(place: Path, machine: Path, odd: str) -> None:
    (machine / "secret").write_text("x")
    if odd == "link":
        (place / "config" / "a").symlink_to(machine / "secret")
    elif odd == "linked folder":
        (place / "config" / "a").symlink_to(machine, target_is_directory=True)
    else:
        os.mkfifo(place / "config" / "a")
    with pytest.raises(ConfigurationError, match="can't be trusted"):
        agree()


def test_a_sandbox_of_the_current_folder_counts_and_reads_no_credential_of_the_user(place: Path) -> None:
    file = place / "config" / "drill.toml"
    file.write_text(SANDBOX)
    assert title("drill") == "theirs"
    for reference in ('{ file = "/etc/shadow" }', '{ env = "AWS_SECRET_ACCESS_KEY" }'):
        for table in (
            f'[api]\nbase = "http://127.0.0.1:1"\ntoken = {reference}\n',
            f"[channels]\nslack = {reference}\n",
            f'[api]\nbase = "http://127.0.0.1:1"\ntoken = {{ aws = "x" }}\n[api.login]\nemail = {reference}\npassword = {{ aws = "x" }}\n',
            f'[secrets.x]\nid = "x"\nstore-in = {reference}\n',
        ):
            file.write_text(SANDBOX + table)
            with pytest.raises(Refused, match="may not use it"):
                config.load("drill")
    agree()
    assert title("drill") == "theirs"


def test_a_sandbox_of_the_current_folder_takes_no_environments_name_of_the_user(place: Path, home: Path) -> None:
    (place / "config" / "prod.toml").write_text(SANDBOX)
    (home / "prod.toml").write_text(OURS)
    assert title("prod") == "ours"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664])
@pytest.mark.parametrize("where", ["own", "named"])
def test_a_file_that_others_may_write_is_refused(place: Path, home: Path, mode: int, where: str) -> None:
    (home / "prod.toml").write_text(OURS)
    (home / "prod.toml").chmod(mode)
    with pytest.raises(Refused, match="Other users may write") as refused:
        config.load("prod", str(home) if where == "named" else None)
    assert refused.value.next == f"chmod go-w {home / 'prod.toml'}"
    (home / "prod.toml").chmod(0o644)
    assert title("prod") == "ours"
    home.chmod(0o777)
    with pytest.raises(Refused, match="Other users may write"):
        config.load("prod")


@pytest.mark.parametrize("way", ["above", "target", "hop"])
def test_who_may_replace_the_file_is_looked_for_on_the_whole_way_to_it(place: Path, home: Path, way: str) -> None:
    shared = place / "shared"
    (shared / "inner").mkdir(parents=True)
    (shared / "inner" / "prod.toml").write_text(OURS)
    if way == "above":
        home.rmdir()
        home.symlink_to(shared / "inner")
    elif way == "target":
        (home / "prod.toml").symlink_to(Path("../../download/shared/inner/prod.toml"))
    else:
        (place / "own.toml").write_text(OURS)
        (shared / "hop").symlink_to("../own.toml")
        (home / "prod.toml").symlink_to(shared / "hop")
    assert title("prod") == "ours"
    shared.chmod(0o777)
    with pytest.raises(Refused, match=r"Other users may write .*shared,") as refused:
        config.load("prod")
    assert Path(refused.value.next.removeprefix("chmod go-w ")).samefile(shared)
    # As in /tmp, nobody can rename what is another's.
    shared.chmod(0o1777)
    assert title("prod") == "ours"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_link_of_another_user_is_refused(place: Path, home: Path) -> None:
    (place / "own.toml").write_text(OURS)
    (home / "prod.toml").symlink_to(place / "own.toml")
    os.chown(home / "prod.toml", 65534, 65534, follow_symlinks=False)
    with pytest.raises(Refused, match="belongs to"):
        config.load("prod")


def test_a_sandbox_that_others_may_write_reads_no_credential_of_the_user(place: Path, home: Path) -> None:
    (home / "drill.toml").write_text(SANDBOX)
    (home / "drill.toml").chmod(0o666)
    assert title("drill") == "theirs"
    (home / "drill.toml").write_text(SANDBOX + '[channels]\nslack = { file = "/etc/shadow" }\n')
    with pytest.raises(Refused, match="may not use it"):
        config.load("drill")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(place: Path, home: Path) -> None:
    (home / "prod.toml").write_text(OURS)
    os.chown(home / "prod.toml", 65534, 65534)
    with pytest.raises(Refused, match="belongs to"):
        config.load("prod")


def test_what_is_trusted_is_kept_for_this_user_alone(place: Path, machine: Path) -> None:
    (place / "config" / "prod.toml").write_text(THEIRS)
    agree()
    store = machine / "state" / "opsctl" / "trusted.json"
    assert store.stat().st_mode & 0o777 == 0o600
    store.chmod(0o666)
    with pytest.raises(ConfigurationError, match=r"trusted\.json can't be used"):
        config.load("prod")
    store.chmod(0o600)
    store.write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        config.load("prod")


def test_the_command_trusts_and_which_tells(place: Path, home: Path, opsctl: Terminal) -> None:
    (place / "config" / "prod.toml").write_text(THEIRS)
    (place / "playbooks" / "token-compromise.yaml").write_text(PLAYBOOK)
    (home / "staging.toml").write_text(OURS)

    def which() -> dict[str, dict[str, str]]:
        return {row["environment"]: row for row in opsctl("-o", "json", "config", "which", check=0).json}

    assert "not trusted" in which()["prod"]["state"]
    assert which()["staging"]["file"] == str(home / "staging.toml")
    rows = opsctl("-o", "json", "config", "trust", check=0).json
    assert {row["file"] for row in rows} == {"prod.toml", "token-compromise.yaml"}
    assert which()["prod"] == {"environment": "prod", "file": "config/prod.toml", "state": "ok"}


def test_a_view_and_its_error_name_the_file(place: Path, home: Path, opsctl: Terminal) -> None:
    (home / "prod.toml").write_text(OURS)
    assert f"in prod, configured by {home / 'prod.toml'}" in opsctl("-e", "prod", "people", check=0).err
    failed: Result = opsctl("-e", "prod", "service", "scale", "nobody", "3")
    assert f"configured by {home / 'prod.toml'}" in failed.err
    viewed = opsctl("-e", "prod", "database", "connections")
    assert viewed.code
    assert viewed.err.count("configured by") == 1
    assert opsctl("-e", "prod", "-o", "json", "people", check=0).err == ""


def test_a_playbook_of_the_current_folder_shadows_none(place: Path, opsctl: Terminal) -> None:
    (place / "playbooks" / "token-compromise.yaml").write_text(PLAYBOOK)
    (place / "playbooks" / "drill.yaml").write_text(PLAYBOOK)
    shown = opsctl("playbook", "show", "token-compromise", check=0).out
    assert f"playbook {config.shipped('playbooks') / 'token-compromise.yaml'}" in shown
    files = {row["name"]: row for row in opsctl("-o", "json", "playbook", "list", check=0).json}
    assert not files["drill"]["trusted"]
    assert files["token-compromise"]["trusted"]
    opsctl("config", "trust", check=0)
    assert "playbook playbooks/token-compromise.yaml" in opsctl("playbook", "show", "token-compromise", check=0).out
    (place / "playbooks" / "drill.yaml").write_text(PLAYBOOK + "\n")
    assert str(config.shipped("playbooks")) in opsctl("playbook", "show", "token-compromise", check=0).out


def test_a_playbook_of_the_current_folder_runs_in_a_sandbox_alone(place: Path, home: Path, opsctl: Terminal) -> None:
    (place / "playbooks" / "drill.yaml").write_text(PLAYBOOK)
    (home / "prod.toml").write_text(OURS)
    refused = opsctl("-e", "prod", "playbook", "run", "drill", "-n", check=4)
    assert "opsctl config trust" in refused.err
    assert "playbooks/drill.yaml" in refused.err
