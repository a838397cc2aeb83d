"""What rests on a step that isn't done is neither looked at nor made; what doesn't rest on it goes on where the kind says so."""

from __future__ import annotations

import threading

import pytest

from opsctl.contract import Done, Drifted, Failed, InProgress
from opsctl.engine.ledger.rows import Step
from opsctl.engine.order import Order
from opsctl.engine.runner import MAX_ATTEMPTS
from opsctl.errors import (
    Denied,
    ExternalError,
    Incomplete,
    Interrupted,
    LedgerFailed,
    OpsctlError,
    OutcomeUnknown,
    Refused,
    Retry,
    WrongPlace,
)
from opsctl.testing.rig import Rig, Set, SetAlone, SetAloneWide, Setting, SetWide

NO = ExternalError("It said no.", "Ask it.")


FAILURES = [NO, Refused("Not so."), OutcomeUnknown("No answer."), Denied("Not you.")]


@pytest.mark.parametrize("error", FAILURES)
def test_nothing_behind_a_failed_step_is_looked_at_or_recorded(rig: Rig, error: OpsctlError) -> None:
    rig.world.on("apply", "a", *[error] * MAX_ATTEMPTS)
    rig.world.on("check", "b", None, Done("it looks done while a isn't"))
    outcome = rig.run(Set(name="a"), Set(name="b"))
    assert outcome.exit_code == error.exit_code
    assert rig.states(outcome)[1] == "pending"
    assert rig.world.calls.count("check b") == 1, "it was only looked at while planning"


@pytest.mark.parametrize("error", FAILURES)
def test_no_neighbour_begins_after_one_failed(rig: Rig, error: OpsctlError, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, fail = threading.Event(), Order.fail

    def failing(order: Order, step: Step, error: OpsctlError) -> None:
        fail(order, step, error)
        failed.set()

    monkeypatch.setattr(Order, "fail", failing)
    rig.world.on("apply", "a", *[error] * MAX_ATTEMPTS)
    for name in ("x", "y"):
        rig.world.on("apply", name, lambda world: failed.wait(60) and None)
    outcome = rig.run(*[SetWide(name=name) for name in ["a", "x", "y", "b", "c"]])
    assert outcome.exit_code == error.exit_code
    assert rig.states(outcome)[3:] == ["pending", "pending"]
    assert set(rig.world.applied) <= {"a", "x", "y"}


def test_what_was_found_done_behind_a_failed_step_is_looked_at_again(rig: Rig) -> None:
    """A ledger that a former release wrote holds such steps."""
    rig.world.on("apply", "a", NO)
    outcome = rig.run(Set(name="a"), Set(name="b", rests=("a",)))
    step = rig.steps(outcome)[1]
    rig.ledger.put(outcome.run or "", step, "done", {"why": "it looked done"})
    assert [change.target for change in (p.change for p in rig.engine.remaining(rig.newest()).pending)] == ["a", "b"]
    assert rig.resume(outcome).result == "changed"
    assert rig.world.values == {"a": 1, "b": 1}
    assert rig.states(outcome) == ["applied", "applied"]


def test_what_was_done_when_it_was_reviewed_is_looked_at_again_and_never_made_unasked(rig: Rig) -> None:
    rig.world.on("apply", "a", NO)
    rig.world.values["b"] = 1
    outcome = rig.run(Set(name="a"), Set(name="b"))
    rig.world.values["b"] = 0
    found = rig.resume(outcome)
    assert found.error
    assert found.exit_code == 4
    assert "b: it was done when the plan was reviewed" in found.error.what
    assert rig.world.applied == ["a", "a"]


def test_what_was_done_when_it_was_reviewed_and_still_is_needs_nothing(rig: Rig) -> None:
    rig.world.on("apply", "a", NO)
    rig.world.values["b"] = 1
    assert rig.resume(rig.run(Set(name="a"), Set(name="b"))).result == "changed"
    assert rig.world.applied == ["a", "a"]


@pytest.mark.parametrize("error", [NO, Refused("Not so."), OutcomeUnknown("No answer.")])
@pytest.mark.parametrize("kind", [SetAlone, SetAloneWide])
def test_other_stores_go_on_past_one_that_fails(rig: Rig, kind: type[Setting], error: OpsctlError) -> None:
    rig.world.on("apply", "b", *[error] * (MAX_ATTEMPTS if isinstance(error, OutcomeUnknown) else 1))
    outcome = rig.run(*[kind(name=name) for name in "abc"])
    assert rig.world.values == {"a": 1, "c": 1}
    unknown = isinstance(error, OutcomeUnknown)
    assert (outcome.result, outcome.exit_code) == (("unknown", 6) if unknown else ("partial", 1))
    assert outcome.error is not None
    assert "b" in outcome.error.what
    assert str(error) in outcome.error.what
    assert isinstance(outcome.error.next, Retry)
    assert outcome.error.next.run == outcome.run
    assert rig.resume(outcome).result == "changed"
    assert rig.world.values == {"a": 1, "b": 1, "c": 1}


def test_what_is_left_names_every_store_and_each_way_on(rig: Rig) -> None:
    rig.world.on("apply", "a", NO)
    rig.world.on("apply", "b", ExternalError("Its disk is full.", "Free space."))
    outcome = rig.run(*[SetAlone(name=name) for name in "abc"])
    assert isinstance(outcome.error, Incomplete)
    assert outcome.error.what == "Not done: a: It said no. Not done: b: Its disk is full. The other steps were applied."
    assert outcome.error.next == Retry("Ask it; then: Free space", outcome.run or "")


def test_all_stores_that_fail_are_a_failure(rig: Rig) -> None:
    for name in "ab":
        rig.world.on("apply", name, NO)
    outcome = rig.run(*[SetAlone(name=name) for name in "ab"])
    assert (outcome.result, outcome.exit_code) == ("failed", 1)


def test_what_rests_on_a_store_that_failed_waits(rig: Rig) -> None:
    rig.world.on("apply", "a", NO)
    changes = [SetAlone(name="a"), SetAlone(name="b", rests=("a",)), SetAlone(name="a", after=2), SetAlone(name="c")]
    outcome = rig.run(*changes)
    assert rig.states(outcome) == ["failed", "pending", "pending", "applied"]
    assert rig.world.applied == ["a", "c"]


def test_what_comes_after_a_step_that_stops_waits_though_a_store_before_it_failed(rig: Rig) -> None:
    rig.world.on("apply", "a", NO)
    rig.world.on("apply", "b", NO)
    outcome = rig.run(SetAlone(name="a"), Set(name="b"), Set(name="c"))
    assert rig.states(outcome) == ["failed", "failed", "pending"]
    assert outcome.error
    assert outcome.error.what == "Not done: a: It said no. Not done: b: It said no."


@pytest.mark.parametrize("error", [Interrupted("Stopped by a person."), LedgerFailed("The disk is full."), WrongPlace("Another account.")])
def test_a_stop_ends_the_other_stores_too(rig: Rig, error: Exception) -> None:
    rig.world.on("apply", "a", error)
    outcome = rig.run(SetAlone(name="a"), SetAlone(name="b"))
    assert outcome.error
    assert error in (outcome.error, outcome.error.__cause__)
    assert rig.world.applied == ["a"]


def test_a_store_that_cant_be_looked_at_keeps_no_other_from_being_planned(rig: Rig) -> None:
    down = ExternalError("It is down.")
    rig.world.on("check", "a", down, down)
    outcome = rig.run(SetAlone(name="a"), SetAlone(name="b"))
    assert (outcome.result, outcome.exit_code) == ("partial", 1)
    assert rig.world.values == {"b": 1}
    assert rig.resume(outcome).result == "changed"
    assert rig.world.values == {"a": 1, "b": 1}


def test_stores_that_all_cant_be_looked_at_are_told_before_anybody_is_asked(rig: Rig) -> None:
    for name in "ab":
        rig.world.on("check", name, ExternalError(f"{name} is down."))
    with pytest.raises(ExternalError, match="a is down"):
        rig.run(SetAlone(name="a"), SetAlone(name="b"))
    assert rig.ledger.runs() == []


def test_the_wrong_place_keeps_every_store_from_being_planned(rig: Rig) -> None:
    rig.world.on("check", "a", WrongPlace("Another account."))
    with pytest.raises(WrongPlace):
        rig.run(SetAlone(name="a"), SetAlone(name="b"))


def test_no_step_begins_that_uses_one_which_is_not_proven(rig: Rig) -> None:
    rig.world.on("check", "a", None, None, InProgress("on its way"))
    outcome = rig.run(Set(name="a"), Set(name="b"), Set(name="c", rests=("a",)), no_wait=True)
    assert rig.states(outcome) == ["made", "applied", "pending"]
    assert outcome.exit_code == 6


@pytest.mark.parametrize("found", [Drifted("somebody changed it"), Failed("it was taken back")])
def test_a_finding_that_ends_a_step_stops_what_comes_after(rig: Rig, found: object) -> None:
    rig.world.on("check", "a", None, None, found)
    outcome = rig.run(Set(name="a"), Set(name="b"))
    assert outcome.error is not None
    assert rig.states(outcome)[1] == "pending"
    assert rig.world.applied == ["a"]
