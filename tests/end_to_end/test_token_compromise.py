"""The main job: what was stolen before the playbook, or refreshed during it, opens nothing after it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bad_days import plain, runs, taken
from terminal import until
from thieves import Refresher, Session
from world import World

RUN = ("-o", "json", "playbook", "run", "token-compromise")
ASSUMED = ("--assume-answers", "-y")
FOREIGN = ("cache", "rate", "queue")
DATA_API = {'driver = "postgres"': 'driver = "rds-data"'}


@pytest.fixture(params=["postgres", "rds-data"])
def either(world: World, request: pytest.FixtureRequest) -> World:
    """The world, its database reached by one driver or the other."""
    world.configure(DATA_API if request.param == "rds-data" else {})
    return world


def foreign(world: World) -> dict[str, Any]:
    """What belongs to others in Valkey."""
    keys = world.snapshot()["keys"]
    return {name: keys[name] for name in FOREIGN}


def states(found: dict[str, Any]) -> dict[str, str]:
    """How each step of a playbook's run ended."""
    return {step["step"]: step["state"] for step in found["steps"]}


def key(world: World) -> str:
    """The signing key."""
    return world.secret("safawinet/prod/jwt", "secret")


def test_what_was_stolen_opens_nothing_afterwards(either: World) -> None:
    world = either
    stolen, before, others = Session.of(world, 7), key(world), foreign(world)
    assert stolen.opens

    with Refresher(Session.of(world, 8)) as thief:
        until(lambda: thief.loot)
        done = world.opsctl(*RUN, *ASSUMED, check=0)
    assert done.json["result"] == "changed", str(done)

    assert stolen.dead
    assert all(loot.dead for loot in thief.loot[-3:])
    assert world.count("SELECT count(*) FROM refresh_sessions WHERE user_id IN (7, 8)") == 0
    assert key(world) != before
    assert foreign(world) == others
    fresh = Session.of(world, 7)
    assert fresh.opens
    assert fresh.refreshed() is not None


def test_a_second_run_finds_it_all_so(either: World) -> None:
    world = either
    first = world.opsctl(*RUN, *ASSUMED, check=0)
    made = key(world)

    second = world.opsctl(*RUN, *ASSUMED, check=0)

    assert second.json["result"] == "unchanged", str(second)
    assert {change["state"] for change in second.json["changes"]} == {"done"}
    assert key(world) == made
    assert world.opsctl(*RUN, "-n", check=0).json["result"] == "unchanged"
    assert [len(world.sent()[channel]) for channel in ("slack", "statuspage")] == [1, 1], "people are told once"
    told = world.opsctl("runs", "show", first.json["run"], check=0).out
    assert "token-compromise" in told
    assert key(world) not in told
    assert world.opsctl("-o", "json", "runs", "verify", check=0).json["chains"] == "intact"


def test_a_dry_run_shows_it_and_changes_nothing(world: World) -> None:
    before = world.snapshot()
    shown = world.opsctl(*RUN, "-n", check=3)
    assert shown.json["result"] == "would-change"
    assert shown.json["dry_run"] is True
    assert world.snapshot() == before
    text = world.opsctl("playbook", "run", "token-compromise", "-n", "--as-shell", check=3).out
    for words in ("aws secretsmanager put-secret-value", "aws ecs update-service", 'DELETE FROM "refresh_sessions"', "force-logout-all"):
        assert words in text
    assert world.snapshot() == before


@pytest.mark.parametrize("exposed", ["no", "yes"])
def test_one_users_compromise(world: World, exposed: str) -> None:
    stolen, other, before = Session.of(world, 7), Session.of(world, 8), key(world)
    line = ("playbook", "run", "token-compromise", "scope=single", "user=user7@example.com", "-y")

    done = world.opsctl(*line, typed={"key exposed?": exposed, "[yes/no": "yes"})

    assert done.code == 0, str(done)
    assert stolen.dead
    assert other.opens is (exposed == "no")
    assert (key(world) == before) is (exposed == "no")
    assert Session.of(world, 7).opens


@pytest.mark.parametrize("user", ["--help", "-n", "user7@example.com --yes", "{scope}", "'; DROP TABLE users; --", "a\nb", "*"])
def test_a_value_is_never_more_than_a_value(world: World, user: str) -> None:
    before = world.snapshot()
    done = world.opsctl(*RUN, "scope=single", f"user={user}", *ASSUMED)
    said = plain(done, 1)
    assert "no user" in said
    assert done.json["result"] == "failed"
    assert world.snapshot() == before


def test_without_a_terminal_it_waits_and_another_process_takes_it_up(world: World) -> None:
    stolen = Session.of(world, 7)
    waiting = world.opsctl(*RUN, "-y")
    plain(waiting, 7)
    run = waiting.json["run"]
    assert waiting.json["result"] == "waiting"
    assert f"runs resume {run}" in waiting.err
    assert [row["run"] for row in world.opsctl("-o", "json", "runs", "list", "--active").json] == [run]

    again = world.opsctl("-o", "json", "runs", "resume", run)
    assert (again.code, again.json["result"]) == (7, "waiting"), str(again)
    done = world.opsctl("-o", "json", "runs", "resume", run, "--assume-answers", "-y", check=0)

    assert done.json["run"] == run
    assert done.json["result"] == "changed"
    assert stolen.dead
    assert world.opsctl("runs", "verify", check=0)


@pytest.mark.parametrize("call", ["secretsmanager.PutSecretValue", "secretsmanager.UpdateSecretVersionStage", "ecs.UpdateService"])
def test_killed_in_the_middle_another_process_ends_the_same(world: World, call: str) -> None:
    stolen, before = Session.of(world, 7), key(world)
    # The call has its effect at once, and only its answer is late: one that came late itself would begin a later rollout.
    world.fault("aws", call, "timeout-after-effect", seconds=1)
    child = world.opsctl.start(*RUN, *ASSUMED)
    until(lambda: taken(world))
    child.kill()

    run = runs(world)[0]
    assert run["state"] == "interrupted"
    done = world.opsctl("-o", "json", "runs", "resume", run["run"], check=0)

    assert done.json["result"] == "changed"
    assert stolen.dead
    assert key(world) != before
    assert world.opsctl(*RUN, *ASSUMED, check=0).json["result"] == "unchanged"
    assert world.opsctl("runs", "verify", check=0)


def test_a_failed_rollout_stops_it_and_retrying_finishes_it(world: World) -> None:
    stolen = Session.of(world, 7)
    world.opsctl("sandbox", "fault", "rollout", "safawinet-api-prod", check=0)

    stopped = world.opsctl(*RUN, *ASSUMED)

    said = plain(stopped, 1)
    assert "roll" in said
    run = stopped.json["run"]
    assert states(stopped.json)["rollout"] not in ("changed", "unchanged")
    assert f"runs resume {run}" in stopped.err
    assert "--retry rollout" in stopped.err
    done = world.opsctl("-o", "json", "runs", "resume", run, "--retry", "rollout", "--reason", "the image is mended", check=0)
    assert states(done.json)["rollout"] == "changed"
    assert stolen.dead
    assert Session.of(world, 7).opens
    assert world.opsctl("runs", "verify", check=0)


def test_a_key_that_leaked_too_is_rotated_once_more_and_all_that_rests_on_it_with_it(world: World) -> None:
    found = world.opsctl(*RUN, *ASSUMED, check=0).json
    first = key(world)
    again = world.opsctl("-o", "json", "runs", "resume", found["run"], "--retry", "key", "--reason", "leaked too", "-y", check=0)
    assert key(world) != first
    assert "Repeated: key, rollout, finish, stored" in again.err
    assert [states(again.json)[step] for step in ("key", "rollout", "finish")] == ["changed"] * 3
    assert world.opsctl("service", "redeploy", "api", "worker", "-n").code == 0
    world.opsctl("auth", "verify", check=0)


def test_without_a_login_the_api_is_skipped_and_the_rest_goes_on(world: World) -> None:
    """The administrator's token was signed with the old key; nobody is there to give a new one."""
    text = (world.config / "sandbox.toml").read_text()
    head, _, tail = text.partition("[api.login]")
    (world.config / "sandbox.toml").write_text(head + tail[tail.index("[api.test]") :])
    stolen = Session.of(world, 7)
    world.opsctl("secrets", "rotate", "jwt", "--value-from", "generate", "-y", check=0)
    world.opsctl("service", "redeploy", "api", "worker", "-y", check=0)

    done = world.opsctl("-o", "json", "logout", "all", "-y", check=0)

    assert done.json["result"] == "partial"
    assert [change["state"] for change in done.json["changes"]] == ["applied", "applied", "skipped"]
    assert stolen.dead
    assert json.dumps(done.json).count("administrator token has been rotated") == 1
