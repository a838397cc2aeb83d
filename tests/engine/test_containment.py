"""Several stores or instances of which one is dead: the others are done, and the run ends partly done and names what is left."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
import redis as sdk
from msgspec.structs import replace
from valkeys import two_primaries

from opsctl.adapters.aws.iam import AccessKey, Credentials, IamAccount, Rights
from opsctl.adapters.aws.session import Caller
from opsctl.adapters.redis.client import Redis
from opsctl.adapters.redis.endpoint import RedisEndpoint
from opsctl.changes.access import DeletePassword, SetDenial, SetKeys, denial
from opsctl.changes.backends import EndBlockers, EndQueries, LongQuery
from opsctl.changes.sessions import EndCachedSessions
from opsctl.engine.options import Options
from opsctl.engine.outcome import Outcome
from opsctl.errors import Denied, OpsctlError, Retry, Unreachable
from opsctl.settings.application import RedisSettings, SessionSettings
from opsctl.testing.rig import START, MemorySystems, Rig, SetAlone

SESSIONS = SessionSettings(
    table="sessions", user_column="user_id", users_table="users", redis_patterns=["session:*"], redis_user_pattern="session:{user}:*"
)


def test_the_others_keys_end_and_the_node_that_is_left_is_named(rig: Rig) -> None:
    with two_primaries() as ((one, other), (_, second)):
        cluster = sdk.RedisCluster(host="127.0.0.1", port=one)
        for number in range(200):
            cluster.set(f"session:{number}:x", "")
        second.kill()
        second.wait()
        environment = rig.engine.environment
        settings = replace(environment.settings, sessions=SESSIONS, redis=RedisSettings(cluster="c", tls=False))
        for systems in (rig.engine.read, rig.engine.write):
            systems.environment = replace(environment, settings=settings)
            systems.redis = Redis(RedisEndpoint("127.0.0.1", one, tls=False), writing=systems.writing)
        outcome = rig.run(EndCachedSessions(users=None, cutoff=START), SetAlone(name="api"))
        assert outcome.error is not None
        assert outcome.exit_code == 1
        assert outcome.result == "partial"
        assert rig.states(outcome) == ["failed", "applied"]
        told = outcome.error.what
        assert f"127.0.0.1:{other} is unreachable" in told
        assert f"127.0.0.1:{one} " not in told
        assert isinstance(outcome.error.next, Retry)
        assert outcome.error.next.run == outcome.run
        assert sdk.Redis(port=one).dbsize() == 0


class Backends:
    """Instances, each with a query that runs; those that are `dead` don't answer."""

    def __init__(self, *dead: str) -> None:
        self.dead, self.ended = set(dead), set[str]()

    def still_running(self, instance: str, queries: tuple[LongQuery, ...]) -> list[LongQuery]:
        if instance in self.dead:
            raise Unreachable(f"The database {instance} can't be reached.", "Check the network.")
        return [] if instance in self.ended else list(queries)

    def cancel(self, instance: str, queries: tuple[LongQuery, ...]) -> int:
        self.still_running(instance, ())
        self.ended.add(instance)
        return len(queries)

    idle_left, end_idle = still_running, cancel


QUERY = LongQuery(pid=1, backend_start=2, query_start=3, told="a report")


def ending(instance: str, *queries: LongQuery, **how: str) -> EndQueries:
    return EndQueries(instance=instance, queries=queries, older_than="5m", grace=1, **how)


def meet(rig: Rig, backends: Backends) -> None:
    for systems in (rig.engine.read, rig.engine.write):
        systems.backends = backends  # type: ignore[assignment]


def test_an_instance_that_cant_be_asked_keeps_the_queries_of_no_other(rig: Rig) -> None:
    meet(rig, backends := Backends("two"))
    outcome = rig.run(ending("one", QUERY), ending("two", unasked="it can't be reached"), ending("three", unseen="the Data API"))
    assert outcome.error is not None
    assert (outcome.exit_code, outcome.result) == (1, "partial")
    assert [change["state"] for change in outcome.changes] == ["applied", "pending", "skipped"]
    assert backends.ended == {"one"}
    assert "The database two can't be reached" in outcome.error.what
    assert isinstance(outcome.error.next, Retry)
    assert outcome.error.next.run == outcome.run
    backends.dead.clear()
    again = rig.resume(outcome)
    assert again.result == "partial", "what runs there is still unknown"
    assert "look for queries on it: opsctl database kill-long-running" in str(again.changes)


def test_an_instance_that_dies_meanwhile_keeps_the_queries_of_no_other(rig: Rig) -> None:
    meet(rig, backends := Backends())
    plan = rig.plan(EndBlockers(instance="two", sessions=(QUERY,), asked=True), ending("two", QUERY), ending("one", QUERY))
    backends.dead.add("two")
    outcome = rig.engine.perform(plan, Options(yes=True))
    assert (outcome.exit_code, outcome.result) == (1, "partial")
    assert backends.ended == {"one"}


class Iam:
    """One user with a key and a password, who is no administrator unless `last`; calls that are `refused` fail."""

    def __init__(self, *refused: str, last: bool = False) -> None:
        self.refused, self.made = set(refused), set[str]()
        statement = {"Effect": "Allow", "Action": "*" if last else "s3:Get*", "Resource": "*"}
        self.listed = IamAccount({"jo": Rights("arn:aws:iam::1:user/jo", {"own": {"Statement": [statement]}})}, [])

    def _call(self, name: str) -> None:
        if name in self.refused:
            raise Denied(f"AWS denies {name}.", "Ask for it.")
        self.made.add(name)

    def put_policy(self, user: str, policy: str, document: dict[str, Any]) -> None:
        self._call("put_policy")

    def set_key(self, user: str, key: str, *, active: bool) -> None:
        self._call("set_key")

    def delete_password(self, user: str) -> None:
        self._call("delete_password")

    def account(self) -> IamAccount:
        self._call("account")
        return self.listed

    def inline(self, user: str, policy: str) -> dict[str, Any] | None:
        return denial(compromised=True) if "put_policy" in self.made else None

    def keys(self, user: str) -> list[AccessKey]:
        return [AccessKey("AKIA1", "set_key" not in self.made, START)]

    def password(self, user: str) -> datetime | None:
        return None if "delete_password" in self.made else START

    def person(self, user: str) -> SimpleNamespace:
        return SimpleNamespace(arn=f"arn:aws:iam::1:user/{user}")

    def credentials(self, user: str) -> Credentials:
        return Credentials([], None, 0)


REVOKED = [
    SetDenial(user="jo", compromised=True),
    SetKeys(user="jo", keys=("AKIA1",), compromised=True),
    DeletePassword(user="jo"),
]


@pytest.fixture
def _me(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemorySystems, "caller", Caller("1", "arn:aws:iam::1:user/me", "me"))


def revoked(rig: Rig, iam: Iam) -> Outcome:
    for systems in (rig.engine.read, rig.engine.write):
        systems.iam = iam  # type: ignore[assignment]
    return rig.run(*REVOKED)


@pytest.mark.usefixtures("_me")
@pytest.mark.parametrize("refused", ["put_policy", "set_key", "delete_password"])
def test_one_way_of_access_that_cant_be_closed_keeps_no_other_open(rig: Rig, refused: str) -> None:
    iam = Iam(refused)
    outcome = revoked(rig, iam)
    assert outcome.error is not None
    assert (outcome.exit_code, outcome.result) == (1, "partial")
    assert {"put_policy", "set_key", "delete_password"} - iam.made == {refused}
    assert f"AWS denies {refused}" in outcome.error.what
    iam.refused.clear()
    assert rig.resume(outcome).result == "changed"


@pytest.mark.usefixtures("_me")
@pytest.mark.parametrize("iam", [Iam(last=True), Iam("account")], ids=["the last administrator", "nobody can tell"])
def test_what_the_guard_forbids_is_done_in_no_way(rig: Rig, iam: Iam) -> None:
    with pytest.raises(OpsctlError, match="the last administrator"):
        revoked(rig, iam)
    assert not iam.made & {"put_policy", "set_key", "delete_password"}


@pytest.mark.usefixtures("_me")
def test_what_the_guard_forbids_when_it_is_asked_again_ends_the_run(rig: Rig) -> None:
    iam = Iam("put_policy", "set_key", "delete_password")
    outcome = revoked(rig, iam)
    iam.refused.clear()
    iam.listed = Iam(last=True).listed
    again = rig.resume(outcome)
    assert again.error is not None
    assert "the last administrator" in again.error.what
    assert not iam.made & {"put_policy", "set_key", "delete_password"}
