"""Law 2: twice is once. After a successful run the same command changes nothing, and says why."""

from __future__ import annotations

from typing import Any

import pytest
from evidence import undeclared
from recording import recorded, recording
from scenarios import Rehearsed, every, rehearsed, some

from opsctl.config import load


def said_why(changes: list[dict[str, Any]]) -> None:
    """Every change was found to be so, and it is said since when or by whom."""
    assert changes
    assert {(change["state"], bool(change["why"])) for change in changes} == {("done", True)}, changes


@pytest.mark.every_case
@every()
def test_a_command_makes_it_so_and_again_changes_nothing(it: Rehearsed) -> None:
    assert it.scenario.typed is not None or not it.scenario.so(it.world), "it was so before the command ran"
    calls = it.world.home / "calls"
    assert it.dry(check=3, before=recording(calls)).json["result"] == "would-change"
    assert it.run(check=0, before=recording(calls)).json["result"] == "changed"
    assert it.scenario.so(it.world)
    after = it.world.snapshot()
    assert after != it.before or it.scenario.typed
    planned = it.dry(check=0).json
    assert planned["result"] == "unchanged"
    said_why(planned["changes"])
    again = it.run(check=0).json
    assert again["result"] == "unchanged"
    said_why(again["changes"])
    assert it.world.snapshot() == after
    assert it.scenario.so(it.world)
    # What it asked on the way is no more than it declares.
    words = next(words for words, scenario in rehearsed() if scenario is it.scenario)
    assert undeclared(recorded(calls), words, load("sandbox", str(it.world.config)).settings, it.world.facts) == []


@some()
def test_a_finished_run_resumed_changes_nothing(it: Rehearsed) -> None:
    run = it.run(check=0).json["run"]
    after = it.world.snapshot()
    assert it.say("runs", "resume", run, check=0).json["result"] == "changed"
    assert it.world.snapshot() == after
