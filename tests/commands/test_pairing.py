"""`opsctl pairing`: tokens minted and revoked once, and never shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from customers import DISABLED, ONE, TWO, refusal, steps, told
from world import World

from opsctl.adapters.aws.logs import LogLine, Logs


@pytest.mark.parametrize(("contact", "first"), [(ONE, "applied"), (DISABLED, "done")])
def test_minted_by_property_whether_the_request_was_on_or_off(world: World, contact: str, first: str) -> None:
    before = world.contact(contact)["download_token"]
    done = world.opsctl("-o", "json", "pairing", "mint", contact, "-y", check=0)
    off, minted = steps(done)
    after = world.contact(contact)["download_token"]
    assert (off["state"], minted["state"]) == (first, "applied")
    assert "minted_token was logged" in minted["why"]
    assert after not in ("", before)
    assert after not in done.out + done.err
    assert told(world, "pairing", "mint", contact, "-y")["result"] == "unchanged"
    assert world.contact(contact)["download_token"] == after


def test_minted_by_a_signed_event(world: World) -> None:
    before = world.contact(ONE)
    shown = told(world, "pairing", "mint", ONE, "--via", "webhook", "-y")
    assert [change["kind"] for change in shown["changes"]] == ["mint-token"]
    assert world.contact(ONE)["download_token"] != before["download_token"]


def test_a_signed_event_whose_answer_is_lost_mints_once(world: World) -> None:
    world.fault("hh", "POST /webhook", "timeout-after-effect")
    told(world, "pairing", "mint", ONE, "--via", "webhook", "-y")
    history = world.hubspot("GET", f"/{ONE}?propertiesWithHistory=download_token")["propertiesWithHistory"]["download_token"]
    assert len(history) == 2


def test_revoked_the_old_code_is_refused_and_another_is_there(world: World) -> None:
    before = world.contact(ONE)["download_token"]
    assert told(world, "pairing", "revoke", ONE, "-y")["result"] == "changed"
    assert world.contact(ONE)["download_token"] not in ("", before)
    refused = world.opsctl("lease", "verify", ONE, "--code-from", "env:OLD", "--expect", "403", "-y", env={"OLD": before}, check=0)
    assert "403 invalid-token" in refused.out
    assert before not in refused.out + refused.err


def test_only_the_pinned_token_is_revoked(world: World) -> None:
    pinned = told(world, "downloads", "show", ONE)["token"]
    told(world, "pairing", "mint", ONE, "-y")
    minted = world.contact(ONE)["download_token"]
    shown = told(world, "pairing", "revoke", ONE, "--if-token", pinned, "-y")
    assert shown["result"] == "unchanged"
    assert world.contact(ONE)["download_token"] == minted


@pytest.mark.parametrize("mint", [False, True], ids=["the leaked one", "another"])
def test_a_fingerprint_of_another_ledger_is_refused(world: World, mint: bool) -> None:
    """It differs from every fingerprint here, which proves nothing of the leaked token."""
    elsewhere = {"XDG_STATE_HOME": str(world.home / "elsewhere")}
    leaked = world.opsctl("-o", "json", "downloads", "show", ONE, env=elsewhere, check=0).json["token"]
    if mint:
        told(world, "pairing", "mint", ONE, "-y")
    before = world.contact(ONE)["download_token"]
    done = world.opsctl("pairing", "revoke", ONE, "--if-token", leaked, "-y", check=4)
    assert leaked in done.err
    assert "different keys" in " ".join(done.err.split())
    assert world.contact(ONE)["download_token"] == before


def test_a_saved_plan_of_another_ledger_is_refused(world: World) -> None:
    elsewhere, plan = {"XDG_STATE_HOME": str(world.home / "elsewhere")}, str(world.home / "plan.json")
    before = world.contact(ONE)["download_token"]
    world.opsctl("pairing", "revoke", ONE, "-n", "--save", plan, env=elsewhere, check=3)
    done = world.opsctl("apply", plan, "-y", check=4)
    assert "was signed with the key" in " ".join(done.err.split())
    assert world.contact(ONE)["download_token"] == before


@pytest.mark.parametrize("contact", [ONE, DISABLED])
def test_a_token_that_this_contact_never_had_is_not_told_as_gone(world: World, contact: str) -> None:
    theirs = told(world, "downloads", "show", TWO)["token"]
    done = world.opsctl("pairing", "revoke", contact, "--if-token", theirs, "-y", check=4)
    assert "not among the earlier tokens that HubSpot lists" in " ".join(done.err.split())


def test_one_without_a_token_is_let_be(world: World) -> None:
    assert told(world, "pairing", "revoke", DISABLED, "-y")["changes"][0]["why"] == "there is no token"


def test_a_contact_that_was_merged_away_is_the_one_that_lives_on(world: World) -> None:
    world.control("POST", "/hubspot/merge", {"loser": TWO, "winner": ONE})
    shown = told(world, "pairing", "mint", TWO, ONE, "-n", code=3)
    assert {change["target"] for change in shown["changes"]} == {f"contact/{ONE}", f"contact/{ONE}/request"}


@pytest.mark.parametrize("name", ["nobody@example.com", "4711"])
def test_a_contact_that_is_not_there(world: World, name: str) -> None:
    assert name in refusal(world.opsctl("pairing", "mint", name, "-y"), 1)


@pytest.mark.parametrize("given", ["", "xyz", "0123456789a", "0123456789ABC", "none"])
def test_what_is_no_fingerprint_is_refused_before_a_leaked_code_is_let_be(world: World, given: str) -> None:
    before = world.contact(ONE)["download_token"]
    done = world.opsctl("pairing", "revoke", ONE, "--if-token", given, "-y", check=2)
    assert "opsctl downloads show" in " ".join(done.err.split())
    assert world.contact(ONE)["download_token"] == before


def late(monkeypatch: pytest.MonkeyPatch, tell: Path, empty: int) -> None:
    """The webhook's newest line shows only once it was asked for so often; an older one always does."""
    real = Logs.recent

    def recent(self: Logs, *asked: Any, **more: Any) -> list[LogLine]:
        with tell.open("a") as asking:
            asking.write("asked\n")
        older = LogLine(datetime.now(UTC), "older", f"minted_token {ONE} a-former-token")
        return [older, *(real(self, *asked, **more) if len(tell.read_text().split()) > empty else [])]

    monkeypatch.setattr(Logs, "recent", recent)


@pytest.mark.parametrize("via", ["property", "webhook"])
def test_the_line_of_the_new_token_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, via: str) -> None:
    late(monkeypatch, tmp_path / "asked", empty=2)
    minted = told(world, "pairing", "mint", ONE, "--via", via, "-y")["changes"][-1]
    assert f"minted_token was logged {datetime.now(UTC):%Y-%m-}" in minted["why"]
    assert len((tmp_path / "asked").read_text().split()) == 3


def test_without_a_line_of_the_new_token_nothing_is_proven(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    late(monkeypatch, tmp_path / "asked", empty=1_000)
    done = world.opsctl("-o", "json", "pairing", "mint", ONE, "-y", "--timeout", "2s", check=6)
    assert done.json["changes"][-1]["state"] == "unknown"


def test_a_token_that_somebody_else_set_since_the_plan_leaves_the_request_on(world: World) -> None:
    told(world, "pairing", "mint", ONE, "-y")
    plan = str(world.home / "plan.json")
    world.opsctl("pairing", "mint", ONE, "--again", "-n", "--save", plan, check=3)
    world.hubspot("PATCH", f"/{ONE}", {"properties": {"download_token": "set-by-another-hand"}})
    shown = told(world, "apply", plan, "-y")
    assert shown["result"] == "unchanged"
    assert "somebody else changed it, and no token was requested" in shown["changes"][-1]["why"]
    held = world.contact(ONE)
    assert (held["download_requested"], held["download_token"]) == ("true", "set-by-another-hand")
