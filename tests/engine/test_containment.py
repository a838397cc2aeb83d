"""Several stores or instances of which one is dead: the others are done, and the run ends partly done and names what is left."""

from __future__ import annotations

import redis as sdk
from msgspec.structs import replace
from rig import START, Rig, SetAlone
from valkeys import two_primaries

from opsctl.adapters.redis import Redis
from opsctl.changes.backends import EndBlockers, EndQueries, LongQuery
from opsctl.changes.sessions import EndCachedSessions
from opsctl.engine.options import Options
from opsctl.errors import Unreachable
from opsctl.settings.application import RedisSettings, SessionSettings

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
            systems.redis = Redis("127.0.0.1", one, password=None, tls=False, writing=systems.writing)
        outcome = rig.run(EndCachedSessions(users=None, cutoff=START), SetAlone(name="api"))
        assert outcome.error is not None
        assert outcome.exit_code == 1
        assert outcome.result == "partial"
        assert rig.states(outcome) == ["failed", "applied"]
        told = outcome.error.what
        assert f"127.0.0.1:{other} can't be reached" in told
        assert f"127.0.0.1:{one} " not in told
        assert f"opsctl runs resume {outcome.run}" in outcome.error.next
        assert sdk.Redis(port=one).dbsize() == 0


class Backends:
    """Instances, each with a query that runs; those that are `dead` don't answer."""

    def __init__(self, *dead: str) -> None:
        self.dead, self.ended = set(dead), set[str]()

    def left(self, instance: str, queries: tuple[LongQuery, ...]) -> list[LongQuery]:
        if instance in self.dead:
            raise Unreachable(f"The database {instance} can't be reached.", "Check the network.")
        return [] if instance in self.ended else list(queries)

    def cancel(self, instance: str, queries: tuple[LongQuery, ...]) -> int:
        self.left(instance, ())
        self.ended.add(instance)
        return len(queries)

    idle_left, end_idle = left, cancel


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
    assert f"opsctl runs resume {outcome.run}" in outcome.error.next
    backends.dead.clear()
    again = rig.resume(outcome)
    assert again.result == "partial", "what runs there is still unknown"
    assert "nobody has looked for queries on it: opsctl database kill-long-running" in str(again.changes)


def test_an_instance_that_dies_meanwhile_keeps_the_queries_of_no_other(rig: Rig) -> None:
    meet(rig, backends := Backends())
    plan = rig.plan(EndBlockers(instance="two", sessions=(QUERY,), asked=True), ending("two", QUERY), ending("one", QUERY))
    backends.dead.add("two")
    outcome = rig.engine.perform(plan, Options(yes=True))
    assert (outcome.exit_code, outcome.result) == (1, "partial")
    assert backends.ended == {"one"}
