"""A run that a person stops, cancels or takes up again, and what a person says of an outcome that nobody else can tell."""

from __future__ import annotations

import pytest

from opsctl.contract import Done, InProgress, Irreversible, Pending, Skipped
from opsctl.engine.options import Options
from opsctl.errors import Interrupted, OutcomeUnknown, Refused, Unreachable
from opsctl.protocols import ProgressCallback
from opsctl.testing.rig import MemorySystems, Rig, Say, Set, Setting, World

SILENT = OutcomeUnknown("No answer came.")


def asked_to(rig: Rig, wish: str) -> None:
    rig.ledger.request_stop(rig.newest().id, wish)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wish", "word"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_wish_stops_the_run_before_its_next_step(rig: Rig, wish: str, word: str) -> None:
    rig.world.on("after", "a", lambda world: asked_to(rig, wish))
    outcome = rig.run(Set(name="a"), Set(name="b"))
    assert isinstance(outcome.error, Interrupted)
    assert outcome.error.what == f"Run {outcome.run} was {word} by request."
    assert (outcome.exit_code, outcome.result, rig.states(outcome)) == (6, "partial", ["applied", "pending"])
    if wish == "cancel":
        with pytest.raises(Refused, match="was cancelled"):
            rig.resume(outcome)
        assert rig.world.applied == ["a"]
        return
    assert rig.resume(outcome).result == "changed"
    assert rig.world.applied == ["a", "b"]


class Counted(Setting, frozen=True, kw_only=True):
    """Made in two batches; between them the world may act."""

    def apply(self, write: MemorySystems, token: str, progress: ProgressCallback) -> dict[str, int]:  # type: ignore[override]
        progress(0, 20, "rows")
        progress(10, 20, "tries", effect=False)
        progress(10, 20, "rows")
        write.world.meet("apply", self.name)
        write.world.values[self.name] = self.after
        return {"rows": 20}


def test_what_stops_between_batches_says_how_many_were_made(rig: Rig) -> None:
    rig.world.on("apply", "a", Interrupted("Stopped."))
    outcome = rig.run(Counted(name="a"))
    assert rig.steps(outcome)[0].partial_effects == ["10 rows"]
    assert (outcome.untouched, rig.states(outcome)) == (False, ["pending"])
    resumed = rig.resume(outcome)
    assert resumed.changes[0]["evidence"] == {"rows": 20, "parts": ["10 rows"]}


def test_a_resumed_run_that_ended_well_does_nothing(rig: Rig) -> None:
    outcome = rig.run(Set(name="a"))
    again = rig.resume(outcome)
    assert (again.result, again.run, rig.world.applied) == ("changed", outcome.run, ["a"])


def test_what_a_blind_step_did_is_told_by_a_person_alone(rig: Rig) -> None:
    rig.world.on("apply", "pager", SILENT)
    outcome = rig.run(Say(name="pager"))
    assert (outcome.exit_code, outcome.result, rig.states(outcome)) == (6, "unknown", ["unknown"])
    assert rig.resume(outcome).result == "unknown"
    assert rig.world.applied == ["pager"], "it is never sent again"
    run = rig.newest()
    with pytest.raises(Refused, match=r"Step 2 of run .* doesn't exist"):
        rig.engine.settle(run, 2, happened=True, reason="?")
    step = rig.engine.settle(run, 1, happened=True, reason="The channel shows it.")
    assert (step.state, step.why) == ("applied", "settled by me: The channel shows it.")
    assert rig.states(outcome) == ["applied"]
    assert rig.resume(outcome).result == "changed"
    with pytest.raises(Refused, match="is applied; only a step with an unknown outcome"):
        rig.engine.settle(run, 1, happened=False, reason="?")


def test_what_did_not_happen_is_made_when_the_run_is_taken_up(rig: Rig) -> None:
    rig.world.on("apply", "pager", SILENT)
    outcome = rig.run(Say(name="pager"))
    step = rig.engine.settle(rig.newest(), 1, happened=False, reason="The channel is empty.")
    assert (step.state, step.begun) == ("pending", None)
    assert rig.resume(outcome).result == "changed"
    assert rig.world.applied == ["pager", "pager"]


def test_what_its_system_tells_needs_no_word(rig: Rig) -> None:
    rig.world.on("apply", "a", *[SILENT] * 9)
    outcome = rig.run(Set(name="a"))
    assert rig.states(outcome) == ["begun"]
    with pytest.raises(Refused, match="need not be settled"):
        rig.engine.settle(rig.newest(), 1, happened=True, reason="?")


def test_a_change_that_is_on_its_way_is_waited_for_and_made_once(rig: Rig) -> None:
    rig.world.on("check", "a", Pending(1, "values"), InProgress("rolling out"), InProgress("rolling out"), Done("rolled out"))
    outcome = rig.run(Set(name="a"))
    assert (outcome.result, rig.world.applied, rig.states(outcome)) == ("unchanged", [], ["done"])


def test_without_waiting_what_is_not_proven_yet_is_unknown(rig: Rig) -> None:
    rig.world.on("check", "a", Pending(1, "values"), Pending(1, "values"), InProgress("rolling out"), InProgress("rolling out"))
    outcome = rig.run(Set(name="a"), no_wait=True)
    assert (outcome.exit_code, outcome.result, rig.states(outcome)) == (6, "unknown", ["made"])
    assert outcome.error
    assert outcome.error.what == "Applied and not yet verified: a."
    assert rig.resume(outcome).result == "changed"
    assert rig.world.applied == ["a"]


def test_what_can_not_be_made_here_is_said_and_passed_over(rig: Rig) -> None:
    rig.world.on("check", "a", *[Skipped("there is no such store")] * 2)
    outcome = rig.run(Set(name="a"), Set(name="b"))
    assert (outcome.result, outcome.exit_code, rig.states(outcome)) == ("partial", 0, ["skipped", "applied"])
    assert outcome.changes[0]["why"] == "there is no such store"


def test_a_system_that_dies_after_the_effect_leaves_it_to_be_proven(rig: Rig) -> None:
    rig.world.on("check", "a", None, None, Unreachable("No connection."), Unreachable("No connection."), Done("it is so"))
    outcome = rig.run(Set(name="a"))
    assert (outcome.result, rig.world.applied) == ("changed", ["a"])


def test_undo_names_what_has_no_way_back_and_undoes_the_rest(rig: Rig) -> None:
    outcome = rig.run(Set(name="a", before=0), Say(name="pager"), Set(name="b", before=0))
    plan, nevers = rig.engine.undo_plan(rig.newest())
    assert nevers == ["pager: set pager to 1: it was said"]
    assert [(step.change.target, step.change.difference()) for step in plan.changes] == [("b", (1, 0)), ("a", (1, 0))]
    assert plan.command == f"runs undo {outcome.run}"
    assert rig.engine.perform(plan, Options(yes=True)).result == "changed"
    assert rig.world.values == {"a": 0, "b": 0, "pager": 1}


def test_undone_twice_is_undone_once(rig: Rig) -> None:
    outcome = rig.run(Set(name="a", before=0))
    assert rig.undo(outcome).result == "changed"
    rig.world.values["a"] = 1
    again = rig.undo(outcome)
    assert (again.result, rig.world.values) == ("unchanged", {"a": 1}), "what stands there since is somebody else's"
    assert again.changes[0]["why"].startswith("undone by run ")


def test_a_run_belongs_to_its_environment_and_account(rig: Rig) -> None:
    outcome = rig.run(Set(name="a"))
    run = rig.ledger.run(outcome.run or "")
    run.environment = "other"
    with pytest.raises(Refused, match="belongs to other"):
        rig.engine.resume(run, Options())
    run.environment, run.account = "test", "999"
    with pytest.raises(Refused, match="account 999"):
        rig.engine.remaining(run)


def test_a_change_says_how_it_is_undone(rig: Rig) -> None:
    outcome = rig.run(Set(name="a", before=0), Say(name="pager"))
    assert [(change["reversible"], change["undo"]) for change in outcome.changes] == [
        (True, "set a to 0"),
        (False, "can't be undone: it was said"),
    ]
    assert isinstance(Say(name="x").inverse(), Irreversible)


def test_the_token_of_a_step_is_its_run_and_number(rig: Rig) -> None:
    tokens: list[str] = []

    class Told(Setting, frozen=True, kw_only=True):
        def apply(self, write: MemorySystems, token: str, progress: ProgressCallback) -> dict[str, str]:  # type: ignore[override]
            tokens.append(token)
            write.world.values[self.name] = self.after
            return {}

    outcome = rig.run(Told(name="a"), Told(name="b"))
    assert tokens == [f"{outcome.run}-1", f"{outcome.run}-2"]


def test_a_command_is_handed_how_it_was_asked(rig: Rig) -> None:
    plan = rig.plan(Set(name="a"), follows=rig.now)
    assert (plan.follows, plan.created, plan.position) == (rig.now, rig.now, None)
    assert rig.plan(Set(name="a"), again=True).position is None
    assert rig.plan(Set(name="a")).position == rig.engine.history.position()
    assert isinstance(rig.world, World)
