"""What may be answered at a question: done or a choice, skipped or failed with a reason; and what an answer does."""

import pytest
from playbook_world import House

from opsctl.errors import Retry
from opsctl.playbook.loader import inspect
from tests.playbook.test_resume import resume
from tests.playbook.test_runner import run, said, states

ASKS = """
title: A drill
steps:
  - ask: Look around
    id: look
    note: Left and right.
  - ask: Is it raining?
    id: rain
    choices: [yes, no]
  - run: put roof shut
    when: {rain: yes}
  - ask: Is everybody in?
    id: in
    choices: [yes, no]
    expect: yes
  - run: put door shut
"""


def test_enter_is_done_and_the_prompt_says_so(house: House) -> None:
    house.write(ASKS)
    here = house.process("", "no", "yes")
    outcome = run(here)
    assert (outcome.result, outcome.exit_code) == ("changed", 0)
    assert here.person.asked == [  # type: ignore[attr-defined]
        "Look around [Enter = done, s = skip, f = failed, ? = help]",
        "Is it raining? [yes/no, f = failed, ? = help]",
        "Is everybody in? [yes/no, s = skip, f = failed, ? = help]",
    ]


@pytest.mark.parametrize("word", ["yes", "no", "n", "done", "skip", "S", "y"])
def test_nothing_but_enter_is_done_and_what_else_may_be_typed_is_said(house: House, word: str) -> None:
    house.write(ASKS)
    here = house.process(word, "?", "", "no", "yes")
    assert run(here).result == "changed"
    assert f"{word!r} is not a valid answer" in said(here)
    assert "Left and right" in said(here)


def test_enter_is_no_choice(house: House) -> None:
    house.write(ASKS)
    here = house.process("", "", "no", "yes")
    assert run(here).result == "changed"
    assert "Enter is not a valid answer" in said(here)


@pytest.mark.parametrize("answers", [("s the lamp is broken",), ("s", "", "the lamp is broken")])
def test_a_skipped_item_keeps_its_reason_and_the_run_ends_partly_done(house: House, answers: tuple[str, ...]) -> None:
    house.write(ASKS)
    here = house.process(*answers, "no", "yes")
    outcome = run(here)
    assert (outcome.result, outcome.exit_code) == ("partial", 1)
    assert states(outcome)["look"] == "skipped"
    assert outcome.steps[0]["reason"] == "the lamp is broken"
    assert "not done: look (Look around): skipped, the lamp is broken" in said(here)


def test_a_skipped_item_is_named_again_when_the_run_is_taken_up_and_can_be_done_later(house: House) -> None:
    house.write(ASKS)
    first = run(house.process("s no lamp", "no", "yes"))
    again = house.process()
    assert resume(again, first.run or "").exit_code == 1
    assert "not done: look (Look around): skipped, no lamp" in said(again)
    assert f"opsctl runs resume {first.run} --retry STEP --reason WHY" in said(again)
    later = house.process("")
    assert resume(later, first.run or "", retry="look").exit_code == 0


def test_a_question_that_others_depend_on_is_not_skipped(house: House) -> None:
    house.write(ASKS)
    here = house.process("", "s why not", "no", "yes")
    assert run(here).result == "changed"
    assert "depend on its answer" in said(here)
    assert "s, or s and a reason" not in said(here)


def test_help_says_how_to_leave_a_question(house: House) -> None:
    house.write(ASKS)
    here = house.process("?", "", "no", "yes")
    assert run(here).result == "changed"
    assert "  Ctrl-C: leave" in said(here)


def test_an_unexpected_answer_says_what_the_note_says_to_do(house: House) -> None:
    house.write(ASKS.replace("    expect: yes\n", "    expect: yes\n    note: Begin anew with scope=all.\n"))
    error = run(house.process("", "no", "no")).error
    assert error
    assert error.what.endswith("Begin anew with scope=all.")
    assert isinstance(error.next, Retry)
    assert error.next.options[0] == ""


@pytest.mark.parametrize(("asked", "told"), [("Is it well?", "Is it well? Marked"), ("See to it", "See to it: Marked")])
def test_a_failed_item_is_told_with_one_mark(house: House, asked: str, told: str) -> None:
    choices = "\n    id: q\n    choices: [yes, no]\n    expect: yes" if asked.endswith("?") else ""
    house.write(f"title: t\nsteps:\n  - ask: {asked}{choices}\n")
    assert f"{told} as failed: why." in str(run(house.process("f why")).error)


@pytest.mark.parametrize("answers", [("f nobody is here",), ("f", "nobody is here")])
def test_a_failed_item_ends_the_run_and_is_asked_again(house: House, answers: tuple[str, ...]) -> None:
    house.write(ASKS)
    outcome = run(house.process(*answers))
    assert (outcome.exit_code, states(outcome)["look"]) == (1, "failed")
    assert "nobody is here" in str(outcome.error)
    assert house.world.effects == []
    (kept,) = (event.detail for event in house.process().ledger.events(outcome.run or "") if event.what == "step failed")
    assert kept["reason"] == "nobody is here"
    assert resume(house.process("", "no", "yes"), outcome.run or "").exit_code == 0


def test_another_answer_than_the_expected_one_ends_the_run(house: House) -> None:
    house.write(ASKS)
    outcome = run(house.process("", "no", "no"))
    assert (outcome.exit_code, states(outcome)["in"]) == (1, "failed")
    assert "continues only with yes" in str(outcome.error)
    assert house.world.effects == []
    assert resume(house.process("yes"), outcome.run or "").exit_code == 0
    assert house.world.effects == ["door=shut"]


def test_what_is_assumed_is_what_is_expected(house: House) -> None:
    house.write(ASKS.replace("choices: [yes, no]\n    expect: yes", "choices: [no, yes]\n    expect: yes"))
    assert run(house.process(), assume=True).exit_code == 0
    assert house.world.effects == ["roof=shut", "door=shut"]


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("ask: All quiet?", "a question needs choices"),
        ("ask: 'All quiet? '", "a question needs choices"),
        ("ask: 'Is it \"quiet?\"'", "a question needs choices"),
        ("ask: 'All quiet?'\n    choices: [yes, no]", "no step depends on the answer"),
        ("ask: 'All quiet?'\n    id: q\n    choices: [yes, no]", "no step depends on the answer"),
        ("ask: 'All quiet?'\n    choices: [yes, no]\n    expect: maybe", "not one of the choices"),
        ("ask: 'All quiet?'\n    choices: [s, f]", "skip, fail or get help"),
        ("ask: All quiet\n    expect: yes", "not one of the choices"),
        ("ask: All quiet\n    expect: {a: b}", "one of the choices"),
        ("verify: rows", "only shows"),
        ("verify: rows\n    expect: {}", "only shows"),
        ("verify: rows\n    expect: yes", "maps fields"),
        ("verify: rows\n    expect: {value: '< many'}", "not a number"),
        ("verify: rows\n    expect: {count: some}", "not a number"),
        ("verify: rows\n    expect: {where: {name: door}}", "checks nothing"),
        ("verify: rows\n    expect: {value: '{nothing}'}", "not a parameter"),
        ("verify: healthy\n    expect: {count: 1}", "passes or fails by itself"),
        ("verify: put a b\n    expect: {count: 1}", "passes or fails by itself"),
        ("verify: business", "neither reads nor changes"),
        ("look: put a b", "a look may only read"),
        ("look: business", "neither reads nor changes"),
        ("look: rows\n    expect: {count: 1}", "allowed only in a verify"),
        ("run: rows", "changes nothing"),
    ],
)
def test_lint_refuses_what_could_not_fail(house: House, step: str, wrong: str) -> None:
    path = house.write(f"title: t\nsteps:\n  - {step}\n")
    _, problems = inspect(path)
    assert [problem for problem in problems if wrong in problem.what], problems
