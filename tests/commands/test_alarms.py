"""`opsctl alarms`: the critical alerts against their real sources, and whose transition of an alarm it is."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from customers import refusal, steps, told
from world import World

from opsctl.commands.alarms import _connections, _memory
from opsctl.errors import ExternalError, Unreachable

RDS, CPU = "Safawinet-RDS-Connections", "Safawinet-ECS-CPU"
NAMES = ["ALB 5xx errors", "ECS CPU", "ECS CPU", "RDS connections", "Redis memory", "Sentry error rate"]
FIRES = {
    "[alerts.alb-5xx]\nabove = 1": "[alerts.alb-5xx]\nabove = 0.05",
    "[alerts.ecs-cpu]\nabove = 70": "[alerts.ecs-cpu]\nabove = 10",
    "[alerts.rds-connections]\nabove = 80": "[alerts.rds-connections]\nabove = 0.5",
    "[alerts.redis-memory]\nabove = 80": "[alerts.redis-memory]\nabove = 0.001",
    "[alerts.sentry-errors]\nabove = 5": "[alerts.sentry-errors]\nabove = 0.4",
}


def alerts(world: World, code: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told(world, "alarms", "check", code=code)
    return found


def listed(world: World, name: str) -> dict[str, Any]:
    (found,) = [row for row in told(world, "alarms", "list") if row["alarm"] == name]
    return dict(found)


def set_state(world: World, *states: str) -> None:
    for state in states:
        world.aws("cloudwatch").set_alarm_state(AlarmName=RDS, StateValue=state, StateReason=f"it is {state}")


def test_all_is_well(world: World) -> None:
    found = alerts(world)
    assert [row["alert"] for row in found] == NAMES
    assert {row["state"] for row in found} == {"ok"}
    sources = " ".join(row["source"] for row in found)
    for words in ("5xx of the targets", "lowest minute of 5", "max_connections 100", "no maxmemory is set", "72,000 transactions"):
        assert words in sources
    assert "Sentry error rate" in world.opsctl("alarms", "check", check=0).out


def test_each_fires_above_its_own_threshold(world: World) -> None:
    world.configure(FIRES)
    found = alerts(world, 3)
    assert [row["alert"] for row in found if row["state"] == "fires"] == NAMES
    assert all(row["value"] > row["threshold"] for row in found)
    done = world.opsctl("alarms", "check")
    assert "Fires: ALB 5xx errors (api), ECS CPU (api)" in refusal(done, 3)
    assert "fires" in done.out


def test_what_cannot_be_asked_is_said_and_is_no_all_clear(world: World) -> None:
    world.fault("notices", "GET /sentry/*", "refuse", times=0)
    world.fault("aws", "elasticache.*", "refuse", times=0)
    found = {row["alert"]: row for row in alerts(world, 1)}
    assert [name for name, row in found.items() if row["state"] == "unknown"] == ["Redis memory", "Sentry error rate"]
    assert (found["Redis memory"]["value"], found["RDS connections"]["state"]) == (None, "ok")
    assert "denied" in found["Sentry error rate"]["source"]
    assert "Redis memory (safawinet-redis) couldn't be queried" in refusal(world.opsctl("alarms", "check"), 1)
    world.configure({"[alerts.ecs-cpu]\nabove = 70": "[alerts.ecs-cpu]\nabove = 10"})
    assert "Fires: ECS CPU" in refusal(world.opsctl("alarms", "check"), 3)


def test_nothing_configured_is_nothing_known(world: World) -> None:
    world.configure({'load-balancer = "app/safawinet-prod/50dc6c495c0c9188"\n': "", "[sentry]": "[alerts.nothing]"})
    assert "alerts" in refusal(world.opsctl("alarms", "check"), 2)
    text = (world.config / "sandbox.toml").read_text()
    begin, end = text.index("[alerts.nothing]"), text.index("# Snapshots.")
    (world.config / "sandbox.toml").write_text(text[:begin] + text[end:])
    found = {row["alert"]: row["source"] for row in alerts(world, 1) if row["state"] == "unknown"}
    assert set(found) == {"ALB 5xx errors", "Sentry error rate"}
    assert "load-balancer" in found["ALB 5xx errors"]


@pytest.mark.parametrize(("most", "state", "code"), [("", "unknown", 1), ("\nmost = 100", "ok", 1), ("\nmost = 20", "fires", 3)])
def test_connections_of_a_database_that_cannot_be_asked(world: World, most: str, state: str, code: int) -> None:
    key = "[alerts.rds-connections]\nabove = 80"
    world.configure({key: key + most})
    world.fault("aws", "secretsmanager.GetSecretValue", "refuse", times=0)
    found = {row["alert"]: row for row in alerts(world, code)}
    assert found["RDS connections"]["state"] == state
    assert "CloudWatch" in found["RDS connections"]["source"]


@pytest.mark.parametrize(("asleep", "code", "state"), [(0, 0, "ok"), (85, 3, "fires")])
def test_connections_where_the_role_sees_its_own_only(world: World, asleep: int, code: int, state: str) -> None:
    if asleep:
        world.control("POST", "/connections", {"count": asleep})
    with closing(owner(world)) as superuser:
        superuser.execute("REVOKE pg_monitor FROM opsctl_reader")
    (row,) = [row for row in alerts(world, code) if row["alert"] == "RDS connections"]
    assert (row["state"], row["value"] >= asleep) == (state, True)
    assert "of max_connections 100" in row["source"]
    assert "opsctl_reader can't see the queries of other roles" in row["source"]
    assert "GRANT pg_read_all_stats TO opsctl_reader" in row["source"]


def test_where_nobody_can_tell_the_connections_the_grant_is_said(world: World) -> None:
    world.fault("aws", "monitoring.*", "fail", times=0)
    with closing(owner(world)) as superuser:
        superuser.execute("REVOKE pg_monitor FROM opsctl_reader")
    (row,) = [row for row in alerts(world, 1) if row["alert"] == "RDS connections"]
    assert (row["state"], row["value"]) == ("unknown", None)
    assert "opsctl_reader can't see the queries of other roles" in row["source"]
    assert "GRANT pg_read_all_stats TO opsctl_reader" in row["source"]


def test_connections_of_an_instance_by_itself(world: World) -> None:
    instance = {'cluster = "safawinet-prod"\nname': 'instance = "safawinet-prod"\nname'}
    world.configure(instance)
    (row,) = [row for row in alerts(world) if row["alert"] == "RDS connections"]
    assert (row["of"], row["state"]) == ("safawinet-prod", "ok")
    world.configure({**instance, "[alerts.rds-connections]\nabove = 80": "[alerts.rds-connections]\nabove = 0.5\nmost = 100"})
    with closing(owner(world)) as superuser:
        superuser.execute("ALTER ROLE opsctl_reader NOLOGIN")
    (row,) = [row for row in alerts(world, 3) if row["alert"] == "RDS connections"]
    assert (row["of"], row["state"]) == ("safawinet-prod", "fires")
    assert "of the configured 100" in row["source"]


def test_connections_of_a_cluster_that_has_no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = Mock(query=Mock(side_effect=Unreachable("The database can't be reached.")))
    settings = Mock(instance="", cluster="ours")
    systems = Mock(database=denied, environment=Mock(database=settings), rds=Mock(cluster=Mock(return_value=Mock(writer=None))))
    with pytest.raises(ExternalError, match=r"can't be reached\. ours has no writer"):
        _connections(systems)


def owner(world: World) -> psycopg.Connection[Any]:
    """A connection of the superuser."""
    facts = world.facts
    how = {"user": "postgres", "password": facts["pg_superuser_password"], "autocommit": True}
    return psycopg.connect(host=facts["pg_host"], port=int(facts["pg_port"]), dbname=facts["database"], **how)


def test_answers_that_the_balancer_gives_itself_count_too(world: World) -> None:
    pairs = [{"Name": "LoadBalancer", "Value": "app/safawinet-prod/50dc6c495c0c9188"}]
    at = datetime.now(UTC) - timedelta(minutes=2)
    datum = {"MetricName": "HTTPCode_ELB_5XX_Count", "Dimensions": pairs, "Timestamp": at, "Value": 300.0}
    world.aws("cloudwatch").put_metric_data(Namespace="AWS/ApplicationELB", MetricData=[datum])
    (row,) = [row for row in alerts(world, 3) if row["state"] == "fires"]
    assert (row["alert"], round(row["value"])) == ("ALB 5xx errors", 5)
    assert "of the balancer 300" in row["source"]


def test_redis_is_measured_by_its_limit_where_it_has_one(world: World) -> None:
    cache = world.cache()
    cache.config_set("maxmemory", "512mb")
    try:
        (row,) = [row for row in alerts(world) if row["alert"] == "Redis memory"]
    finally:
        cache.config_set("maxmemory", "0")
    assert row["source"].endswith("of maxmemory 512 MiB")
    assert 0 < row["value"] < 80


def node(used: int, most: int) -> dict[str, int]:
    return {"used_memory": used * 2**20, "maxmemory": most * 2**20}


SILENT = Unreachable("Redis at c:3 can't be reached.", "Check the network.")


@pytest.mark.parametrize("other", [{}, {"c:3": SILENT}])
def test_the_fullest_of_a_clusters_primaries_is_what_fires(other: dict[str, Any]) -> None:
    systems = Mock(redis=Mock(infos=lambda: {"a:1": node(50, 1000), "b:2": node(45, 50), **other}))
    value, source = _memory(systems, 80)
    assert value == 90
    assert source.startswith(f"Redis INFO of b:2, the fullest of {2 + len(other)} primaries: used_memory 45.0 MiB of maxmemory 50 MiB")


def test_a_primary_that_cannot_be_asked_is_no_all_clear() -> None:
    systems = Mock(redis=Mock(infos=lambda: {"a:1": node(50, 1000), "c:3": SILENT}))
    with pytest.raises(Unreachable, match="c:3"):
        _memory(systems, 80)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[alerts.alb-5xx]\nabove = 1", "[alerts.alb-5xx]\nabove = 0"),
        ("[alerts.redis-memory]\nabove = 80", "[alerts.redis-memory]\nabove = -1"),
        ("[alerts.sentry-errors]\nabove = 5", "[alerts.sentry-errors]\nabove = 101"),
        ('[alerts.ecs-cpu]\nabove = 70\nover = "5m"', '[alerts.ecs-cpu]\nabove = 70\nover = "0m"'),
        ('[alerts.ecs-cpu]\nabove = 70\nover = "5m"', '[alerts.ecs-cpu]\nabove = 70\nover = "90s"'),
        ('[alerts.ecs-cpu]\nabove = 70\nover = "5m"', '[alerts.ecs-cpu]\nabove = 70\nover = "7d"'),
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused(world: World, old: str, new: str) -> None:
    world.configure({old: new})
    assert "alerts." in refusal(world.opsctl("alarms", "check"), 2)


def test_alarms_are_listed_with_who_looks_after_them(world: World) -> None:
    assert listed(world, RDS)["acknowledged"] == "nobody"
    assert (listed(world, CPU)["state"], listed(world, CPU)["acknowledged"]) == ("OK", None)
    run = told(world, "alarms", "ack", RDS, "-y")["run"]
    assert run in listed(world, RDS)["acknowledged"]
    world.configure({"protected = false": 'protected = false\nalarms = ["Safawinet-ECS-CPU", "gone"]'})
    assert [(row["alarm"], row["state"]) for row in told(world, "alarms", "list")] == [(CPU, "OK"), ("gone", "MISSING")]
    assert len(told(world, "alarms", "list", "--all")) == 4
    assert [row["alarm"] for row in told(world, "alarms", "list", RDS, CPU)] == [RDS, CPU]
    assert world.opsctl("alarms", "list", RDS, "--all").code == 2


def test_an_acknowledgement_lasts_as_long_as_its_transition(world: World) -> None:
    world.configure({'recently = "2m"': 'recently = "0s"'})
    told(world, "alarms", "ack", RDS, "-y")
    (change,) = steps(world.opsctl("-o", "json", "alarms", "ack", RDS, "-y", check=0))
    assert change["state"] == "done"
    assert "acknowledged it" in change["why"]
    set_state(world, "OK")
    (change,) = steps(world.opsctl("-o", "json", "alarms", "ack", RDS, "-y", check=0))
    assert (change["state"], change["why"]) == ("done", "there is nothing to acknowledge: the alarm is OK")
    set_state(world, "ALARM")
    assert listed(world, RDS)["acknowledged"] == "nobody"
    assert told(world, "alarms", "ack", RDS, "-y")["result"] == "changed"


def test_a_reason_is_written_only_to_an_alarm_that_is_in_alarm(world: World) -> None:
    before = world.aws("cloudwatch").describe_alarm_history(AlarmName=CPU)["AlarmHistoryItems"]
    found = told(world, "alarms", "ack", CPU, "--annotate", "we look into it", "-y")
    assert found["result"] == "unchanged"
    assert world.aws("cloudwatch").describe_alarm_history(AlarmName=CPU)["AlarmHistoryItems"] == before
    assert listed(world, CPU)["state"] == "OK"


def test_an_alarm_that_changed_since_the_plan_is_not_touched(world: World) -> None:
    plan = str(world.home / "plan.json")
    world.opsctl("alarms", "ack", RDS, "--annotate", "mine", "-n", "--save", plan, check=3)
    set_state(world, "OK", "ALARM")
    assert "went into ALARM again" in refusal(world.opsctl("apply", plan, "-y"), 4)
    assert world.acknowledged() == []
    assert listed(world, RDS)["reason"] == "it is ALARM"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (("list", RDS, "nope"), 1, "no alarm 'nope'"),
        (("ack", "nope"), 1, "no alarm 'nope'"),
        (("ack", "a" * 300), 1, "no alarm"),
    ],
)
def test_an_alarm_that_does_not_exist(world: World, line: tuple[str, ...], code: int, said: str) -> None:
    done = world.opsctl("alarms", *line, *(["-y"] if line[0] == "ack" else []))
    assert said in refusal(done, code)
    assert "alarms list" in done.err


def test_an_empty_reason_is_a_typing_mistake(world: World) -> None:
    assert world.opsctl("alarms", "ack", RDS, "--annotate", " ", "-y").code == 2


def test_an_alarm_whose_actions_are_disabled_says_that_nobody_is_told(world: World) -> None:
    assert listed(world, RDS)["warning"] == ""
    world.aws("cloudwatch").disable_alarm_actions(AlarmNames=[RDS])
    assert "nobody is notified" in listed(world, RDS)["warning"]
    (shown,) = [row for row in told(world, "status", "--only", "alarms")["Alarms"] if row["alarm"] == RDS]
    assert "nobody is notified" in shown["warning"]
