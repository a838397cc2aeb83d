"""What stands between a plan and its first effect: drift, bounds, and a person's yes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from opsctl.contract import Done, Drifted, Failed, Pending
from opsctl.engine.options import Options
from opsctl.errors import DriftError, InputRequired, OpsctlError, Refused
from opsctl.testing.rig import Rig, Say, Set, Setting


class Grave(Setting, frozen=True, kw_only=True):
    """Small and reversible, and yet to be confirmed by its name."""

    needs_typed_confirmation: ClassVar[bool] = True


def test_drift_is_refused_before_anything_is_made(rig: Rig) -> None:
    rig.world.on("check", "b", Drifted("it is 7, not 0"))
    plan = rig.plan(Set(name="a"), Set(name="b"))
    preview = rig.engine.preview(plan, Options(dry_run=True))
    assert (preview.result, preview.exit_code, preview.untouched, preview.dry_run) == ("refused", 4, True, True)
    with pytest.raises(DriftError, match=r"^b: it is 7, not 0\.$"):
        rig.engine.perform(plan, Options(yes=True))
    assert rig.world.applied == []
    assert rig.ledger.runs() == []


def test_what_a_guard_could_not_look_at_is_refused_with_the_way_on(rig: Rig) -> None:
    rig.world.on("check", "a", Pending(1, "values", unguarded="the lag is unknown.", next="Add --accept-lag."))
    with pytest.raises(Refused, match="a: the lag is unknown") as raised:
        rig.run(Set(name="a"))
    assert raised.value.next == "Add --accept-lag."


def test_a_dry_run_says_what_would_change(rig: Rig) -> None:
    rig.world.values["b"] = 1
    preview = rig.engine.preview(rig.plan(Set(name="a"), Set(name="b")), Options(dry_run=True))
    assert (preview.result, preview.exit_code, preview.error, preview.run) == ("would-change", 3, None, None)
    assert [(change["target"], change["state"], change["before"], change["after"]) for change in preview.changes] == [
        ("a", "pending", None, 1),
        ("b", "done", None, 1),
    ]
    assert rig.engine.preview(rig.plan(Set(name="b")), Options(dry_run=True)).result == "unchanged"


@pytest.mark.parametrize(
    ("given", "configured", "passes"), [(None, 10, True), (None, 9, False), (9, 10, False), (10, 10, True), (11, 9, False)]
)
def test_more_than_the_limit_is_refused(tmp_path: Path, given: int | None, configured: int, passes: bool) -> None:
    rig = Rig(tmp_path, max_affected=configured)
    plan = rig.plan(Set(name="a", count=4), Set(name="b", count=6))
    if passes:
        assert rig.engine.perform(plan, Options(yes=True, max_affected=given)).result == "changed"
        return
    with pytest.raises(Refused, match="The plan would affect 10 values, above the limit of 9"):
        rig.engine.perform(plan, Options(yes=True, max_affected=given))
    assert rig.world.applied == []


def test_a_plan_that_grew_stops_before_its_write(rig: Rig) -> None:
    """A tenth more is let pass: counts move while a person reads."""
    rig.world.on("check", "a", Pending(100, "rows"), Pending(110, "rows"))
    rig.world.on("check", "b", Pending(100, "rows"), Pending(111, "rows"))
    outcome = rig.run(Set(name="a"), Set(name="b"))
    assert isinstance(outcome.error, DriftError)
    assert outcome.error.what == "b: it would now affect 111 rows; 100 were reviewed."
    assert rig.world.applied == ["a"]


def test_what_could_not_be_counted_before_is_bound_by_the_limit(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_affected=10)
    rig.world.on("check", "a", Pending(0, "rows"), Pending(11, "rows"))
    outcome = rig.run(Set(name="a"))
    assert outcome.error
    assert outcome.error.what == "a: it would affect 11 rows, above the limit of 10."
    assert (outcome.exit_code, rig.world.applied) == (4, [])


def test_no_is_a_refusal_and_nobody_is_waited_for(rig: Rig) -> None:
    plan = rig.plan(Set(name="a"))
    with pytest.raises(InputRequired):
        rig.engine.perform(plan, Options())
    rig.person.answers = ["n"]
    with pytest.raises(Refused, match="Not approved"):
        rig.engine.perform(plan, Options())
    assert rig.ledger.runs() == []
    rig.person.answers = ["y"]
    assert rig.engine.perform(plan, Options()).result == "changed"
    assert "Apply to test (account" in rig.person.asked[-1]


def test_nobody_is_asked_where_nothing_is_to_be_made_or_it_was_agreed_to(rig: Rig) -> None:
    assert rig.engine.perform(rig.plan(Set(name="a")), Options(), agreed=True).result == "changed"
    assert rig.engine.perform(rig.plan(Set(name="a")), Options()).result == "unchanged"
    assert rig.person.asked == []


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ([Set(name="a", count=99)], None),
        ([Set(name="a", count=100)], "a"),
        ([Set(name="a", count=50), Set(name="b", count=60)], "b"),
        ([Grave(name="a")], "a"),
        ([Set(name="b", count=9), Grave(name="a")], "a"),
        ([Say(name="a")], "a"),
    ],
)
def test_in_a_protected_environment_large_or_irreversible_changes_ask_for_the_name(
    tmp_path: Path, changes: list[Setting], target: str | None
) -> None:
    rig = Rig(tmp_path, protected=True, large=100)
    plan = rig.plan(*changes)
    if target is None:
        assert rig.engine.perform(plan, Options(yes=True)).result == "changed"
        return
    with pytest.raises(InputRequired):
        rig.engine.perform(plan, Options(yes=True))
    with pytest.raises(Refused, match="'x' is not"):
        rig.engine.perform(plan, Options(yes=True, confirm="x"))
    assert rig.world.applied == []
    rig.person.answers = [target]
    assert rig.engine.perform(plan, Options(yes=True)).result == "changed"
    assert rig.person.asked[-1].endswith(f"type {target}")


def test_the_same_is_asked_for_nowhere_else(rig: Rig) -> None:
    assert rig.run(Grave(name="a"), Say(name="b"), Set(name="c", count=5_000)).result == "changed"


def test_what_failed_before_is_planned_anew_with_its_impact(rig: Rig) -> None:
    rig.world.on("check", "a", Failed("the rollout was taken back", 2, "tasks"), Failed("the rollout was taken back", 2, "tasks"))
    plan = rig.plan(Set(name="a"))
    assert [(step.state, step.why, step.count, step.unit) for step in plan.changes] == [
        ("pending", "an earlier attempt failed: the rollout was taken back", 2, "tasks")
    ]
    assert rig.engine.perform(plan, Options(yes=True)).result == "changed"


def test_a_later_change_that_rests_on_an_earlier_one_is_to_be_made_after_it(rig: Rig) -> None:
    """What is found now says nothing of how it is once the earlier one is made."""
    rig.world.on("check", "b", Done("it is so while a isn't"))
    plan = rig.plan(Set(name="a"), Set(name="b", rests=("a",)), Set(name="c"))
    assert [(step.seq, step.state, step.after) for step in plan.changes] == [(1, "pending", None), (2, "pending", 1), (3, "pending", None)]
    rig.world.values["a"] = 1
    rig.world.on("check", "b", Done("it is so"))
    assert [(step.state, step.after) for step in rig.plan(Set(name="a"), Set(name="b", rests=("a",))).changes] == [("done", None)] * 2


def test_a_saved_plan_changes_nothing_that_was_done_when_it_was_reviewed(rig: Rig) -> None:
    rig.world.values["a"] = 1
    saved = rig.plan(Set(name="a"), Set(name="b", count=3))
    assert [step.count for step in rig.engine.plan_again(saved, Options()).changes] == [0, 3]
    rig.world.values["a"] = 0
    with pytest.raises(DriftError, match="a: it was done when the plan was reviewed; now it would be changed"):
        rig.engine.plan_again(saved, Options())


def test_what_was_reviewed_bounds_a_saved_plan(rig: Rig) -> None:
    rig.world.on("check", "a", Pending(100, "rows"), Pending(5_000, "rows"))
    plan = rig.engine.plan_again(rig.plan(Set(name="a")), Options())
    assert [(step.count, step.unit) for step in plan.changes] == [(100, "rows")]


@pytest.mark.parametrize("error", [InputRequired("Nobody is here."), Refused("Not so.")])
def test_a_change_that_stops_before_its_effect_was_never_begun(rig: Rig, error: OpsctlError) -> None:
    rig.world.on("apply", "a", error)
    outcome = rig.run(Set(name="a"))
    assert (outcome.exit_code, outcome.untouched, rig.states(outcome)) == (error.exit_code, True, ["pending"])
    assert rig.steps(outcome)[0].begun is None
    assert rig.resume(outcome).result == "changed"
