"""`opsctl downloads`: one contact or a file of them, in good files and bad ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from customers import DISABLED, FIRST, ONE, TWO, refusal, told
from world import World

from opsctl.adapters.hubspot.contacts import HubSpot
from opsctl.adapters.hubspot.records import BatchUpdateResult

THREE = str(FIRST + 3)


def write(world: World, text: str) -> str:
    path = world.home / "contacts.txt"
    path.write_text(text)
    return str(path)


def test_show_tells_who_decided_and_never_the_token(world: World) -> None:
    done = world.opsctl("-o", "json", "downloads", "show", "CONTACT1@example.com", check=0)
    shown = done.json
    assert (shown["contact"], shown["email"], shown["download_enabled"], shown["by"]) == (ONE, "contact1@example.com", "true", "IMPORT")
    assert re.fullmatch(r"[0-9a-f]{6}-[0-9a-f]{12}", shown["token"]), "a key's id, and a fingerprint by that key"
    assert world.contact(ONE)["download_token"] not in done.out
    assert told(world, "downloads", "show", DISABLED)["token"] == "none"


def test_disabled_and_enabled_again_with_what_was_before(world: World) -> None:
    dry = world.opsctl("downloads", "disable", ONE, "-n", check=3)
    assert "true -> false" in dry.out
    changed = told(world, "downloads", "disable", ONE, DISABLED, "-y")
    assert changed["changes"][0]["impact"] == {"count": 1, "unit": "contacts"}
    assert changed["changes"][0]["evidence"] == {"updated": 1}
    assert world.contact(ONE)["download_enabled"] == "false"
    assert told(world, "downloads", "show", ONE)["by"] == "INTEGRATION"
    assert told(world, "downloads", "disable", ONE, "-y")["result"] == "unchanged"
    told(world, "runs", "undo", changed["run"], "-y")
    assert world.contact(ONE)["download_enabled"] == "true"
    assert world.contact(DISABLED)["download_enabled"] == "false"
    assert told(world, "downloads", "enable", DISABLED, "-y")["result"] == "changed"


def test_one_contact_named_twice_is_one(world: World) -> None:
    file = write(world, f"\ufeffName,Record ID\nAnn,{ONE}\n\nBob,contact1@example.com\n")
    shown = told(world, "downloads", "disable", ONE, "Contact1@Example.com", "--from-file", file, "-y")
    assert [(c["target"], c["impact"]["count"]) for c in shown["changes"]] == [(f"contact/{ONE}", 1)]


@pytest.mark.parametrize(("named", "said"), [("nobody@example.com", "nobody@example.com"), ("4711", "4711")])
def test_a_contact_that_is_not_there_is_named_and_nothing_is_changed(world: World, named: str, said: str) -> None:
    before = world.snapshot(sessions=False)
    assert f"no contact {said}" in refusal(world.opsctl("downloads", "disable", named, DISABLED, ONE, "-y"), 1)
    assert world.snapshot(sessions=False) == before
    shown = told(world, "downloads", "disable", named, ONE, "--skip-missing", "-y")
    assert shown["changes"][0]["target"] == f"contact/{ONE}"


def test_many_small_changes_are_large_together(world: World) -> None:
    on = [id for id, (enabled, *_) in world.contacts().items() if enabled == "true"]
    world.configure({"protected = false": "protected = true", "large = 1_000": "large = 120"})
    some, many = write(world, "\n".join(on[:110])), ["downloads", "disable", *on[:150], "-y"]
    waiting = world.opsctl(*many, check=7)
    assert "--confirm contacts/" in " ".join(waiting.err.split())
    assert {change["impact"]["count"] for change in told(world, *many[:-1], "-n", code=3)["changes"]} == {50, 100}
    assert told(world, "downloads", "disable", "--from-file", some, "-y")["result"] == "changed"


def test_nobody_left_is_refused(world: World) -> None:
    assert "no contact" in refusal(world.opsctl("downloads", "disable", "4711", "-y"), 1)
    assert "None of the contacts" in refusal(world.opsctl("downloads", "disable", "4711", "nobody@example.com", "--skip-missing", "-y"), 2)
    assert world.opsctl("downloads", "disable").code == 2


@pytest.mark.parametrize(
    ("text", "said"), [("", "contains no contact"), ("\n\n# nobody\n", "contains no contact"), (f"{ONE}\nbroken\n{TWO}\n", "in line 2.")]
)
def test_a_file_that_is_no_list_changes_nothing(world: World, text: str, said: str) -> None:
    assert said in refusal(world.opsctl("downloads", "disable", "--from-file", write(world, text), "-y"), 2)
    assert world.contact(ONE)["download_enabled"] == "true"


def test_a_token_without_the_scope_is_told_which(world: World) -> None:
    world.configure({'token = { aws = "/hh/prod/hubspot/token", key = "token", region = "us-west-2" }': 'token = { env = "READING" }'})
    env = {"READING": world.facts["hs_reading_token"]}
    done = world.opsctl("downloads", "disable", ONE, "-y", env=env)
    assert "crm.objects.contacts.write" in refusal(done, 1)
    assert "Grant crm.objects.contacts.write" in done.err
    assert world.facts["hs_reading_token"] not in done.out + done.err


def test_a_file_that_is_a_folder_or_missing_is_a_usage_error(world: World, tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "nowhere"):
        assert world.opsctl("downloads", "disable", "--from-file", str(name), "-y").code == 2


def refusing(monkeypatch: pytest.MonkeyPatch, refused: str, tell: Path) -> None:
    """HubSpot refuses one contact of a batch, and makes the rest; each id that is sent is written down."""
    whole = HubSpot.update

    def update(self: HubSpot, changes: Mapping[str, Mapping[str, str]]) -> BatchUpdateResult:
        with tell.open("a") as sent:
            sent.writelines(f"{id}\n" for id in changes)
        done, errors = whole(self, {id: values for id, values in changes.items() if id != refused})
        return BatchUpdateResult(done, {**errors, **({refused: "VALIDATION_ERROR: not now"} if refused in changes else {})})

    monkeypatch.setattr(HubSpot, "update", update)


def test_what_was_made_in_part_is_named_and_taken_back(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing(monkeypatch, TWO, tmp_path / "sent")
    done = world.opsctl("-o", "json", "downloads", "disable", ONE, TWO, THREE, "-y", check=1)
    (step,) = done.json["changes"]
    assert (done.json["result"], step["state"], step["evidence"]) == ("partial", "failed", {"parts": [ONE, THREE]})
    assert f"parts: {ONE}, {THREE}" in world.opsctl("runs", "show", done.json["run"], check=0).out
    undone = told(world, "runs", "undo", done.json["run"], "-y")
    assert (undone["result"], undone["changes"][0]["impact"]["count"]) == ("changed", 2)
    assert all(world.contact(id)["download_enabled"] == "true" for id in (ONE, TWO, THREE))


def test_what_was_refused_and_made_by_somebody_else_is_not_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusing(monkeypatch, TWO, tmp_path / "sent")
    run = world.opsctl("-o", "json", "downloads", "disable", ONE, TWO, THREE, "-y", check=1).json["run"]
    world.hubspot("PATCH", f"/{TWO}", {"properties": {"download_enabled": "false"}})
    told(world, "runs", "undo", run, "-y")
    assert [world.contact(id)["download_enabled"] for id in (ONE, TWO, THREE)] == ["true", "false", "true"]


def test_what_was_made_in_part_is_taken_up_without_a_repeated_change(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as first:
        refusing(first, TWO, tmp_path / "sent")
        run = world.opsctl("-o", "json", "downloads", "disable", ONE, TWO, THREE, "-y", check=1).json["run"]
    refusing(monkeypatch, "nobody", tmp_path / "sent")
    assert told(world, "runs", "resume", run)["result"] == "changed"
    assert (tmp_path / "sent").read_text().split() == [ONE, TWO, THREE, TWO]
    told(world, "runs", "undo", run, "-y")
    assert all(world.contact(id)["download_enabled"] == "true" for id in (ONE, TWO, THREE))


def test_one_that_somebody_else_decided_about_is_left_alone_and_stops_no_other(world: World) -> None:
    run = told(world, "downloads", "disable", ONE, TWO, DISABLED, "-y")["run"]
    for id, value in ((TWO, ""), (DISABLED, "true")):
        world.hubspot("PATCH", f"/{id}", {"properties": {"download_enabled": value}})
    undone = told(world, "runs", "undo", run, "-y")
    assert f"1 skipped, because somebody else changed, merged or deleted them: {TWO}" in undone["changes"][0]["why"]
    assert [world.contact(id)["download_enabled"] for id in (ONE, TWO, DISABLED)] == ["true", "", "true"]


def test_nothing_to_take_back_is_refused(world: World) -> None:
    run = told(world, "downloads", "disable", DISABLED, "-y")["run"]
    assert "Nothing of run" in refusal(world.opsctl("runs", "undo", run, "-y"), 4)
    run = told(world, "downloads", "disable", ONE, "-y")["run"]
    world.hubspot("PATCH", f"/{ONE}", {"properties": {"download_enabled": ""}})
    done = world.opsctl("runs", "undo", run, "-y")
    assert "Nothing of run" in refusal(done, 4)
    assert "was changed by somebody else since the plan" in done.err
    assert world.contact(ONE)["download_enabled"] == ""


@pytest.mark.parametrize(
    "line", ["downloads show", "downloads disable", "downloads enable", "pairing mint", "pairing revoke", "lease verify"]
)
@pytest.mark.parametrize("name", ["", " ", "no-such-name", "12 34", "\u0663\u0664", "a@b"])
def test_what_names_no_contact_is_a_usage_error_that_repeats_it(world: World, line: str, name: str) -> None:
    before = world.snapshot(sessions=False)
    done = world.opsctl(*line.split(), name, check=2)
    assert f"{name!r} is neither a record id nor an e-mail" in " ".join(done.err.split())
    assert "defect" not in done.err
    assert world.snapshot(sessions=False) == before


@pytest.mark.parametrize("name", [TWO, "contact2@example.com"])
def test_one_that_was_merged_away_is_the_contact_that_lives_on(world: World, name: str) -> None:
    world.control("POST", "/hubspot/merge", {"loser": TWO, "winner": ONE})
    shown = told(world, "downloads", "disable", DISABLED, name, "-y")
    assert sum(change["impact"]["count"] for change in shown["changes"]) == 1
    assert world.contact(ONE)["download_enabled"] == "false"
    again = told(world, "downloads", "disable", name, ONE, "-n")
    assert [change["target"] for change in again["changes"]] == [f"contact/{ONE}"]


def test_a_long_list_of_nobody_is_not_asked_for_one_by_one(world: World) -> None:
    asked = world.control("GET", "/hubspot/counts")["requests"]
    assert "and 145 more" in refusal(world.opsctl("downloads", "disable", *map(str, range(1, 151)), "-y"), 1)
    assert world.control("GET", "/hubspot/counts")["requests"] - asked < 10
