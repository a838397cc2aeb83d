"""Only who knows says that nothing was changed: the engine, which has seen every call of a run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import opsctl
from opsctl.contract import Evidence
from opsctl.errors import ExternalError, OpsctlError, OutcomeUnknown, Refused
from opsctl.protocols import ProgressCallback
from opsctl.testing.rig import MemorySystems, Rig, Say, Set, Setting

CLAIM = re.compile(r"nothing (was|is|has been) (changed|done|made)", re.IGNORECASE)
ROOM = Path(opsctl.__file__).parent
NO = ExternalError("It said no.")


def texts(path: Path) -> list[str]:
    """The string constants of a file that aren't documentation."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in documentation]


@pytest.mark.parametrize("part", ["adapters", "changes", "commands", "engine", "cli", "playbook"])
def test_no_error_claims_it_by_itself(part: str) -> None:
    """An adapter knows its own call alone, and a change or a command not the steps before it."""
    files = [ROOM / part] if part.endswith(".py") else sorted((ROOM / part).rglob("*.py"))
    assert files
    assert [f"{path.name}: {text}" for path in files for text in texts(path) if CLAIM.search(text)] == []


class Batches(Setting, frozen=True, kw_only=True):
    """Made in batches."""

    def apply(self, write: MemorySystems, token: str, progress: ProgressCallback) -> Evidence:  # type: ignore[override]
        progress(48_800, None, "sessions")
        write.world.meet("apply", self.name)
        return {}


def test_a_failure_after_some_batches_says_what_was_done(rig: Rig) -> None:
    rig.world.on("apply", "rows", ExternalError("The database refused the statement (23503): a child row refers to it."))
    outcome = rig.run(Batches(name="rows"))
    assert outcome.error
    assert outcome.error.what == "48,800 sessions were done, then: The database refused the statement (23503): a child row refers to it."
    assert (outcome.untouched, outcome.result) == (False, "partial")


@pytest.mark.parametrize("error", [NO, Refused("Not so.")])
def test_a_first_step_that_is_refused_changed_nothing(rig: Rig, error: OpsctlError) -> None:
    rig.world.on("apply", "a", error)
    assert rig.run(Set(name="a"), Set(name="b")).untouched


@pytest.mark.parametrize("error", [NO, Refused("Not so.")])
def test_a_second_step_that_is_refused_comes_after_a_change(rig: Rig, error: OpsctlError) -> None:
    rig.world.on("apply", "b", error)
    assert not rig.run(Set(name="a"), Set(name="b")).untouched


@pytest.mark.parametrize("kind", [Set, Say])
def test_an_outcome_that_is_unknown_may_have_changed_something(rig: Rig, kind: type[Setting]) -> None:
    rig.world.on("apply", "a", *[OutcomeUnknown("No answer.")] * 5)
    assert not rig.run(kind(name="a")).untouched
