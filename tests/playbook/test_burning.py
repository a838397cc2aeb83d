"""Every shipped playbook proves that its incident is over: on a world that still burns it ends 1, and 0 once that world is mended.

Each entry says what is typed and how the world burns; every question is answered as by a person who believes that all is well.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from machines import built
from terminal import Terminal
from world import ROOT, World

from opsctl.adapters.host.machine import Machine

CONTACT = "contact=156855158284"
RDS = "Safawinet-RDS-Connections"
Act = Callable[[World], Any]


@dataclass(frozen=True)
class Fire:
    """One way in which the incident of a playbook isn't over: `words` are its parameters, `stops` is the step that finds out."""

    playbook: str
    words: tuple[str, ...]
    burn: Act
    stops: str
    mend: Act = World.heal
    answers: Mapping[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.playbook}-{self.stops}"


def fault(part: str, operation: str, action: str, seconds: float = 0.0) -> Act:
    return lambda world: world.fault(part, operation, action, seconds=seconds, times=0)


def figure(metric: str, value: float) -> Act:
    return lambda world: world.opsctl("sandbox", "fault", "figure", metric, str(value), check=0)


def nothing(world: World) -> None:
    """Do nothing: it burns by itself, or can't be mended from here."""


def take_connections(world: World) -> None:
    world.control("POST", "/connections", {})


def wait_for_a_lock(world: World) -> None:
    world.control("POST", "/queries", {"count": 2, "kind": "waiting"})
    world.count("SELECT count(pg_sleep(5.5))")


def alarm(state: str) -> Act:
    return lambda world: world.aws("cloudwatch").set_alarm_state(AlarmName=RDS, StateValue=state, StateReason="as CloudWatch would")


def act_as_the_contractor(world: World) -> None:
    """A role's session that the user began works on, whatever becomes of the user."""
    lent = world.aws("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/prod-debug", RoleSessionName="former-contractor")
    keys = {name: lent["Credentials"][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}
    found = world.rehearsal._session.create_client(
        "secretsmanager",
        region_name="us-east-1",
        endpoint_url=world.facts["aws"],
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    found.get_secret_value(SecretId="safawinet/prod/jwt")


def keep_a_session(world: World) -> None:
    """Whatever deletes user 9's sessions deletes none, as a trigger of another team's would have it."""
    with world.database() as connection:
        connection.execute("CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        connection.execute(
            "CREATE TRIGGER stays BEFORE DELETE ON refresh_sessions FOR EACH ROW WHEN (OLD.user_id = 9) EXECUTE FUNCTION stays()"
        )


def let_it_go(world: World) -> None:
    with world.database() as connection:
        connection.execute("DROP TRIGGER stays ON refresh_sessions")


def change_the_function(world: World) -> None:
    """Somebody puts another value into the authorizer."""
    functions = world.aws("lambda", "us-west-2")
    functions.update_function_configuration(
        FunctionName="hh-authz", Environment={"Variables": {"EDGE_SHARED_SECRET": "somebody-elses-value"}}
    )


def turn_away(world: World) -> None:
    """The limit, which only counted, blocks."""
    world.opsctl("protection", "rate-limit", "1000", "--block", "-y", check=0)


NOBODY = {"Is this an attack": "yes", "Advanced active": "yes", "already block": "no", "the limit count?": "nobody", "more tasks": "no"}
LOGIN, HEALTH, LEASE = "POST /v1/auth/login", "GET /health", "POST /lease"
FIRES = [
    Fire("alert-response", (), take_connections, "over"),
    Fire("alert-response", (f"alarm={RDS}",), alarm("ALARM"), "silent", alarm("OK")),
    Fire("alert-response", (), figure("HTTPCode_Target_5XX_Count", 300), "over"),
    Fire("backup-and-restore", (), lambda world: world.control("POST", "/aws/snapshot-failure", {}), "backup"),
    Fire("bounce-handling", (), figure("Reputation.BounceRate", 0.12), "reputation"),
    Fire("bounce-handling", (), figure("Reputation.ComplaintRate", 0.004), "reputation"),
    Fire("connection-exhaustion", (), take_connections, "below"),
    Fire("connection-exhaustion", (), fault("api", HEALTH, "fail"), "healthy"),
    Fire("database-failover", (), fault("api", LOGIN, "fail"), "writes"),
    Fire("ddos", ("limit=1000",), nothing, "stopped", turn_away, NOBODY),
    Fire("ddos", (), fault("api", HEALTH, "fail"), "healthy"),
    Fire("emergency-maintenance", (), fault("api", LOGIN, "fail"), "signing-in"),
    Fire("forced-logout", ("scope=global",), fault("api", LOGIN, "fail"), "signing-in"),
    Fire("forced-logout", ("scope=single", "user=9"), keep_a_session, "one-user", let_it_go),
    Fire("high-response-times", (), fault("api", HEALTH, "slow", seconds=1.1), "answer"),
    Fire("high-response-times", (), figure("TargetResponseTime", 6.4), "figures"),
    Fire("revoke-pairing", (CONTACT,), fault("hh", LEASE, "fail"), "granted"),
    Fire("rotate-hh-secrets", ("which=hubspot-token",), fault("hubspot", "*account-info*", "fail"), "rotate"),
    Fire("scheduled-maintenance", ("at=now",), figure("HTTPCode_Target_5XX_Count", 300), "over"),
    Fire("slow-database", (), wait_for_a_lock, "none-long"),
    Fire("slow-database", (), fault("api", HEALTH, "slow", seconds=1.1), "answer"),
    Fire("token-compromise", (), fault("api", "POST /v1/auth/refresh", "fail"), "tokens"),
    Fire("token-compromise", (), figure("HTTPCode_Target_5XX_Count", 300), "over"),
    Fire("unauthorized-access", ("user=former-contractor",), act_as_the_contractor, "denied", nothing),
    Fire("user-report", (CONTACT,), fault("hh", LEASE, "fail"), "lease"),
]


def taken(world: World, fire: Fire) -> Any:
    """The playbook's run; questions that `answers` doesn't know are answered as expected, or by their first choice."""
    line = ("-o", "json", "playbook", "run", fire.playbook, *fire.words)
    if fire.answers:
        return world.opsctl(*line, "-y", typed=fire.answers)
    return world.opsctl(*line, "-y", "--assume-answers", env={"NEW_SECRET": world.facts["hs_next_token"]})


def failed(found: dict[str, Any]) -> str:
    """The step at which the run ended: the first that isn't done."""
    return next(str(step["step"]) for step in found["steps"] if step["state"] in ("failed", "begun", "pending"))


@pytest.mark.parametrize("fire", FIRES, ids=str)
def test_on_a_world_that_still_burns_it_ends_1_and_0_once_it_is_mended(world: World, fire: Fire) -> None:
    fire.burn(world)
    ended = taken(world, fire)
    assert ended.code == 1, str(ended)
    assert failed(ended.json) == fire.stops, str(ended)
    assert f"opsctl runs resume {ended.json['run']}" in ended.err

    if fire.mend is nothing:
        return
    fire.mend(world)
    again = ("--retry", fire.stops, "--reason", "it is mended", "-y")
    new = {"NEW_SECRET": world.facts["hs_next_token"]}
    done = world.opsctl("-o", "json", "runs", "resume", ended.json["run"], *again, typed=fire.answers, env=new)
    assert done.code == 0, str(done)


def test_every_shipped_playbook_has_its_fire() -> None:
    here = {path.stem for path in (ROOT / "playbooks").glob("*.yaml")}
    assert here == {fire.playbook for fire in FIRES} | {"docker-permissions", "rotate-edge-secret"}


def test_an_authorizer_that_somebody_changes_after_the_rotation_is_found_out(world: World) -> None:
    line = ("-o", "json", "playbook", "run", "rotate-edge-secret", "-y")
    left = world.opsctl(*line, typed={"Update releases/installer": "\x04", "[yes/no": "yes", "[ready/": "ready"})
    assert left.code == 7, str(left)
    run = left.json["run"]
    change_the_function(world)
    burning = world.opsctl("-o", "json", "runs", "resume", run, "--assume-answers", "-y")
    assert (burning.code, failed(burning.json)) == (1, "over"), str(burning)
    world.opsctl("runs", "undo", run, "-y")


def test_that_customers_are_still_refused_ends_the_rotation_of_the_edge_secret_1(world: World) -> None:
    answers = {"all customers logged in again?": "no", "[yes/no": "yes", "[ready/": "ready"}
    ended = world.opsctl("-o", "json", "playbook", "run", "rotate-edge-secret", "-y", typed=answers)
    assert (ended.code, failed(ended.json)) == (1, "back"), str(ended)
    again = ("--retry", "back", "--reason", "they have logged in again", "-y")
    done = world.opsctl("-o", "json", "runs", "resume", ended.json["run"], *again, typed={"all customers logged in again?": "yes"})
    assert done.code == 0, str(done)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A customer's machine on which all is well, which a child takes for its own."""
    machine = built(tmp_path / "m")
    listening = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)
    listening.bind("m/s")
    listening.listen()
    here = msgspec.structs.replace(machine, socket=tmp_path / "m" / "s")

    def become() -> None:
        Machine.found = classmethod(lambda cls: here)  # type: ignore[method-assign,assignment]

    yield become
    listening.close()


def test_a_customers_machine_has_to_be_good(opsctl: Terminal, elsewhere: Callable[[], None], tmp_path: Path) -> None:
    helper = tmp_path / "m" / "bin" / "docker-credential-hh"
    os.chmod(helper, 0o644)
    line = ("-o", "json", "-e", "local", "playbook", "run", "docker-permissions", "-y")
    burning = opsctl(*line, typed={"does it work now?": "yes"}, before=elsewhere)
    assert (burning.code, failed(burning.json)) == (1, "user"), str(burning)
    os.chmod(helper, 0o755)
    run = burning.json["run"]
    still = opsctl("-o", "json", "runs", "resume", run, "-y", typed={"does it work now?": "no"}, before=elsewhere)
    assert (still.code, failed(still.json)) == (1, "works"), str(still)
    done = opsctl("-o", "json", "runs", "resume", run, "-y", typed={"does it work now?": "yes"}, before=elsewhere)
    assert done.code == 0, str(done)


@pytest.mark.parametrize(
    "name", ["connection-exhaustion", "database-failover", "high-response-times", "slow-database", "emergency-maintenance"]
)
def test_a_dry_run_where_the_cluster_does_not_exist_says_so(world: World, name: str) -> None:
    world.configure({'cluster = "safawinet-prod"': 'cluster = "nowhere"'})
    shown = world.opsctl("playbook", "run", name, "-n")
    assert shown.code == 1, str(shown)
    assert "nowhere" in shown.out
    assert "could not be planned or checked" in shown.out


def test_a_run_of_a_playbook_that_an_older_release_made_is_still_shown(world: World) -> None:
    """Its steps were of other kinds, and its events told less; it can be looked at, and not taken up with another file."""
    left = world.opsctl("-o", "json", "playbook", "run", "connection-exhaustion", "-y")
    assert left.code == 7
    run = left.json["run"]
    with contextlib.closing(sqlite3.connect(world.ledger)) as ledger:
        (row,) = ledger.execute("SELECT row FROM runs WHERE id = ?", (run,)).fetchone()
        held = json.loads(row)
        held["details"]["digest"] = "0" * 64
        held["details"]["steps"] = [{"step": "1", "verify": "database connections"}, {"step": "2", "ask": "Who holds them?"}]
        ledger.execute("UPDATE runs SET row = ? WHERE id = ?", (json.dumps(held), run))
        ledger.commit()
    assert run in world.opsctl("runs", "show", run, check=0).out
    assert [each["run"] for each in world.opsctl("-o", "json", "runs", "list", "--active", check=0).json] == [run]
    refused = world.opsctl("runs", "resume", run, "--assume-answers", "-y", check=4)
    assert "has changed since run" in refused.err
