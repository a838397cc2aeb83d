"""Ctrl-C, SIGTERM and a closed terminal, at any moment: one line, exit 6, nothing lost, and the run can be taken up again."""

from __future__ import annotations

import os
import signal

import pytest
from bad_days import asked, plain, runs, states, stopped, taken
from terminal import until
from world import World, table

STOPS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("call", ["sts.GetCallerIdentity", "ecs.DescribeServices"])
def test_while_planning_nothing_is_changed_and_no_run_is_opened(world: World, stop: signal.Signals, call: str) -> None:
    before = world.snapshot()
    world.fault("aws", call, "slow", seconds=5)

    done = stopped(world, world.opsctl.start("service", "scale", "api", "4", "-y"), stop)

    plain(done, 6)
    assert runs(world) == []
    assert world.snapshot() == before


def test_at_the_question_nothing_is_changed(world: World) -> None:
    before = world.snapshot()
    child = world.opsctl.start("service", "scale", "api", "4", typed="")
    asked(child, b"[y/N]")
    os.kill(child.pid, signal.SIGINT)
    done = child.wait()

    plain(done, 6)
    assert runs(world) == []
    assert world.snapshot() == before


@pytest.mark.parametrize("stop", STOPS)
def test_at_a_question_of_a_step_nothing_is_answered(world: World, stop: signal.Signals) -> None:
    """Another thread asks that one than the one that is interrupted."""
    world.configure({table("channels"): ""})
    child = world.opsctl.start("notify", "slack", "--message", "look", "-y", typed="")
    asked(child, b"[done]: ")
    os.kill(child.pid, stop)
    plain(child.wait(20), 6)

    assert states(world) == ["pending"]
    world.opsctl("runs", "resume", runs(world)[0]["run"], typed="done\n", check=0)
    assert states(world) == ["applied"]


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_in_an_effect_it_is_let_finish_and_resumed(world: World, signals: tuple[signal.Signals, ...]) -> None:
    world.fault("aws", "ecs.UpdateService", "slow", seconds=2)

    done = stopped(world, world.opsctl.start("service", "scale", "api", "4", "-y"), *signals)

    plain(done, 6)
    run = runs(world)[0]["run"]
    resumed = world.opsctl("-o", "json", "runs", "resume", run, check=0)
    assert resumed.json["result"] == "changed"
    assert world.service("api")["desiredCount"] == 4
    assert world.bounds() == (4, 10)
    assert world.opsctl("runs", "verify").code == 0


def test_while_a_rollout_settles(world: World) -> None:
    world.rotate("safawinet/prod/jwt", "secret", "f" * 64)
    world.fault("aws", "ecs.UpdateService", "slow", seconds=0.5)
    child = world.opsctl.start("service", "redeploy", "api", "-y")
    until(lambda: taken(world))
    world.fault("aws", "ecs.DescribeTasks", "fail", times=0)
    until(lambda: "made" in states(world))
    os.kill(child.pid, signal.SIGINT)
    done = child.wait()
    world.heal()

    plain(done, 6)
    run = runs(world)[0]
    assert f"runs resume {run['run']}" in done.err
    assert world.opsctl("-o", "json", "runs", "resume", run["run"], check=0).json["result"] == "changed"
    assert world.opsctl("-o", "json", "service", "redeploy", "api", "-y", check=0).json["result"] == "unchanged"
    assert len([e for e in world.service("api")["events"] if "has begun a deployment" in e["message"] or "deployment" in e["message"]]) >= 1


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_in_the_middle_of_a_big_delete(world: World, signals: tuple[signal.Signals, ...]) -> None:
    """A batch waits for a row that somebody else holds; what was deleted before it stays deleted, and resume takes the rest."""
    with world.database() as somebody:
        somebody.execute("SELECT 1 FROM refresh_sessions WHERE id = (SELECT max(id) FROM refresh_sessions) FOR UPDATE")
        child = world.opsctl.start("logout", "all", "-y")
        until(lambda: world.count("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        for number in signals:
            os.kill(child.pid, number)
        somebody.rollback()
    done = child.wait()

    plain(done, 6)
    run = runs(world)[0]["run"]
    assert world.opsctl("-o", "json", "runs", "resume", run, check=0).json["result"] == "changed"
    assert world.count("SELECT count(*) FROM refresh_sessions") == 0
    assert world.opsctl("runs", "verify", check=0)
