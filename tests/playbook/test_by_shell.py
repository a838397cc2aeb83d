"""A playbook's script: what it says, what it asks, and what ends it."""

from playbook_world import House

from opsctl.engine.options import Options
from opsctl.playbook import by_shell, preview
from opsctl.playbook.loader import load


def script(house: House, steps: str) -> list[str]:
    house.write(f"title: t\nsteps:\n{steps}")
    here = house.process()
    shown = preview.preview_steps(here, load("drill"), "playbook run drill", {}, Options(dry_run=True))
    return [line for each in by_shell.script(shown, {}, here.environment) for line in each.lines()]


def test_a_look_runs_nothing_and_asks_nothing(house: House) -> None:
    found = script(house, "  - look: rows\n")
    assert found == ["# Step 1: look rows", "say 'Look at: opsctl rows'"]


def test_an_answer_that_is_not_expected_ends_the_script(house: House) -> None:
    found = script(house, "  - ask: Is it well?\n    id: q\n    choices: [yes, no]\n    expect: yes\n")
    assert found[-1].startswith('{ [ "${answer}" = yes ]; } || stop')


def test_any_answer_goes_on_where_none_is_expected(house: House) -> None:
    found = script(house, "  - ask: Is it well?\n    id: q\n    choices: [yes, no]\n  - run: put a b\n    when: {q: yes}\n")
    assert not [line for line in found if "stop" in line]


def test_a_proof_asks_for_what_it_expects_and_a_no_ends_the_script(house: House) -> None:
    ask, stop = script(house, "  - verify: rows\n    expect: {count: '< 3'}\n")[1:]
    assert ask.startswith("question 'Run: opsctl rows. Is the result as expected (")
    assert "< 3" in ask
    assert ask.endswith(" yes no")
    assert "|| stop" in stop


def test_a_proof_by_a_changing_command_asks_for_its_dry_run(house: House) -> None:
    found = script(house, "  - verify: put door shut\n")
    assert found[1] == "question 'Run: opsctl put door shut -n. Is there nothing left to change?' yes no"
    assert "|| stop" in found[2]


def test_what_is_already_so_is_said(house: House) -> None:
    house.world.write("door", "shut")
    found = script(house, "  - run: put door shut\n")
    assert found[1:] == ["say 'Already done: put door=shut: it is there'"]


def test_a_proof_that_cannot_be_asked_now_is_asked_when_the_script_reaches_it(house: House) -> None:
    house.world.blind = True
    assert script(house, "  - verify: rows\n    expect: {count: 1}\n")[1].startswith("question 'Run: opsctl rows.")
