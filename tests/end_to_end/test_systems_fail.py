"""Systems that are down, slow, or say no: what was done is named, what wasn't is said, and running it again finishes it."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from bad_days import plain, runs, states
from thieves import Session
from world import World

from opsctl.changes.sessions import EndDatabaseSessions
from opsctl.engine.runner import Runner
from opsctl.errors import CheckFailed, ExternalError, InputRequired, Interrupted, OpsctlError, Refused
from opsctl.protocols import ProgressCallback
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule

LOGOUT = "POST /v1/auth/force-logout*"


@pytest.mark.parametrize("part", ["postgres", "valkey", "server"])
def test_a_part_that_is_down(world: World, part: str) -> None:
    try:
        world.opsctl("sandbox", "fault", "crash", part, check=0)
        # Without its own database or cache the API answers 503, and nobody can tell what it did.
        alone = part == "server"
        for line, code in (("logout user 15 -n", 1 if alone else 3), ("logout user 15 -y", 1 if alone else 6)):
            done = world.opsctl(*line.split(), check=code)
            assert "is unreachable" in done.out + done.err
        rehearsed = world.opsctl("playbook", "run", "token-compromise", "-n", check=1 if alone else 3)
        assert "is unreachable" in rehearsed.out + rehearsed.err
        shown = world.opsctl("-o", "json", "status", check=0).json
        assert "is unreachable" in str(shown) or "503" in str(shown)
        # Where AWS answers, every other store was tried.
        assert len(runs(world)) == (0 if alone else 1)
    finally:
        world.rehearsal.up()
    world.opsctl("logout", "user", "15", "-y", check=0)


def test_a_sandbox_that_is_not_up(world: World) -> None:
    nowhere = {"OPSCTL_SANDBOX": str(world.home / "nowhere")}
    done = world.opsctl("service", "status", env=nowhere)
    assert "sandbox is not running" in plain(done, 2)
    assert "opsctl sandbox up" in done.err
    plain(world.opsctl("sandbox", "env", env=nowhere), 1)
    plain(world.opsctl("sandbox", "reset", env=nowhere), 1)


def test_a_wrong_account(world: World) -> None:
    world.configure({'account = "123456789012"': 'account = "999999999999"'})
    before = world.snapshot()
    for line in (("service", "scale", "api", "4", "-y"), ("logout", "all", "-n"), ("playbook", "run", "token-compromise", "-n")):
        said = plain(world.opsctl(*line), 4)
        assert "123456789012" in said
        assert "999999999999" in said
    assert world.snapshot() == before


def test_an_address_that_is_not_this_machine(world: World) -> None:
    world.configure({'endpoint = "world:aws"': 'endpoint = "http://192.0.2.1:80"'})
    plain(world.opsctl("service", "scale", "api", "4", "-y"), 4)


@pytest.mark.parametrize(
    ("call", "permission", "line"),
    [
        ("sts.GetCallerIdentity", "sts:GetCallerIdentity", "service scale api 4 -y"),
        ("ecs.DescribeServices", "ecs:DescribeServices", "service scale api 4 -y"),
        ("ecs.UpdateService", "ecs:UpdateService", "service scale api 4 -y"),
        ("secretsmanager.GetSecretValue", "secretsmanager:GetSecretValue", "logout user 15 -y"),
        ("secretsmanager.PutSecretValue", "secretsmanager:PutSecretValue", "secrets rotate mail-key --value-from generate -y"),
        ("rds.DescribeDBClusters", "rds:DescribeDBClusters", "logout user 15 -n"),
    ],
)
def test_a_permission_that_is_missing_is_named(world: World, call: str, permission: str, line: str) -> None:
    before = world.snapshot()
    world.fault("aws", call, "refuse", times=0)
    done = world.opsctl(*line.split())
    assert permission in plain(done, 1)
    world.heal()
    assert world.snapshot() == before
    assert "applied" not in (states(world) if world.ledger.exists() else [])
    again = world.opsctl(*line.split())
    assert again.code == (3 if "-n" in line else 0), str(again)


@pytest.mark.parametrize("call", ["sts.GetCallerIdentity", "ecs.DescribeServices", "ecs.UpdateService"])
def test_credentials_that_have_expired(world: World, call: str) -> None:
    world.configure({'login = "opsctl sandbox up"': 'login = "aws sso login --profile oncall"'})
    lifecycle.set_fault(world.rehearsal.folder, Rule("aws", call, "refuse", 0, 401, 0))
    done = world.opsctl("service", "scale", "api", "4", "-y")
    plain(done, 1)
    assert "aws sso login --profile oncall" in done.err
    world.heal()
    assert world.service("api")["desiredCount"] == 2


@pytest.mark.parametrize(("line", "code"), [("service status", 1), ("secrets list", 1), ("database status", 1), ("status", 0)])
def test_what_only_reads_says_the_login_line_too(world: World, line: str, code: int) -> None:
    world.configure({'login = "opsctl sandbox up"': 'login = "aws sso login --profile oncall"'})
    lifecycle.set_fault(world.rehearsal.folder, Rule("aws", "sts.GetCallerIdentity", "refuse", 0, 401, 0))
    done = world.opsctl(*line.split(), env={"COLUMNS": "300"}, check=code)
    assert "aws sso login --profile oncall" in done.out + done.err


def test_a_login_that_was_never_tried_is_not_one_that_failed(world: World) -> None:
    world.configure({'login = "opsctl sandbox up"': 'login = "aws sso login --profile oncall"'})
    lifecycle.set_fault(world.rehearsal.folder, Rule("aws", "*", "refuse", 0, 401, 0))
    done = world.opsctl("auth", "verify", check=1)
    assert "aws sso login --profile oncall" in done.err
    assert "new tokens are issued" not in done.out + done.err
    world.heal()
    world.fault("aws", "secretsmanager.GetSecretValue", "refuse", times=0)
    assert "secretsmanager:GetSecretValue" in world.opsctl("auth", "verify", check=1).err
    world.heal()
    world.fault("api", "POST /v1/auth/login", "refuse", times=0)
    assert "✗ new tokens are issued" in world.opsctl("auth", "verify", check=1).out


def test_throttled_a_little_it_waits_and_goes_on(world: World) -> None:
    world.fault("aws", "ecs.UpdateService", "throttle", times=2)
    assert world.opsctl("-o", "json", "service", "scale", "api", "4", "-y", check=0).json["result"] == "changed"


def test_throttled_for_good_it_says_so(world: World) -> None:
    world.fault("aws", "ecs.UpdateService", "throttle", times=0)
    done = world.opsctl("-o", "json", "service", "scale", "api", "4", "-y")
    assert "throttles" in plain(done, 1)
    assert done.json["result"] == "failed"
    world.heal()
    assert world.opsctl("runs", "resume", done.json["run"], check=0)
    assert world.service("api")["desiredCount"] == 4


@pytest.mark.parametrize("action", ["timeout-after-effect", "drop"])
@pytest.mark.parametrize(
    ("part", "call", "line"),
    [
        ("aws", "ecs.UpdateService", "service scale api 4 -y"),
        ("aws", "secretsmanager.PutSecretValue", "secrets rotate mail-key --value-from generate -y"),
        ("aws", "secretsmanager.UpdateSecretVersionStage", "secrets rotate mail-key --value-from generate -y"),
        ("api", LOGOUT, "logout user 15 -y"),
        ("api", LOGOUT, "logout all -y"),
    ],
)
def test_an_answer_that_is_lost_is_looked_up(world: World, part: str, call: str, line: str, action: str) -> None:
    world.fault(part, call, action)
    assert world.opsctl("-o", "json", *line.split(), check=0).json["result"] == "changed"
    assert world.opsctl("runs", "verify", check=0)


def test_an_api_that_never_answers_ends_unknown_and_is_resumed(world: World) -> None:
    stolen = Session.of(world, 15)
    world.fault("api", LOGOUT, "fail", times=0)
    done = world.opsctl("-o", "json", "logout", "user", "15", "-y")
    plain(done, 6)
    assert done.json["result"] == "unknown"
    assert [change["state"] for change in done.json["changes"]] == ["applied", "applied", "unknown"]
    world.heal()
    assert world.opsctl("-o", "json", "runs", "resume", done.json["run"], check=0).json["result"] == "changed"
    assert stolen.dead


def test_the_api_says_no_after_the_rest_is_done(world: World) -> None:
    world.fault("api", LOGOUT, "refuse", times=0)
    done = world.opsctl("-o", "json", "logout", "user", "15", "-y")
    plain(done, 1)
    assert done.json["result"] == "partial"
    assert [change["state"] for change in done.json["changes"]] == ["applied", "applied", "failed"]
    world.heal()
    assert world.opsctl("-o", "json", "logout", "user", "15", "-y", check=0).json["result"] == "changed"


def half(error: type[OpsctlError]) -> Callable[[], None]:
    """What makes a child's deletion of sessions end with an error after its first batches."""

    def arm() -> None:
        def apply(self: EndDatabaseSessions, write: Any, token: str, progress: ProgressCallback) -> Any:
            progress(1_200, None, "sessions")
            raise error("The database said no.", "Mend it.")

        EndDatabaseSessions.apply = apply  # type: ignore[method-assign]

    return arm


@pytest.mark.parametrize(
    ("error", "code", "result", "state"),
    [
        (ExternalError, 1, "partial", "failed"),
        (CheckFailed, 1, "partial", "failed"),
        (Refused, 4, "partial", "pending"),
        (Interrupted, 6, "partial", "pending"),
        (InputRequired, 7, "waiting", "pending"),
    ],
)
def test_what_ended_after_some_batches_says_how_many(world: World, error: type[OpsctlError], code: int, result: str, state: str) -> None:
    ended = world.opsctl("-o", "json", "logout", "all", "--only", "database", "-y", before=half(error), check=code)
    assert "1,200 sessions were done, then: The database said no" in ended.err
    change = ended.json["changes"][0]
    assert (ended.json["result"], change["state"], change["evidence"]) == (result, state, {"parts": ["1,200 sessions"]})
    # Taken up again, it still says what the earlier attempt did.
    resumed = world.opsctl("-o", "json", "runs", "resume", ended.json["run"], check=0).json
    assert resumed["changes"][0]["evidence"] == {"deleted": 50_000, "parts": ["1,200 sessions"]}
    assert "parts: 1,200 sessions" in world.opsctl("runs", "show", ended.json["run"], check=0).out


def killed_between_batches() -> None:
    """What makes a child die after its second batch."""
    whole, numbers = Runner._progress, itertools.count(1)

    def beat(self: Runner, *args: Any, **how: Any) -> None:
        whole(self, *args, **how)
        if next(numbers) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    Runner._progress = beat  # type: ignore[method-assign]


def refusing() -> None:
    """What makes a child's deletion fail at once."""

    def apply(self: EndDatabaseSessions, write: Any, token: str, progress: ProgressCallback) -> Any:
        raise ExternalError("The database said no.", "Mend it.")

    EndDatabaseSessions.apply = apply  # type: ignore[method-assign]


def test_what_a_killed_attempt_did_is_told_by_what_is_left(world: World) -> None:
    world.opsctl("logout", "all", "--only", "database", "-y", before=killed_between_batches)
    (run,) = world.runs()
    left = world.count("SELECT count(*) FROM refresh_sessions")
    assert 0 < left < 50_000
    told = f"{50_000 - left:,} sessions fewer than reviewed, after a call without an answer"
    failed = world.opsctl("-o", "json", "runs", "resume", run, before=refusing, check=1).json
    assert (failed["result"], failed["changes"][0]["evidence"]) == ("partial", {"parts": [told]})
    done = world.opsctl("-o", "json", "runs", "resume", run, check=0).json["changes"][0]
    assert (done["state"], done["evidence"]) == ("applied", {"deleted": left, "parts": [told]})


def test_tries_are_no_part_of_what_was_made(world: World) -> None:
    with world.database() as somebody:
        somebody.execute("LOCK TABLE refresh_sessions IN SHARE MODE")
        failed = world.opsctl("-o", "json", "logout", "user", "15", "--only", "database", "-y", check=1)
    change = failed.json["changes"][0]
    assert "is locked" in failed.err
    assert "done, then" not in failed.err
    assert (failed.json["result"], change["state"], change["evidence"]) == ("failed", "failed", {})
