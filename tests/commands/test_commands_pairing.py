"""`opsctl pairing`: tokens minted and revoked once, and never shown."""

from __future__ import annotations

import pytest
from customers import DISABLED, ONE, TWO, refusal, steps, told
from world import World


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
