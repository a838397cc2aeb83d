"""A change that was made stays ours, whatever the world does between its effect and its proof; and undo restores what is still ours."""

from __future__ import annotations

import pytest

from opsctl.contract import Drifted
from opsctl.engine.options import Options
from opsctl.errors import DriftError, ExternalError, OutcomeUnknown
from opsctl.testing.rig import Rig, Setting, World


class Seen(Setting, frozen=True, kw_only=True):
    """A change that tells when somebody else has set the value."""

    def check(self, read):  # type: ignore[no-untyped-def]
        now = read.world.values.get(self.name)
        return Drifted(f"it is {now}") if now not in (self.before, self.after) else super().check(read)


def ours(rig: Rig) -> list[str]:
    """The targets that the newest run's undo is about, in the order of its steps."""
    return [step.change.target for step in rig.ledger.steps(rig.newest().id) if step.may_have_effect]


def theirs(name: str) -> object:
    def meddle(world: World) -> None:
        world.values[name] = "theirs"

    return meddle


def test_moved_after_its_effect_is_made_and_ours(rig: Rig) -> None:
    rig.world.on("after", "b", theirs("b"))
    outcome = rig.run(Seen(name="a"), Seen(name="b"), Seen(name="c"))
    assert rig.states(outcome) == ["applied", "moved", "pending"]
    assert (outcome.result, outcome.exit_code) == ("partial", 1)
    assert outcome.error
    assert outcome.error.what == "b: the change was applied; since then somebody else has changed the target: it is theirs."
    assert "runs undo" in outcome.error.next
    assert ours(rig) == ["a", "b"]


def playbook(rig: Rig, *commands: Setting) -> str:
    """A run whose steps are runs of one command each."""
    run = rig.engine.new_run("playbook run it", Options(), kind="playbook")
    rig.ledger.open(run, [])
    for number, change in enumerate(commands, 1):
        plan = rig.plan(change, command=f"step {number}", again=True)
        rig.engine.perform(plan, Options(yes=True), parent=(run.id, number))
    rig.ledger.close(run.id, "changed", {})
    return run.id


def test_undo_restores_the_runs_that_are_as_we_left_them_and_names_the_rest(rig: Rig) -> None:
    run = playbook(rig, Seen(name="a"), Seen(name="b"), Seen(name="c"))
    rig.world.values["b"] = "theirs"
    plan, _ = rig.engine.undo_plan(rig.ledger.run(run))
    assert [p.state for p in plan.changes] == ["pending", "skipped", "pending"]
    assert plan.changes[1].why == "b: somebody else has changed it since then: it is theirs"
    assert rig.engine.perform(plan, Options(yes=True)).result == "partial"
    assert rig.world.values == {"a": None, "b": "theirs", "c": None}


def test_what_one_run_made_is_taken_back_as_a_whole_or_not_at_all(rig: Rig) -> None:
    outcome = rig.run(Seen(name="count"), Seen(name="bounds"), Seen(name="label"))
    rig.world.values["bounds"] = "theirs"
    plan, _ = rig.engine.undo_plan(rig.ledger.run(outcome.run or ""))
    assert [(p.state, p.why) for p in plan.changes] == [
        ("skipped", "label: it belongs together with bounds, which is skipped"),
        ("skipped", "bounds: somebody else has changed it since then: it is theirs"),
        ("skipped", "count: it belongs together with bounds, which is skipped"),
    ]


def test_what_two_runs_changed_is_taken_back_through_both(rig: Rig) -> None:
    run = playbook(rig, Seen(name="a"), Seen(name="a", before=1, after=2))
    plan, _ = rig.engine.undo_plan(rig.ledger.run(run))
    assert rig.engine.perform(plan, Options(yes=True)).result == "changed"
    assert rig.world.values == {"a": None}


def test_moved_before_its_effect_is_not_ours(rig: Rig) -> None:
    rig.world.on("apply", "a", theirs("b"))
    outcome = rig.run(Seen(name="a"), Seen(name="b"))
    assert isinstance(outcome.error, DriftError)
    assert "Stopped before this change" in outcome.error.what
    assert ours(rig) == ["a"]


def test_moved_after_a_call_without_an_answer_may_be_ours(rig: Rig) -> None:
    def no_answer(world: World) -> None:
        world.values["a"] = "theirs"
        raise OutcomeUnknown("No answer.")

    rig.world.on("after", "a", no_answer)
    outcome = rig.run(Seen(name="a"))
    assert outcome.error
    assert "the change was begun, and may have been applied; since then somebody else has changed the target" in outcome.error.what
    assert rig.steps(outcome)[0].may_have_effect


def test_a_definite_no_is_not_ours_when_somebody_else_makes_it_later(rig: Rig) -> None:
    rig.world.on("apply", "a", ExternalError("It said no."))
    outcome = rig.run(Seen(name="a"))
    rig.world.values["a"] = 1
    assert rig.resume(outcome).result == "unchanged"
    assert ours(rig) == []


def test_what_moved_is_proven_when_it_is_as_wanted_again(rig: Rig) -> None:
    rig.world.on("after", "a", theirs("a"))
    outcome = rig.run(Seen(name="a"))
    rig.world.values["a"] = 1
    assert rig.resume(outcome).result == "changed"
    assert rig.world.applied == ["a"]


@pytest.mark.parametrize("told", ["begun", "made"])
def test_a_run_that_was_killed_finds_out_that_somebody_moved_on(rig: Rig, told: str) -> None:
    outcome = rig.run(Seen(name="a"))
    step = rig.steps(outcome)[0]
    rig.ledger.put(outcome.run or "", step, told, {})  # type: ignore[arg-type]
    rig.ledger.close(outcome.run or "", "unknown", {})
    rig.world.values["a"] = "theirs"
    found = rig.resume(outcome)
    assert found.exit_code == 1
    assert rig.steps(outcome)[0].may_have_effect
