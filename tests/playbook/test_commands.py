from pathlib import Path

import msgspec
import pytest

from opsctl.cli import app as cli
from opsctl.playbook.format import format_checklist
from opsctl.playbook.loader import load
from opsctl.playbook.schema import json_schema
from opsctl.render import out

GOOD = "title: Fire drill\nabout: Leave the house.\nparameters: {floor: {choices: ['1', '2'], default: '1', help: Which.}}\nsteps:\n"
STEPS = "  - ask: Leave floor {floor}\n    section: Way out\n    mark: 0-5 min\n    within: 5m\n    items: [Doors]\n    note: Walk.\n"
RUN = "  - run: logout user '{floor}'\n    when: {floor: '2'}\n  - verify: auth verify\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("OPSCTL_ENV", raising=False)
    there = tmp_path / "playbooks"
    there.mkdir()
    (there / "fire.yaml").write_text(GOOD + STEPS + RUN)
    return there


def test_list_needs_no_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-o", "json", "playbook", "list"]) == 0
    rows = {row["name"]: row for row in msgspec.json.decode(capsys.readouterr().out)}
    assert (rows["fire"]["title"], rows["fire"]["steps"], rows["fire"]["questions"], rows["fire"]["state"]) == ("Fire drill", 3, 1, "ok")
    assert "token-compromise" in rows


def test_a_broken_playbook_is_listed_as_broken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "water.yaml").write_text("title: t\nsteps:\n  - run: nosuch\n")
    assert cli.run(["playbook", "list"]) == 0
    assert "opsctl playbook lint water" in capsys.readouterr().out


def test_show_is_the_checklist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["playbook", "show", "fire", "-v"]) == 0
    shown = capsys.readouterr().out
    for part in ("Fire drill", "Leave the house.", "floor=1|2 (default 1)  Which.", "Way out · 0-5 min", "within 5m", "[ ] Doors", "Walk."):
        assert part in shown
    for part in ("[ ] Leave floor {floor}", "run    logout user '{floor}'", "when floor is 2", "verify auth verify"):
        assert part in shown


def test_notes_are_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["playbook", "show", "fire"]) == 0
    shown = capsys.readouterr().out
    assert "Walk." not in shown
    assert "[ ] Doors" in shown
    assert "opsctl playbook show fire -v" in shown


@pytest.mark.parametrize("notes", [False, True])
@pytest.mark.parametrize("name", ["token-compromise", "ddos", "database-failover"])
def test_a_checklist_fits_sixty_columns(name: str, notes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(name)
    text = format_checklist(loaded, 60, notes=notes).replace(str(loaded.path), "FILE")
    assert [line for line in out.clean(text).splitlines() if len(line) > 60 and len(line.split()) > 1 and "-v" not in line] == []


def test_show_leaves_the_placeholders_of_an_expectation(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["playbook", "show", "slow-database"]) == 0
    assert "ms < {ms}" in capsys.readouterr().out


def test_show_as_json_is_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-o", "json", "playbook", "show", "fire"]) == 0
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert (shown["name"], len(shown["digest"]), [len(s) > 0 for s in shown["steps"]]) == ("fire", 64, [True] * 3)


def test_lint_tells_every_problem_and_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["playbook", "lint", "fire"]) == 0
    (folder / "water.yaml").write_text("title: t\nsteps:\n  - run: nosuch\n  - ask: q\n    when: {weather: fine}\n")
    (folder / "wind.yaml").write_text("title: [\n")
    assert cli.run(["playbook", "lint"]) == 1
    shown = capsys.readouterr().out
    for place in ("playbooks/water.yaml:3", "playbooks/water.yaml:4", "playbooks/wind.yaml:"):
        assert place in shown
    assert cli.run(["playbook", "lint", "fire"]) == 0
    assert cli.run(["playbook", "lint", "earth"]) == 2


def test_lint_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["playbook", "lint", "--schema"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == json_schema()


def test_running_wants_an_environment_a_known_name_and_known_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["earth"], ["fire"], ["fire", "floor=3"], ["fire", "--save", "x", "-n"]):
        assert cli.run(["playbook", "run", *words]) == 2, words
    told = capsys.readouterr().err
    for part in ("no playbook 'earth'", "No environment was given", "floor is one of 1, 2", "no plan to save"):
        assert part in told
