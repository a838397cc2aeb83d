"""Law 4: killed anywhere, nothing is lost or doubled. `kill -9` at every boundary, then another process takes it up: the same end state
and the same effects as an undisturbed run."""

from __future__ import annotations

import signal
from typing import Any

from killing import dying
from scenarios import Rehearsed, every
from world import essence


def undisturbed(it: Rehearsed) -> tuple[dict[str, Any], list[str]]:
    """What the line does to the world, and the boundaries that it passes on the way."""
    passed = it.world.home / "passed"
    it.run(check=0, before=dying(passed))
    assert it.scenario.so(it.world)
    return essence(it.before, it.world.snapshot()), passed.read_text().splitlines()


def take_up(it: Rehearsed) -> None:
    """Do what a person does who finds the run half done; ask them what only they can know."""
    runs = [run for run in it.world.runs() if run["command"] in it.scenario.line]
    if not runs:
        it.run(check=0)
        return
    (run,) = runs
    resumed = it.say("runs", "resume", run["run"])
    if it.scenario.blind and resumed.code == 6:
        settled = "--done" if it.scenario.so(it.world) else "--not-done"
        assert f"runs settle {run['run']} 1 --done|--not-done" in resumed.err
        it.say("runs", "settle", run["run"], "1", settled, "--reason", "looked at the channel", check=0)
        resumed = it.say("runs", "resume", run["run"])
    assert resumed.code == 0, f"{resumed}"


@every()
def test_killed_anywhere_it_ends_as_if_undisturbed(it: Rehearsed) -> None:
    wanted, boundaries = undisturbed(it)
    assert any(name.startswith("apply") for name in boundaries)
    for number, name in enumerate(boundaries, 1):
        it.world.again()
        it = Rehearsed(it.scenario, it.world)
        killed = it.run(before=dying(it.world.home / "again", number))
        where = f"killed at boundary {number}, {name}"
        assert killed.code == -signal.SIGKILL, f"{where}: {killed}"
        take_up(it)
        assert it.scenario.so(it.world), where
        assert essence(it.before, it.world.snapshot()) == wanted, where
        it.world.opsctl("runs", "verify", check=0)
