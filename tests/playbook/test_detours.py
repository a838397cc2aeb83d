import pytest
from playbook_world import House, Killed

from opsctl.cli.hints import next_line
from opsctl.engine.ledger import verify
from opsctl.engine.ledger.rows import Run, Step
from opsctl.errors import Interrupted, Refused
from opsctl.playbook.outcome import PlaybookOutcome
from tests.playbook.test_resume import resume
from tests.playbook.test_runner import run, said, states

KEYS = """
title: A new key
parameters:
  scope: {choices: [one, all], default: all}
steps:
  - ask: See how far it went
  - ask: Was it seen?
    id: seen
    choices: [yes, no]
    when: {scope: one}
  - verify: healthy
    id: before
  - run: send key
    id: key
    when: [{scope: all}, {seen: yes}]
  - run: put rollout done
    id: rollout
    follows: key
    when: [{scope: all}, {seen: yes}]
  - run: put other so
    id: other
  - run: put finish done
    id: finish
    follows: rollout
    when: [{scope: all}, {seen: yes}]
  - verify: healthy
    id: health
  - ask: See that all is quiet
    id: quiet
"""
DONE = ["sent=key", "rollout=done", "other=so", "finish=done"]


def went(house: House, *answers: str, words: tuple[str, ...] = ()) -> PlaybookOutcome:
    house.write(KEYS)
    first = run(house.process(*answers), *words)
    assert first.error is None
    return first


def test_what_follows_a_step_that_is_taken_again_is_taken_again_too(house: House) -> None:
    first = went(house, "", "")
    here = house.process()
    outcome = resume(here, first.run or "", retry="key")
    assert outcome.error is None
    assert house.world.effects == [*DONE, "sent=key", "rollout=done", "finish=done"]
    assert "Repeated: key, rollout, finish, health" in said(here)
    assert states(outcome)["finish"] == "changed"
    assert verify.verify(here.ledger) == []


def test_what_was_proven_is_proven_anew(house: House) -> None:
    first = went(house, "", "")
    house.world.good = False
    outcome = resume(house.process(), first.run or "", retry="other")
    assert states(outcome)["before"] == "verified"
    assert (outcome.exit_code, states(outcome)["health"]) == (1, "failed")


def test_a_step_that_a_person_did_instead_is_taken_when_what_it_follows_is_taken_again(house: House) -> None:
    house.write(KEYS)
    house.world.broken.add("rollout")
    first = run(house.process("", ""))
    house.world.broken.clear()
    resume(house.process(""), first.run or "", skip="rollout")
    assert states(resume(house.process(), first.run or "", retry="key"))["rollout"] == "changed"


@pytest.mark.parametrize("word", ["retry", "jump"])
def test_a_step_that_had_failed_is_bound_to_what_it_follows_anew(house: House, word: str) -> None:
    house.write(KEYS)
    house.world.broken.add("rollout")
    first = run(house.process(""))
    resume(house.process(), first.run or "", skip="rollout")
    house.world.broken.add("finish")
    resume(house.process(), first.run or "", retry="rollout")
    house.world.broken.clear()
    outcome = resume(house.process(""), first.run or "", **{word: "key"})
    assert outcome.error is None
    new = [c for c in outcome.changes if c["step"] == "rollout"]
    assert [c["state"] for c in new] == ["failed", "failed", "applied"]


def test_a_question_that_is_asked_again_opens_what_its_answer_had_left_out(house: House) -> None:
    first = went(house, "", "no", "", words=("scope=one",))
    assert house.world.effects == ["other=so"]
    outcome = resume(house.process("yes"), first.run or "", retry="seen")
    assert outcome.error is None
    assert [states(outcome)[key] for key in ("key", "rollout", "finish")] == ["changed"] * 3


def test_memory_of_a_step_never_stands_for_it_when_it_is_taken_again(house: House) -> None:
    first = went(house, "", "")
    resume(house.process(""), first.run or "", jump="key")
    assert house.world.effects.count("sent=key") == 2


def test_a_step_taken_again_is_made_again_though_the_process_that_was_asked_died(house: House) -> None:
    first = went(house, "", "")
    here = house.process()
    here.engine.plan = _dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        resume(here, first.run or "", retry="key")
    assert resume(house.process(), first.run or "").error is None
    assert house.world.effects.count("sent=key") == 2


def _dies(*args: object, **options: object) -> None:
    raise Killed


def test_memory_never_satisfies_a_step_that_follows_one_that_was_left_out(house: House) -> None:
    house.write("title: t\nsteps:\n  - run: put a b\n    id: first\n  - run: send word\n    id: word\n    follows: first\n")
    run(house.process())
    house.world.broken.add("a")
    house.world.values.clear()
    second = run(house.process())
    assert second.error is not None
    resume(house.process(), second.run or "", skip="first")
    assert house.world.effects == ["a=b", "sent=word", "sent=word"]


def test_a_question_that_would_not_be_asked_bars_no_jump(house: House) -> None:
    house.write(KEYS)
    first = run(house.process())
    outcome = resume(house.process(""), first.run or "", jump="key")
    assert outcome.error is None
    assert house.world.effects == DONE
    assert [states(outcome)[key] for key in ("1", "seen")] == ["skipped", "not needed"]


def test_going_on_at_a_later_step_takes_nothing_anew(house: House) -> None:
    house.write(KEYS)
    house.world.broken.add("sent")
    first = run(house.process(""))
    here = house.process("")
    assert resume(here, first.run or "", jump="other").error is None
    assert "Repeated:" not in said(here)


def test_a_question_that_decides_still_bars_a_jump(house: House) -> None:
    house.write(KEYS)
    first = run(house.process(), "scope=one")
    with pytest.raises(Refused, match="Question seen can't be skipped: key, rollout, finish depend"):
        resume(house.process(), first.run or "", jump="key")


@pytest.mark.parametrize("word", ["retry", "skip"])
def test_after_a_cancelled_step_the_lines_that_are_said_go_on(house: House, word: str) -> None:
    house.write(KEYS)
    house.world.broken.add("other")
    here = house.process("")
    first = run(here)
    house.world.broken.clear()
    here.ledger.request_stop(here.ledger.children(first.run)[0].id, "cancel")
    again = resume(house.process(), first.run or "")
    assert again.exit_code == 4
    assert again.error is not None
    assert f"opsctl runs resume {first.run} --{word} other --reason WHY" in next_line(again.error.next)
    assert resume(house.process(""), first.run or "", **{word: "other"}).error is None


def test_a_step_that_is_cancelled_on_its_way_says_how_to_go_on(house: House) -> None:
    house.write(KEYS)
    here = house.process("")
    opened = here.ledger.open

    def cancelled(child: Run, steps: list[Step]) -> None:
        opened(child, steps)
        if child.command.startswith("put rollout"):
            here.ledger.request_stop(child.id, "cancel")

    here.ledger.open = cancelled  # type: ignore[method-assign]
    outcome = run(here)
    assert isinstance(outcome.error, Interrupted)
    assert f"opsctl runs resume {outcome.run} --retry rollout --reason WHY" in next_line(outcome.error.next)
