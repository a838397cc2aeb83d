from typing import Any

import msgspec
import pytest
from playbook_world import YES, House, Killed, Put

from opsctl.cli.context import AppContext
from opsctl.commands import runs
from opsctl.engine.ledger import verify
from opsctl.engine.options import Options
from opsctl.errors import ConfigurationError, ExternalError, LockHeld, PlanStale, Refused
from opsctl.playbook import runner
from opsctl.playbook.outcome import PlaybookOutcome
from opsctl.protocols import ProgressCallback
from opsctl.systems import Systems
from tests.playbook.test_runner import DRILL, run, said, states

EFFECTS = ["door=shut", "roof=shut", "lamp=of all"]


def newest(here: AppContext) -> str:
    return here.ledger.runs()[0].id


def resume(here: AppContext, run_id: str, **special: str) -> PlaybookOutcome:
    return runner.resume(here, here.ledger.run(run_id), Options(), reason=special.pop("reason", "drill"), **special)


@pytest.mark.parametrize("when", ["die_before", "die_after"])
@pytest.mark.parametrize("name", ["door", "roof", "lamp"])
def test_killed_around_an_effect_nothing_is_lost_or_doubled(house: House, name: str, when: str) -> None:
    house.write(DRILL)
    setattr(house.world, when, name)
    with pytest.raises(Killed):
        run(house.process("", "yes"))
    setattr(house.world, when, None)
    here = house.process("yes") if name == "door" else house.process()
    outcome = resume(here, newest(here))
    assert (outcome.result, outcome.error) == ("changed", None)
    assert house.world.effects == EFFECTS
    assert verify.verify(here.ledger) == []


def count_events(house: House) -> int:
    house.write(DRILL)
    here = house.process("", "yes")
    run(here)
    return int(here.ledger.store.query("SELECT count(*) FROM events")[0][0])  # type: ignore[attr-defined]


def test_killed_at_every_record_nothing_is_lost_or_doubled(house: House, tmp_path_factory: pytest.TempPathFactory) -> None:
    total = count_events(house)
    assert total > 20
    for dying in range(1, total):
        one = House(tmp_path_factory.mktemp("house"))
        here = one.process("", "yes")
        _die_at(here, dying)
        with pytest.raises(Killed):
            run(here)
        after = one.process()
        answered = [e for e in after.ledger.events(newest(after)) if e.what == "answered"]
        outcome = resume(one.process(*["", "yes"][len(answered) :]), newest(after))
        assert (outcome.result, one.world.effects) == ("changed", EFFECTS), f"killed at record {dying}"
        assert verify.verify(after.ledger) == []


def _die_at(here: AppContext, number: int) -> None:
    """Die where event `number` (the first is 0) would be written."""
    write, seen = here.ledger._event, iter(range(10_000))

    def dying(*args: object, **changes: object) -> None:
        if next(seen) >= number:
            raise Killed
        write(*args, **changes)  # type: ignore[arg-type]

    here.ledger._event = dying  # type: ignore[method-assign]


def test_another_person_takes_it_up_and_answered_questions_stay_answered(house: House) -> None:
    house.write(DRILL)
    first = run(house.process(""))
    other = house.process("yes")
    outcome = resume(other, first.run or "")
    assert other.person.asked == ["Is it raining? [yes/no, f = failed, ? = help]"]  # type: ignore[attr-defined]
    assert outcome.steps[0]["answer"] == "done"
    assert house.world.effects == EFFECTS


def test_who_takes_it_up_sees_first_what_it_is_and_where(house: House) -> None:
    house.write(DRILL)
    run_id = run(house.process("")).run or ""
    here = house.process("yes")
    runs._resume(here, here.ledger.run(run_id), YES, skip=None, retry=None, jump=None)
    assert said(here).startswith("playbook run drill scope=all\nin test, configured by ")


def test_a_finished_run_is_not_run_again(house: House) -> None:
    house.write(DRILL)
    first = run(house.process("", "yes"))
    outcome = resume(house.process(), first.run or "")
    assert (outcome.result, outcome.exit_code) == ("changed", 0)
    assert house.world.effects == EFFECTS


def test_another_playbook_than_the_approved_one_is_refused(house: House) -> None:
    house.write(DRILL)
    first = run(house.process(""))
    house.write(DRILL + "  - run: put bomb lit\n")
    with pytest.raises(PlanStale):
        resume(house.process("yes"), first.run or "")


def test_under_another_configuration_each_change_is_asked_again(house: House) -> None:
    house.write(DRILL)
    first = run(house.process(""))
    house.digest = "decaf"
    outcome = resume(house.process("yes"), first.run or "")
    assert outcome.exit_code == 7
    assert house.world.effects == ["door=shut"]


def test_a_run_that_is_driven_elsewhere_is_not_taken_up(house: House) -> None:
    house.write(DRILL)
    first = run(house.process(""))
    here = house.process()
    with here.ledger.locks.hold(f"run/{first.run}", first.run or "", "somebody", "it"), pytest.raises(LockHeld):
        resume(house.process("yes"), first.run or "")


def test_a_run_of_another_environment_is_refused(house: House) -> None:
    house.write(DRILL)
    first = run(house.process(""))
    here = house.process()
    there = msgspec.structs.replace(here.ledger.run(first.run or ""), environment="prod")
    with pytest.raises(Refused):
        runner.resume(here, there, Options())


def test_a_step_is_skipped_with_its_reason(house: House) -> None:
    house.write(DRILL)
    house.world.good = False
    first = run(house.process("", "no"))
    outcome = resume(house.process(), first.run or "", skip="health", reason="the probe is down")
    assert (outcome.result, states(outcome)["health"]) == ("partial", "skipped")
    assert next(s["reason"] for s in outcome.steps if s["step"] == "health") == "the probe is down"
    assert verify.verify(house.process().ledger) == []


def test_a_question_that_others_depend_on_is_not_skipped(house: House) -> None:
    house.write(DRILL)
    first = run(house.process(""))
    for special in ({"skip": "rain"}, {"jump": "roof"}):
        with pytest.raises(Refused, match="depend on its answer"):
            resume(house.process(), first.run or "", **special)
    assert house.process().ledger.run(first.run or "").result == "waiting"
    assert resume(house.process(), first.run or "", jump="lamp").result == "partial", "what depends on it was left out too"


def test_a_failed_step_is_retried_with_a_new_plan(house: House) -> None:
    house.write(DRILL)
    house.world.broken.add("lamp")
    first = run(house.process("", "no"))
    house.world.broken.clear()
    outcome = resume(house.process(), first.run or "", retry="lamp")
    assert outcome.result == "changed"
    assert [c["state"] for c in outcome.changes if c["step"] == "lamp"] == ["failed", "applied"]


def test_a_run_whose_only_change_was_made_in_part_is_partial(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(self: Put, write: Systems, token: str, progress: ProgressCallback) -> dict[str, Any]:
        progress(3, None, "things")
        raise ExternalError("No more.", "Mend it.")

    monkeypatch.setattr(Put, "apply", apply)
    house.write(DRILL)
    outcome = run(house.process("", "yes"))
    assert (outcome.result, outcome.exit_code) == ("partial", 1)
    assert [c["evidence"] for c in outcome.changes if c["state"] == "failed"] == [{"parts": ["3 things"]}]


def test_going_on_at_an_earlier_step_does_it_and_what_follows_once_more(house: House) -> None:
    house.write(DRILL)
    first = run(house.process("", "no"))
    outcome = resume(house.process("yes"), first.run or "", jump="rain")
    assert outcome.result == "changed"
    assert "roof=shut" in house.world.effects
    assert house.world.effects.count("door=shut") == 1
    assert states(outcome)["roof"] == "changed"


def test_a_step_that_there_is_not_lists_those_there_are(house: House) -> None:
    house.write(DRILL)
    first = run(house.process(""))
    with pytest.raises(ConfigurationError) as raised:
        resume(house.process(), first.run or "", skip="cellar")
    assert "door" in raised.value.next


def test_a_step_that_has_ended_is_not_skipped(house: House) -> None:
    house.write(DRILL)
    first = run(house.process(""))
    with pytest.raises(Refused, match="has already ended"):
        resume(house.process(), first.run or "", skip="door")


def test_assumed_answers_stay_assumed(house: House) -> None:
    house.write(DRILL)
    house.world.good = False
    first = run(house.process(), assume=True)
    house.world.good = True
    assert resume(house.process(), first.run or "").result == "changed"


def test_two_runs_of_one_playbook_do_it_once(house: House) -> None:
    house.write(DRILL)
    one = run(house.process(""))
    two = run(house.process(""))
    for first in (one, two):
        assert resume(house.process("yes"), first.run or "").error is None
    assert house.world.effects[:2] == ["door=shut", "roof=shut"]
    assert house.world.effects.count("door=shut") == 1


def test_reason_and_incident_reach_every_step(house: House) -> None:
    house.write(DRILL)
    here = house.process("", "no")
    outcome = run(here, options=msgspec.structs.replace(YES, reason="drill", incident="inc-1"))
    runs = [here.ledger.run(outcome.run or ""), *here.ledger.children(outcome.run)]
    assert {(r.reason, r.incident) for r in runs} == {("drill", "inc-1")}
