"""What no state can tell is done once: memory is asked while planning and again under the lock, by the ledger's order and the clock."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from opsctl.engine.options import Options
from opsctl.errors import OutcomeUnknown
from opsctl.testing.rig import START, Rig, Say, Set

SAY = Say(name="slack", after="we look into it")
YES = Options(yes=True)


@pytest.fixture
def other(tmp_path: Path, rig: Rig) -> Rig:
    """Somebody else, with the same world and the same ledger."""
    return Rig(tmp_path, rig.world)


def test_two_that_planned_at_once_say_it_once(rig: Rig, other: Rig) -> None:
    plans = [each.plan(SAY) for each in (rig, other)]
    assert rig.engine.perform(plans[0], YES).result == "changed"
    second = other.engine.perform(plans[1], YES)
    assert second.result == "unchanged"
    assert "done recently by run" in other.steps(second)[0].why
    assert rig.world.applied == ["slack"]


@pytest.mark.parametrize("count", [2, 5])
def test_many_at_once_say_it_once(rig: Rig, tmp_path: Path, count: int) -> None:
    rigs = [Rig(tmp_path, rig.world, lock_wait=60) for _ in range(count)]
    together = threading.Barrier(count)

    def said(each: Rig) -> str:
        plan = each.plan(SAY)
        together.wait(60)
        return each.engine.perform(plan, YES).result

    with ThreadPoolExecutor(count) as pool:
        results = list(pool.map(said, rigs))
    assert sorted(results) == ["changed", *["unchanged"] * (count - 1)]
    assert rig.world.applied == ["slack"]


def test_a_long_question_hides_nothing_that_was_done_meanwhile(rig: Rig, other: Rig) -> None:
    """It was said after the second plan was made, though more than two minutes before somebody agreed to that."""
    plan = other.plan(SAY)
    rig.run(SAY)
    other.now = START + timedelta(hours=1)
    assert other.engine.perform(plan, YES).result == "unchanged"
    assert rig.world.applied == ["slack"]


def test_a_run_that_has_said_it_and_is_yet_to_end_counts(rig: Rig, other: Rig) -> None:
    plan = other.plan(SAY)
    closing = rig.ledger.close

    def close(run: str, *rest: object) -> None:
        assert other.engine.perform(plan, YES).result == "unchanged"
        closing(run, *rest)  # type: ignore[arg-type]

    rig.ledger.close = close  # type: ignore[method-assign]
    assert rig.run(SAY).result == "changed"
    assert rig.world.applied == ["slack"]


@pytest.mark.parametrize("again", ["first", "second"])
def test_who_asks_for_another_gets_it(rig: Rig, other: Rig, again: str) -> None:
    rig.run(SAY, again=again == "first")
    assert other.run(SAY, again=again == "second").result == ("changed" if again == "second" else "unchanged")


def test_other_words_are_said(rig: Rig, other: Rig) -> None:
    plans = [rig.plan(SAY, command="a"), other.plan(Say(name="slack", after="it is over"), command="b")]
    assert [rig.engine.perform(plan, YES).result for plan in plans] == ["changed", "changed"]


def test_what_follows_another_step_is_never_satisfied_by_memory(rig: Rig, other: Rig) -> None:
    plan = other.engine.plan("test", lambda planning: [SAY], YES, follows=START)
    rig.run(SAY)
    assert other.engine.perform(plan, YES).result == "changed"


@pytest.mark.parametrize(
    ("minutes", "result"),
    [([-10], "unchanged"), ([-10, 1], "unchanged"), ([-10, 1, 3], "changed"), ([1], "unchanged"), ([3], "changed"), ([-10, 13], "changed")],
)
def test_a_clock_that_was_set_back_makes_memory_no_shorter_and_not_endless(rig: Rig, minutes: list[int], result: str) -> None:
    """Each step of the clock is seen by another command, which the log has in order."""
    rig.run(SAY)
    for step in minutes:
        rig.now += timedelta(minutes=step)
        rig.run(Set(name=f"other{step}"), command="other")
    assert rig.run(SAY).result == result


def test_what_a_clock_ahead_recorded_is_forgotten_once_time_goes_on(rig: Rig) -> None:
    rig.now = START + timedelta(days=365)
    rig.run(SAY)
    rig.now = START
    assert rig.run(SAY).result == "unchanged"
    rig.now += timedelta(minutes=3)
    assert rig.run(SAY).result == "changed"


@pytest.mark.parametrize("minutes", [1, -10])
def test_memory_never_reaches_past_the_newest_change_of_what_it_rests_on(rig: Rig, minutes: int) -> None:
    rig.run(Say(name="slack", after=1, rests=("key",)))
    rig.now += timedelta(minutes=minutes)
    rig.run(Set(name="key"), command="rotate")
    assert rig.run(Say(name="slack", after=1, rests=("key",))).result == "changed"


def test_what_nobody_knows_is_not_said_again_though_it_was_planned_before(rig: Rig, other: Rig) -> None:
    plan = other.plan(SAY)
    rig.world.on("after", "slack", OutcomeUnknown("No answer."))
    first = rig.run(SAY)
    assert first.exit_code == 6
    second = other.engine.perform(plan, YES)
    assert second.exit_code == 6
    assert second.error
    assert f"Run {first.run} began this change and its outcome is unknown" in second.error.what
    assert rig.world.applied == ["slack"]
    rig.engine.settle(rig.ledger.run(first.run or ""), 1, happened=False, reason="the channel is empty")
    assert other.resume(second).result == "changed"


def test_what_a_killed_run_began_is_not_said_again(rig: Rig, other: Rig) -> None:
    plan = other.plan(SAY)
    first = rig.run(SAY)
    step = rig.steps(first)[0]
    rig.ledger.put(first.run or "", step, "begun", {})
    rig.ledger.close(first.run or "", "unknown", {})
    assert other.engine.perform(plan, YES).exit_code == 6
    assert rig.world.applied == ["slack"]


def test_a_plan_of_several_is_remembered_as_a_whole_or_not_at_all(rig: Rig, other: Rig) -> None:
    page = Say(name="pager", after="wake up")
    plan = other.plan(SAY, page)
    rig.world.on("apply", "pager", OutcomeUnknown("No answer."))
    first = rig.run(SAY, page)
    rig.engine.settle(rig.ledger.run(first.run or ""), 2, happened=True, reason="somebody woke up")
    assert other.engine.perform(plan, YES).result == "unchanged"
    assert rig.world.applied == ["slack", "pager"]


def test_a_run_that_is_taken_up_asks_again_too(rig: Rig, other: Rig) -> None:
    rig.world.on("check", "slack", None, OutcomeUnknown("The lock's holder was slow."))
    first = rig.run(SAY)
    assert first.exit_code == 6
    other.run(SAY, again=True)
    assert rig.engine.resume(rig.ledger.run(first.run or ""), Options(yes=True)).result == "unchanged"
    assert rig.world.applied == ["slack"]
