"""Law: what `--as-shell` prints, run as printed, ends in the state that opsctl's own run ends in."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from by_hand import by_hand, script
from essence import essence, standing
from scenarios import Rehearsed, each, every
from world import World

ASKED = {"ADDRESS": "user51@example.com"}
"""What a script asks for, where no scenario gives it."""


def ends(world: World, before: Any) -> dict[str, Any]:
    """What was done, without what only opsctl does: its ledger, and the keys that let the API know a second try."""
    found = essence(before, world.snapshot())
    found["marks"] = {mark: count for mark, count in found["marks"].items() if mark.startswith("auth:")}
    del found["acknowledged"]
    return found


def files(world: World) -> set[str]:
    """What is in the home and in the temporary folder, but for the ledger's."""
    return {str(path) for path in world.home.rglob("*") if world.ledger.parent not in path.parents}


@pytest.mark.exhaustive
@every()
def test_its_script_ends_in_the_same_state(it: Rehearsed) -> None:
    it.run(check=0)
    wanted = ends(it.world, it.before)
    it.world.again()
    again = Rehearsed(it.scenario, it.world)
    text = script(again.world, *again.words, env=again.env, input=again.scenario.stdin)
    given = again.world.home / "given.jsonl"
    given.write_text(again.scenario.stdin)
    env = {**ASKED, **again.env, "NEW_MAIL_KEY": again.scenario.stdin.strip(), "NOTIFICATIONS": str(given)}
    (again.world.home / "tmp").mkdir()
    there = files(again.world)
    done = by_hand(again.world, text, env=env, typed=again.scenario.typed or "")
    assert done.code == 0, f"{text}\n{done}"
    assert ends(again.world, again.before) == wanted, f"{text}\n{done}"
    assert files(again.world) == there, "files were left behind"


DATA_API = {'driver = "postgres"': 'driver = "rds-data"'}


@pytest.mark.exhaustive
@each(lambda scenario: scenario.line.startswith(("logout user", "bounces", "database kill")))
def test_its_script_ends_in_the_same_state_over_the_data_api(it: Rehearsed) -> None:
    it.run(check=0)
    wanted = ends(it.world, it.before)
    it.world.again()
    again = Rehearsed(it.scenario, it.world)
    again.world.configure(DATA_API)
    text = script(again.world, *again.words, env=again.env)
    assert "psql" not in text
    done = by_hand(again.world, text, env={**ASKED, **again.env})
    assert done.code == 0, f"{text}\n{done}"
    assert ends(again.world, again.before) == wanted, f"{text}\n{done}"


@pytest.mark.exhaustive
@every(lambda scenario: scenario.reversible)
def test_the_script_of_its_undo_puts_everything_back(it: Rehearsed) -> None:
    run = it.run(check=0).json["run"]
    text = script(it.world, "runs", "undo", run, env=it.env)
    done = by_hand(it.world, text, env={**ASKED, **it.env}, typed="done\n")
    assert done.code == 0, f"{text}\n{done}"
    left, wanted = standing(it.world.snapshot()), standing(it.before)
    # Opsctl's ledger alone knows who looks after an alarm.
    del left["acknowledged"], wanted["acknowledged"]
    assert left == wanted, f"{text}\n{done}"


PLAYBOOKS = [
    ("token-compromise", "scope=widespread"),
    ("token-compromise", "scope=single", "user=user7@example.com"),
    ("revoke-pairing", "contact=156855158284"),
    ("unauthorized-access", "user=former-contractor"),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("line", PLAYBOOKS, ids=" ".join)
def test_the_script_of_a_playbook_does_what_the_playbook_does(world: World, line: tuple[str, ...]) -> None:
    before = world.snapshot()
    world.opsctl("playbook", "run", *line, "--assume-answers", "-y")
    wanted = ends(world, before)
    world.again()
    before = world.snapshot()
    text = script(world, "playbook", "run", *line)
    # Whoever runs it takes the first answer of each question.
    typed = "".join(f"{answers[0]}\n" for answers in asked(text))
    done = by_hand(world, text, typed=typed)
    assert done.code == 0, f"{text}\n{done}"
    assert ends(world, before) == wanted, f"{text}\n{done}"


def asked(text: str) -> list[list[str]]:
    """The choices of each question."""
    lines = [line.strip() for line in text.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("question ")]
