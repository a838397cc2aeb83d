"""What is recorded about the world holds no known secret and has a bound; what is executed stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsctl.contract import Done, Pending
from opsctl.engine import plan as plans
from opsctl.engine.options import Options
from opsctl.errors import ExternalError, OutcomeUnknown
from opsctl.redaction import LINE, vault
from opsctl.testing.rig import Rig, Set

SECRET = "pat-na1-7f3a9c51-e0d8-4b26-a5c1-f09e3d7b6482"
QUOTED = f"it said {SECRET} \x1b[2J\ud800 " + "and so on " * 10_000


def left(rig: Rig) -> str:
    return "".join(path.read_bytes().decode(errors="replace") for path in rig.ledger.store.path.parent.iterdir() if path.is_file())


@pytest.mark.parametrize("error", [ExternalError(QUOTED), OutcomeUnknown(QUOTED)])
def test_what_an_error_quotes_is_recorded_cleaned(rig: Rig, error: Exception) -> None:
    vault.remember(SECRET.encode())
    for _ in range(6):
        rig.world.on("apply", "a", error)
    outcome = rig.run(Set(name="a"))
    assert outcome.error
    (step,) = rig.ledger.steps(rig.newest().id)
    assert SECRET[8:] not in left(rig)
    assert "\x1b" not in step.why
    assert len(step.why) < LINE + 100


def test_what_a_check_quotes_is_recorded_cleaned(rig: Rig, tmp_path: Path) -> None:
    vault.remember(SECRET.encode())
    rig.world.on("check", "a", Pending(1, "values", QUOTED))
    plan = rig.engine.plan("set", lambda planning: [Set(name="a")], Options())
    plans.save(plan, tmp_path / "plan.json", rig.ledger.keyring)
    assert SECRET[8:] not in (tmp_path / "plan.json").read_text()
    assert len(plan.changes[0].why) < LINE + 100
    rig.world.on("check", "b", Done(QUOTED))
    rig.run(Set(name="b"))
    assert SECRET[8:] not in left(rig)


@pytest.mark.parametrize("word", ["before", "values", "name", "kind", "applied"])
def test_a_secret_that_is_a_word_changes_nothing(rig: Rig, word: str) -> None:
    vault.remember(word.encode())
    outcome = rig.run(Set(name=word, before=None, after=word))
    assert rig.states(outcome) == ["applied"]
    (step,) = rig.ledger.steps(rig.newest().id)
    assert step.change == Set(name=word, before=None, after=word)
    assert "[secret]" not in left(rig)
