"""Law 9: the impact is counted before, and bounded always. Where it matters the target is typed; `--yes` never skips a guard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scenario import Scenario
from scenarios import Rehearsed, each, every, some
from world import World

PROTECTED = {"protected = false": "protected = true"}


@each()
def test_beyond_the_bound_nothing_is_done(it: Rehearsed) -> None:
    planned = it.dry(check=3).json["changes"]
    assert any(change["impact"]["count"] > 0 for change in planned), "an impact that isn't counted can't be bounded"
    for refused in (it.dry("--max-affected", "0", check=4), it.run("--max-affected", "0", check=4)):
        assert refused.json["result"] == "refused"
        assert "above the limit" in refused.err
    it.untouched()


@some()
def test_the_configured_bound_holds_too(it: Rehearsed) -> None:
    it.world.configure(replace={"max-affected = 6_000_000": "max-affected = 0"}, add=it.scenario.config)
    assert "above the limit" in it.run("--max-affected", "6000000", check=4).err
    it.untouched()


@some()
def test_without_a_yes_and_without_a_terminal_it_waits(it: Rehearsed) -> None:
    waiting = it.say(*it.words, typed=None, check=7)
    assert waiting.json["result"] == "waiting"
    assert "--yes" in waiting.err
    it.untouched()


@some()
def test_a_no_changes_nothing(it: Rehearsed) -> None:
    refused = it.say(*it.words, typed="no\n", check=4)
    assert "123456789012" in refused.screen
    assert "sandbox" in refused.screen
    it.untouched()


@some(lambda scenario: scenario.typed is None)
def test_a_yes_is_enough_for_what_is_small_or_unprotected(it: Rehearsed) -> None:
    it.say(*it.words, typed="yes\n", check=0)
    assert it.scenario.so(it.world)


def protect(it: Rehearsed) -> str:
    """Protect the environment, and return what has to be typed there; empty where a yes is enough."""
    it.world.configure(replace=PROTECTED, add=it.scenario.config)
    waiting = it.say(*it.words, "-y", typed=None)
    if "--confirm" not in waiting.err:
        return ""
    assert waiting.code == 7
    return waiting.err.split("--confirm ")[1].split(",")[0].strip().strip("'")


def typed_there(scenario: Scenario) -> bool:
    """What is reversible and small needs no typing."""
    return not scenario.reversible


@every(typed_there)
def test_in_a_protected_environment_yes_is_not_enough_and_the_right_name_is(it: Rehearsed) -> None:
    plan = str(it.world.home / "plan")
    target = protect(it)
    assert target
    for wrong in ("yes", f"{target}x"):
        assert "is not" in it.run("--confirm", wrong, check=4).err
    assert "is not" in it.run(typed="yes\n", check=4).err
    it.dry("--save", plan, check=3)
    assert it.say("apply", plan, "-y", typed=None).code == 7
    it.untouched()
    assert it.run("--confirm", target, check=0).json["result"] == "changed"
    assert it.scenario.so(it.world)


@some(typed_there)
def test_so_it_is_when_typed(it: Rehearsed) -> None:
    target = protect(it)
    done = it.run(typed=f"{target}\n" + (it.scenario.typed or ""), check=0)
    assert f"type {target}" in done.screen
    assert it.scenario.so(it.world)


@some(typed_there)
def test_a_saved_plan_takes_the_right_name_and_no_other(it: Rehearsed) -> None:
    plan = str(it.world.home / "plan")
    target = protect(it)
    it.dry("--save", plan, check=3)
    for wrong in (target.upper(), "sandbox"):
        assert "is not" in it.say("apply", plan, "-y", "--confirm", wrong, check=4).err
    it.untouched()
    it.say("apply", plan, "-y", "--confirm", target, check=0)


@pytest.mark.parametrize(("line", "target"), [("service scale api 1", "service/api"), ("service scale worker 0", "service/worker")])
def test_below_the_minimum_is_typed_though_reversible(world: World, line: str, target: str) -> None:
    it = Rehearsed(Scenario(line, lambda world: True), world)
    assert protect(it).startswith(target)


def test_a_world_that_grew_since_the_plan_is_asked_about_again(world: World, grown: Callable[[], None]) -> None:
    it = Rehearsed(Scenario("logout user 5", lambda world: True), world)
    plan = str(world.home / "plan")
    it.dry("--save", plan, check=3)
    grown()
    before = world.snapshot()
    refused = it.say("apply", plan, "-y", check=4)
    assert "were reviewed" in refused.err
    assert world.snapshot() == before


@pytest.fixture
def grown(world: World) -> Callable[[], None]:
    """Gives user 5 many sessions more, begun long ago."""

    def grow() -> None:
        with world.database() as connection:
            connection.execute(
                "INSERT INTO refresh_sessions (user_id, token_hash, created_at, expires_at)"
                " SELECT 5, 'grown-' || n, now() - interval '1 day', now() + interval '1 day' FROM generate_series(1, 100) AS n"
            )

    return grow
