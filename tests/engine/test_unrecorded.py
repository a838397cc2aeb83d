"""A ledger that fails after an effect, and a call that takes effect after nobody waits for it any more."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from opsctl.changes.ecs import Redeploy
from opsctl.changes.tokens import MintToken
from opsctl.contract import kinds
from opsctl.engine.ledger.ledger import Ledger
from opsctl.engine.ledger.rows import Step
from opsctl.engine.options import Options
from opsctl.engine.reporter import Reporter
from opsctl.engine.runner import Runner
from opsctl.errors import LedgerFailed, OutcomeUnknown
from opsctl.testing.rig import Rig, Say, Set, SetAlone, World


def fails(monkeypatch: pytest.MonkeyPatch, method: str, call: int) -> None:
    """From its `call` on a method of the ledger meets a database that can't be written."""
    real, calls = getattr(Ledger, method), 0

    def failing(self: Ledger, *words: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise LedgerFailed("The ledger can't be written: said.", "Mend it.")
        return real(self, *words, **more)

    monkeypatch.setattr(Ledger, method, failing)


@pytest.mark.parametrize("change", [Set(name="a"), SetAlone(name="a"), Say(name="a")], ids=["rested on", "independent", "blind"])
@pytest.mark.parametrize("call", range(1, 5))
def test_after_an_effect_a_record_that_fails_leaves_the_outcome_unknown(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Set, call: int
) -> None:
    with monkeypatch.context() as patched:
        fails(patched, "put", call)
        outcome = rig.run(change)
    made = rig.world.applied == ["a"]
    recorded = call > (2 if isinstance(change, Say) else 3)
    assert made == (call > 1)
    assert outcome.exit_code == (1 if not made else 0 if recorded else 6)
    if made and not recorded:
        assert "can't be recorded" in outcome.error.what  # type: ignore[union-attr]
        assert outcome.error.next.run == outcome.run  # type: ignore[union-attr]
        assert Rig(tmp_path, rig.world).resume(outcome).exit_code == (6 if isinstance(change, Say) else 0)
        assert rig.world.applied == ["a"]


def test_a_run_whose_end_cannot_be_recorded_is_unknown(rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patched:
        fails(patched, "close", 1)
        outcome = rig.run(Set(name="a"))
    assert (outcome.exit_code, outcome.result) == (6, "unknown")
    assert Rig(tmp_path, rig.world).resume(outcome).exit_code == 0


def test_a_run_that_changed_nothing_fails(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, "put", 1)
    fails(monkeypatch, "close", 1)
    with pytest.raises(LedgerFailed):
        rig.run(Set(name="a"))
    assert rig.world.applied == []


@pytest.mark.parametrize("when", ["apply", "after"])
def test_a_ledger_that_is_deleted_while_a_change_is_made_is_said(rig: Rig, when: str) -> None:
    rig.world.on(when, "a", lambda world: rig.ledger.store.path.unlink())
    outcome = rig.run(Set(name="a"))
    assert outcome.exit_code == 6
    assert "deleted or replaced" in outcome.error.what  # type: ignore[union-attr]


def test_a_ledger_that_is_replaced_between_two_changes_is_said(rig: Rig) -> None:
    def replaced(world: World) -> None:
        rig.ledger.store.path.unlink()
        sqlite3.connect(rig.ledger.store.path).close()

    rig.world.on("check", "b", None, replaced)
    outcome = rig.run(Set(name="a"), Set(name="b"))
    assert outcome.exit_code == 6
    assert rig.world.applied == ["a"]
    assert "deleted or replaced" in outcome.error.what  # type: ignore[union-attr]


def slow(rig: Rig, name: str, given_up: float, arrives: float) -> Callable[[World], None]:
    """A call that nobody answers for `given_up` seconds, and that takes effect after `arrives`; each look takes five seconds."""
    begun = rig.now

    def look(world: World) -> None:
        rig.now += timedelta(seconds=5)
        if rig.now - begun >= timedelta(seconds=arrives):
            world.values[name] = 1

    def call(world: World) -> None:
        rig.now = begun + timedelta(seconds=given_up)
        raise OutcomeUnknown("No answer.")

    rig.world.on("check", name, None, None, *[look] * 30)
    return call


@pytest.mark.parametrize("arrives", [51, 56, 59])
def test_a_call_that_arrives_after_it_was_given_up_is_not_made_twice(rig: Rig, arrives: float) -> None:
    rig.engine.tempo = 1
    rig.world.on("apply", "a", slow(rig, "a", 50, arrives))
    assert rig.run(Set(name="a")).exit_code == 0
    assert rig.world.applied == ["a"]


def test_a_call_that_never_arrives_is_made_again(rig: Rig) -> None:
    rig.engine.tempo = 1
    rig.world.on("apply", "a", slow(rig, "a", 50, 10_000))
    assert rig.run(Set(name="a")).exit_code == 0
    assert rig.world.applied == ["a", "a"]
    assert rig.world.calls.count("check a") >= 4


def test_after_a_kill_a_call_may_still_arrive(rig: Rig, tmp_path: Path) -> None:
    def killed(world: World) -> None:
        raise KeyboardInterrupt

    rig.world.on("apply", "a", killed)
    outcome = rig.run(Set(name="a"))
    assert rig.states(outcome) == ["begun"]
    later = Rig(tmp_path, rig.world)
    later.engine.tempo = 1
    later.now = rig.now + timedelta(seconds=3)
    slow(later, "a", 0, 53)
    rig.world._acts["check", "a"] = rig.world._acts["check", "a"][2:]
    assert later.resume(outcome).exit_code == 0
    assert rig.world.applied == ["a"]


def test_however_fast_the_sandbox_runs_a_call_is_waited_for_longer_than_it_was_given(rig: Rig) -> None:
    clock = 1_000.0

    def call(world: World) -> None:
        nonlocal clock
        clock += 50
        raise OutcomeUnknown("No answer.")

    def look(world: World) -> None:
        nonlocal clock
        clock += 3
        world.values["a"] = 1 if clock >= 1_056 else None

    run = rig.engine.new_run("test", Options())
    rig.ledger.open(run, [Step(seq=1, change=Set(name="a"))])
    rig.world.on("apply", "a", call)
    rig.world.on("check", "a", None, *[look] * 30)
    runner = Runner(rig.ledger, run, rig.engine.read, rig.engine.write, Reporter(), tempo=0, monotonic=lambda: clock)
    runner.run_steps(rig.ledger.steps(run.id))
    assert rig.world.applied == ["a"]


def test_whatever_carries_no_token_is_waited_for_as_long_as_its_client_waits() -> None:
    """Zero is for a kind whose late call changes nothing more: named one by one."""
    from opsctl.adapters.aws import session
    from opsctl.adapters.http import client as http

    longest = max(session.CONNECT_SECONDS + session.READ_SECONDS, http.CONNECT_SECONDS + http.ANSWER_SECONDS)
    waited = [kind for kind in kinds() if kind.__module__.startswith("opsctl.") and kind.under_way]
    assert {Redeploy, MintToken} <= set(waited)
    assert all(kind.under_way >= longest for kind in waited)
