"""A look shows and is kept; a verify can fail; a dry run looks at what both look at."""

import pytest
from playbook_world import DRY, House

from tests.playbook.test_resume import resume
from tests.playbook.test_runner import run, said, states

LOOKS = """
title: t
steps:
  - look: rows
    id: shown
  - verify: rows
    id: shut
    expect: {where: {name: door}, value: shut}
"""


def test_a_look_is_kept_and_proves_nothing(house: House) -> None:
    house.write(LOOKS)
    house.world.values["door"] = "open"
    outcome = run(house.process())
    assert outcome.exit_code == 1
    assert outcome.steps[0]["found"] == [{"name": "door", "value": "open"}]
    assert states(outcome) == {"shown": "seen", "shut": "failed"}
    assert "value is open, expected shut" in str(outcome.error)
    house.world.values["door"] = "shut"
    done = resume(house.process(), outcome.run or "", retry="shut")
    assert (done.exit_code, states(done)["shut"]) == (0, "verified")


def test_no_row_where_one_was_expected_is_no_proof(house: House) -> None:
    house.write(LOOKS)
    outcome = run(house.process())
    assert outcome.exit_code == 1
    assert "no matching row" in str(outcome.error)


def test_a_dry_run_looks_and_says_what_is_not_so_and_what_it_could_not_see(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.write(LOOKS)
    house.world.values["door"] = "open"
    assert (run(house.process(), options=DRY).exit_code, "fails now" in capsys.readouterr().out) == (3, True)
    house.world.values["door"] = "shut"
    assert (run(house.process(), options=DRY).exit_code, "passes now" in capsys.readouterr().out) == (0, True)
    house.world.blind = True
    outcome = run(house.process(), options=DRY)
    assert (outcome.exit_code, outcome.result) == (1, "failed")
    assert "could not be read: The world is dark." in capsys.readouterr().out


def test_a_look_that_cannot_see_is_said_and_the_run_ends_partly_done(house: House) -> None:
    house.write("title: t\nsteps:\n  - look: rows\n    id: shown\n  - run: put door shut\n")
    house.world.blind = True
    here = house.process()
    outcome = run(here)
    assert (outcome.result, outcome.exit_code, house.world.effects) == ("partial", 1, ["door=shut"])
    assert "not done: shown (rows): unseen, The world is dark." in said(here)
    house.world.blind = False
    assert resume(house.process(), outcome.run or "", retry="shown").exit_code == 0


def test_a_verify_that_cannot_see_ends_the_run(house: House) -> None:
    house.write(LOOKS)
    house.world.blind = True
    outcome = run(house.process())
    assert (outcome.exit_code, states(outcome)["shut"]) == (1, "failed")
    assert "The world is dark" in str(outcome.error)


@pytest.mark.parametrize(
    ("parts", "missing", "state"),
    [
        ({"A": None, "B": None}, "some of it could not be queried: A: it is dark; B: it is dark", "unseen"),
        ({"A": None, "B": 1}, "some of it could not be queried: A: it is dark", "seen"),
        ({"B": 1}, None, "seen"),
    ],
)
def test_what_of_a_page_could_not_be_asked_is_not_seen(house: House, parts: dict[str, int | None], missing: str | None, state: str) -> None:
    house.write("title: t\nsteps:\n  - look: page\n    id: shown\n")
    house.world.parts = parts
    dry = run(house.process(output="json"), options=DRY)
    assert (dry.exit_code, dry.steps[0].get("error")) == (1 if missing else 0, missing)
    assert states(run(house.process()))["shown"] == state
