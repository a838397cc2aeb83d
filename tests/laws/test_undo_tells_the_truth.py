"""Law 5: undo tells the truth. What was shown as reversible is put back, what was not is refused with the reason, and nothing that
somebody else has since done is overwritten."""

from __future__ import annotations

from typing import Any

import pytest
from essence import standing
from scenarios import Rehearsed, every, some
from terminal import until
from world import World


@every(lambda scenario: scenario.reversible)
def test_undone_every_before_is_back_once(it: Rehearsed) -> None:
    shown = it.dry(check=3).json["changes"]
    assert all(change["reversible"] and "can't be undone" not in change["undo"] for change in shown)
    run = it.run(check=0).json
    assert standing(it.world.snapshot()) != standing(it.before)
    undone = it.say("runs", "undo", run["run"], "-y", check=0).json
    assert undone["result"] == "changed"
    assert standing(it.world.snapshot()) == standing(it.before)
    for change, back in zip(run["changes"], reversed(undone["changes"]), strict=True):
        assert change["target"] == back["target"]
        if change["before"] is not None:
            assert (change["before"], change["after"]) == (back["after"], back["before"])
    after = it.world.snapshot()
    assert it.say("runs", "undo", run["run"], "-y", check=0).json["result"] == "unchanged"
    assert it.world.snapshot() == after


@some(lambda scenario: scenario.reversible)
def test_an_undo_can_be_rehearsed(it: Rehearsed) -> None:
    run = it.run(check=0).json["run"]
    after = it.world.snapshot()
    assert it.say("runs", "undo", run, "-n", check=3).json["result"] == "would-change"
    assert it.world.snapshot() == after


@every(lambda scenario: not scenario.reversible)
def test_what_has_no_way_back_says_why(it: Rehearsed) -> None:
    shown = it.dry(check=3).json["changes"]
    nevers = [change["undo"].removeprefix("can't be undone: ") for change in shown if not change["reversible"]]
    assert nevers
    assert all(nevers)
    run = it.run(check=0).json["run"]
    after = it.world.snapshot()
    refused = it.say("runs", "undo", run, "-y")
    assert all(never in refused.err for never in nevers)
    if len(nevers) == len(shown):
        assert refused.code == 4
        assert it.world.snapshot() == after


@every(lambda scenario: scenario.reversible and scenario.meddle)
def test_what_somebody_else_did_since_is_not_overwritten(it: Rehearsed) -> None:
    run = it.run(check=0).json["run"]
    it.scenario.meddle(it.world)
    theirs = it.world.snapshot()
    refused = it.say("runs", "undo", run, "-y", check=4)
    assert refused.json["result"] == "refused"
    assert it.world.snapshot() == theirs


def test_only_what_a_run_changed_is_put_back(world: World) -> None:
    """The bounds were so before the run: undo leaves them."""
    client = world.aws("application-autoscaling")
    where = {"ServiceNamespace": "ecs", "ResourceId": "service/safawinet-prod/safawinet-api-prod"}
    client.register_scalable_target(**where, ScalableDimension="ecs:service:DesiredCount", MinCapacity=1, MaxCapacity=10)
    run = world.opsctl("-o", "json", "service", "scale", "api", "1", "-y", check=0).json
    assert {change["kind"]: change["state"] for change in run["changes"]} == {"set-bounds": "done", "set-desired-count": "applied"}
    world.undo(run["run"])
    assert (world.service("api")["desiredCount"], world.bounds()) == (2, (1, 10))


def test_what_was_taken_back_once_is_no_longer_ours(world: World) -> None:
    """Somebody sets by hand what the run had set, after its undo: undone again, it stays."""
    run = world.opsctl("-o", "json", "service", "scale", "worker", "4", "-y", check=0).json["run"]
    first = world.undo(run).json
    world.aws("ecs").update_service(cluster="safawinet-prod", service="safawinet-worker-prod", desiredCount=4)
    again = world.undo(run).json
    assert again["result"] == "unchanged"
    assert [change["why"] for change in again["changes"]] == [f"undone by run {first['run']}"]
    assert world.service("worker")["desiredCount"] == 4


def test_what_was_made_again_is_taken_back_again(world: World) -> None:
    """An undo that was undone has taken nothing back."""
    run = world.opsctl("-o", "json", "service", "scale", "worker", "4", "-y", check=0).json["run"]
    undone = world.undo(run).json["run"]
    assert world.undo(undone).json["result"] == "changed"
    assert world.service("worker")["desiredCount"] == 4
    assert world.undo(run).json["result"] == "changed"
    assert world.service("worker")["desiredCount"] == 1


@pytest.mark.parametrize(("run", "said"), [("no-such-run", "runs list"), ("", "it is empty")])
def test_an_unknown_run_is_named(world: World, run: str, said: str) -> None:
    refused = world.undo(run)
    assert refused.code == 2
    assert said in refused.err


def test_what_was_refused_and_made_by_somebody_else_is_not_ours(world: World) -> None:
    world.fault("aws", "ecs.UpdateService", "refuse")
    run = world.opsctl("-o", "json", "service", "scale", "worker", "4", "-y", check=1).json["run"]
    world.aws("ecs").update_service(cluster="safawinet-prod", service="safawinet-worker-prod", desiredCount=4)
    assert world.opsctl("-o", "json", "runs", "resume", run, check=0).json["result"] == "unchanged"
    world.opsctl("runs", "undo", run, "-y")
    assert world.service("worker")["desiredCount"] == 4


def test_a_run_that_goes_on_is_not_taken_back(world: World) -> None:
    world.fault("aws", "ecs.UpdateService", "slow", seconds=25)
    first = world.opsctl.start("-o", "json", "service", "scale", "worker", "3", "-y")
    until(lambda: any(step["state"] == "begun" for run in world.runs() for step in steps(world, run)))
    (run,) = world.runs()
    refused = world.opsctl("runs", "undo", run, "-y", check=5)
    assert f"run/{run} is locked by" in refused.err
    world.heal()
    assert first.wait().code == 0
    assert world.opsctl("-o", "json", "runs", "undo", run, "-y", check=0).json["result"] == "changed"


def steps(world: World, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.opsctl("-o", "json", "runs", "show", run, check=0).json["Steps"]
    return found
