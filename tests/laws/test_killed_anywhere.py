"""Law 4: killed anywhere, nothing is lost or doubled. `kill -9` at every boundary, then another process takes it up: the same end state
and the same effects as an undisturbed run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from essence import essence
from killing import dying
from scenarios import Rehearsed, every


def undisturbed(it: Rehearsed) -> tuple[dict[str, Any], list[str]]:
    """What the line does to the world, and the boundaries that it passes on the way."""
    passed = it.world.home / "passed"
    it.run(check=0, before=dying(passed))
    assert it.scenario.so(it.world)
    return essence(it.before, it.world.snapshot(sessions="logout" in it.scenario.line)), passed.read_text().splitlines()


def places(boundaries: list[str], *, alike: bool) -> Iterator[tuple[int, str]]:
    """Where to kill; of many batches in a row the first and the last, of kinds that another command is killed for the effects alone."""
    for number, name in enumerate(boundaries):
        if alike and not name.startswith("apply"):
            continue
        if boundaries[number - 1 : number + 2] != [name] * 3 or name == "commit":
            yield number + 1, name


def take_up(it: Rehearsed, known: set[str]) -> None:
    """Do what a person does who finds the run half done; ask them what only they can know."""
    runs = it.world.runs() - known
    if not runs:
        it.run(check=0)
        return
    (run,) = runs
    resumed = it.say("runs", "resume", run)
    if it.scenario.blind and resumed.code == 6:
        settled = "--done" if it.scenario.so(it.world) else "--not-done"
        assert f"runs settle {run} 1 --done|--not-done" in resumed.err
        it.say("runs", "settle", run, "1", settled, "--reason", "looked at the channel", check=0)
        resumed = it.say("runs", "resume", run)
    assert resumed.code == 0, f"{resumed}"


@every(lambda scenario: not scenario.variant)
def test_killed_after_its_first_effect_it_is_taken_up(it: Rehearsed) -> None:
    known = it.world.runs()
    killed = it.run(before=dying(it.world.home / "passed", at_effect=True))
    assert killed.code == -signal.SIGKILL, f"{killed}"
    take_up(it, known)
    assert it.scenario.so(it.world)
    assert it.world.whole()


@pytest.mark.exhaustive
@every(lambda scenario: not scenario.variant)
def test_killed_anywhere_it_ends_as_if_undisturbed(it: Rehearsed) -> None:
    wanted, boundaries = undisturbed(it)
    assert any(name.startswith("apply") for name in boundaries)
    sessions = "logout" in it.scenario.line
    for number, name in places(boundaries, alike=it.scenario.alike):
        where = f"killed at boundary {number} of {len(boundaries)}, {name}"
        it.world.again()
        it = Rehearsed(it.scenario, it.world, sessions=sessions)
        known, passed = it.world.runs(), it.world.home / "again"
        passed.unlink(missing_ok=True)
        killed = it.run(before=dying(passed, number))
        if killed.code == 0 and len(passed.read_text().splitlines()) < number:
            # Where something is waited for, the world may be quicker than it was when the places were counted.
            continue
        assert killed.code == -signal.SIGKILL, f"{where}: {killed}"
        take_up(it, known)
        assert it.scenario.so(it.world), where
        assert essence(it.before, it.world.snapshot(sessions=sessions)) == wanted, where
        assert it.world.whole(), where
