"""`opsctl database status` and `failover`: three kinds of database, what stands against a failover, and one that takes its time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from terminal import Terminal, until
from world import CLUSTER, Rehearsal, World

from opsctl.adapters.aws.rds import Cluster, ClusterMember, RdsInstance
from opsctl.changes.failover import fit_cluster, fit_instance
from opsctl.errors import Refused
from opsctl.sandbox import lifecycle, postgres

SECOND, THIRD, REPORTS = f"{CLUSTER}-2", f"{CLUSTER}-3", "safawinet-reports"
OUR_CLUSTER = 'cluster = "safawinet-prod"\nname'


def shown(world: World, *words: str) -> Any:
    return world.opsctl("-o", "json", "database", *words, check=0).json


def done(world: World, *words: str) -> Any:
    return world.opsctl("-o", "json", "database", "failover", *words, "-y", check=0).json


def refused(world: World, *words: str, check: int = 4) -> str:
    """What a failover says that is refused; nothing may have failed over."""
    before = world.failovers(), world.writer()
    result = world.opsctl("database", "failover", *words, "-y", check=check)
    assert (world.failovers(), world.writer()) == before
    assert world.opsctl("database", "failover", *words, "-n").code == check
    return " ".join(result.err.split())


def alone(world: World, name: str = REPORTS) -> None:
    """The database is an instance by itself."""
    world.configure(replace={OUR_CLUSTER: f'instance = "{name}"\nname'})


def multi_az_cluster(world: World) -> None:
    """The database is a Multi-AZ DB cluster, which isn't Aurora."""
    rds, port = world.aws("rds"), int(world.facts["pg_port"])
    login = {"MasterUsername": "root", "MasterUserPassword": "not-a-password"}
    rds.create_db_cluster(DBClusterIdentifier="three", Engine="postgres", Port=port, AllocatedStorage=100, **login)
    for letter in "abc":
        where = {"DBClusterIdentifier": "three", "AvailabilityZone": f"us-east-1{letter}"}
        rds.create_db_instance(DBInstanceIdentifier=f"three-{letter}", Engine="postgres", DBInstanceClass="db.r6gd.large", **where)
    world.configure(replace={OUR_CLUSTER: 'cluster = "three"\nname'})


def test_status_of_an_aurora_cluster(world: World) -> None:
    found = shown(world, "status")
    assert found["Cluster"] | {"engine": ""} == {
        "cluster": CLUSTER,
        "kind": "Aurora",
        "engine": "",
        "status": "available",
        "writer": CLUSTER,
        "next_writer": SECOND,
        "global_database": None,
    }
    rows = found["Members"]
    assert [(row["instance"], row["role"], row["zone"], row["tier"], row["lag_ms"]) for row in rows] == [
        (CLUSTER, "writer", "us-east-1a", 0, None),
        (SECOND, "reader", "us-east-1b", 1, 19),
        (THIRD, "reader", "us-east-1c", 2, 20),
    ]
    assert all(row["connections"] is not None and row["cpu_percent"] > 0 for row in rows)
    assert [row["insights"] for row in rows] == ["on", "off", "off"]
    assert {row["port"] for row in found["Endpoints"]} == {int(world.facts["pg_port"])}
    assert "Could not be queried" not in found


def test_status_of_a_multi_az_instance(world: World) -> None:
    alone(world)
    found = shown(world, "status")["Instance"]
    told = {name: found[name] for name in ("kind", "zone", "standby", "status", "insights")}
    assert told == {
        "kind": "Multi-AZ instance",
        "zone": "us-east-1a",
        "standby": "us-east-1b",
        "status": "available",
        "insights": "off",
    }
    assert REPORTS in world.opsctl("status", check=0).out


def test_status_of_a_multi_az_cluster(world: World) -> None:
    multi_az_cluster(world)
    found = shown(world, "status")
    assert found["Cluster"]["kind"] == "Multi-AZ DB cluster"
    assert [row["role"] for row in found["Members"]] == ["writer", "reader", "reader"]


def test_status_needs_no_connection_to_the_database(world: World) -> None:
    world.configure(replace={'name = "safawinet"\nlogin': 'name = "elsewhere"\nlogin'})
    found = shown(world, "status")
    assert found["Members"][0]["connections"] == 24
    assert "Could not be queried" not in found


def test_what_cloudwatch_does_not_tell_is_said(world: World) -> None:
    world.fault("aws", "monitoring.*", "refuse", times=0)
    found = shown(world, "status")
    assert [row["lag_ms"] for row in found["Members"]] == [None, None, None]
    assert [row["what"] for row in found["Could not be queried"]] == ["CloudWatch's figures"]


@pytest.mark.parametrize("kind", ["cluster", "instance"])
def test_an_unknown_name_is_told(world: World, kind: str) -> None:
    world.configure(replace={OUR_CLUSTER: f'{kind} = "nobody"\nname'})
    for words in (("status",), ("failover", "-n")):
        assert "nobody" in world.opsctl("database", *words, check=1).err


def test_without_a_database_both_say_so(world: World) -> None:
    text = (world.config / "sandbox.toml").read_text()
    begin, end = text.index("[database]"), text.index("[redis]")
    (world.config / "sandbox.toml").write_text(text[:begin] + text[end:])
    for words in (("status",), ("failover", "-n")):
        assert "database" in world.opsctl("database", *words, check=2).err


def test_the_reader_of_the_lowest_tier_takes_over_and_a_write_proves_it(world: World) -> None:
    dry = world.opsctl("database", "failover", "-n", check=3)
    assert f"{CLUSTER} -> {SECOND}" in dry.out
    assert "(24 now)" in dry.out
    assert f"replica lag of {SECOND}: 19 ms" in dry.out
    assert "second outage" in dry.out
    changed = done(world)["changes"]
    assert world.writer() == SECOND
    assert changed[0]["why"] == f"{SECOND} is the writer; it was {CLUSTER}"
    assert changed[1]["evidence"]["seconds_without_writes"] < 60
    assert "s without writes" in changed[1]["why"]
    with world.database() as connection:
        assert connection.execute("SELECT to_regclass('opsctl_write_proof')").fetchone() == (None,)


def test_a_cloudwatch_that_cannot_be_asked_does_not_stand_in_the_way(world: World) -> None:
    world.fault("aws", "monitoring.*", "refuse", times=0)
    dry = " ".join(world.opsctl("database", "failover", "-n", check=3).out.split())
    assert f"all connections to {CLUSTER} break, and no write" in dry
    assert f"replica lag of {SECOND} unknown: AWS denied cloudwatch:GetMetricData" in dry
    done(world)
    assert world.writer() == SECOND


@pytest.mark.parametrize("kind", [alone, multi_az_cluster])
def test_nor_of_the_other_kinds(world: World, kind: Callable[[World], None]) -> None:
    kind(world)
    world.fault("aws", "monitoring.*", "refuse", times=0)
    assert done(world)["result"] == "changed"


def test_again_within_two_minutes_takes_another_wish(world: World) -> None:
    done(world)
    again = done(world)
    assert again["result"] == "unchanged"
    assert "done recently by run" in again["changes"][0]["why"]
    assert done(world, "--again")["result"] == "changed"
    assert world.writer() == CLUSTER


def test_the_named_reader_takes_over_and_stays(world: World) -> None:
    done(world, "--to", THIRD.upper())
    assert world.writer() == THIRD
    assert done(world, "--to", THIRD, "--again")["result"] == "unchanged"


def test_an_instance_swaps_its_zone(world: World) -> None:
    alone(world)
    changed = done(world)["changes"]
    assert changed[0]["why"] == "it runs in us-east-1b; it was in us-east-1a"
    assert "s without writes" in changed[1]["why"]


def test_a_multi_az_cluster_fails_over_to_a_named_reader(world: World) -> None:
    multi_az_cluster(world)
    done(world, "--to", "three-b")
    assert shown(world, "status")["Cluster"]["writer"] == "three-b"


def test_the_data_api_proves_it_too(world: World) -> None:
    world.configure(replace={'driver = "postgres"': 'driver = "rds-data"'})
    assert "s without writes" in done(world)["changes"][1]["why"]


def stop(name: str) -> Callable[[World], None]:
    return lambda world: world.aws("rds").stop_db_instance(DBInstanceIdentifier=name)


def lag(metric: str, name: str, value: float) -> Callable[[World], None]:
    """The newest minutes of a reader's lag."""

    def put(world: World) -> None:
        where = [{"Name": "DBInstanceIdentifier", "Value": name}]
        point = {"MetricName": metric, "Dimensions": where, "Timestamp": datetime.now(UTC), "Value": value, "Unit": "None"}
        world.aws("cloudwatch").put_metric_data(Namespace="AWS/RDS", MetricData=[point] * 9)

    return put


def no_reader(world: World) -> None:
    for name in (SECOND, THIRD):
        world.aws("rds").delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)


def global_member(world: World) -> None:
    world.aws("rds").create_global_cluster(GlobalClusterIdentifier="earth", SourceDBClusterIdentifier=world.facts["db_cluster_arn"])


def lagging_standby(world: World) -> None:
    multi_az_cluster(world)
    lag("ReplicaLag", "three-b", 31)(world)


def in_one_zone(world: World) -> None:
    world.aws("rds").create_db_instance(
        DBInstanceIdentifier="small", Engine="postgres", DBInstanceClass="db.t4g.small", AllocatedStorage=20
    )
    alone(world, "small")


GUARDS = [
    (stop(SECOND), ["--to", SECOND], "is stopped", "database status"),
    (lag("AuroraReplicaLag", SECOND, 60_000), [], "behind the writer, more than max-lag (5s)", "--to"),
    (lagging_standby, ["--to", "three-b"], "31.0 s behind", "--to"),
    (no_reader, [], "has no reader", "create-db-instance"),
    (global_member, [], "global database earth", "switchover-global-cluster"),
    (in_one_zone, [], "has no standby", "modify-db-instance"),
    (lambda world: alone(world, CLUSTER), [], f"member of the cluster {CLUSTER}", f'cluster = "{CLUSTER}"'),
]


@pytest.mark.parametrize(("prepare", "words", "why", "following"), GUARDS, ids=[guard[2] for guard in GUARDS])
def test_what_stands_against_a_failover(world: World, prepare: Callable[[World], None], words: list[str], why: str, following: str) -> None:
    prepare(world)
    said = refused(world, *words)
    assert why in said
    assert following in said.partition("next:")[2]


@pytest.mark.parametrize("fault", ["refuse", "fail"])
def test_a_global_database_that_cant_be_looked_for_stands_in_the_way_until_somebody_accepts_it(world: World, fault: str) -> None:
    world.fault("aws", "rds.DescribeGlobalClusters", fault, times=0)
    said = refused(world)
    assert "couldn't check whether" in said
    assert "--accept-global" in said.partition("next:")[2]
    planned = world.opsctl("database", "failover", "-n")
    assert "couldn't check whether safawinet-prod belongs to a global database" in " ".join(planned.out.split())
    done(world, "--accept-global")
    assert world.writer() == SECOND


def test_within_its_region_a_member_of_a_global_database_fails_over_when_accepted(world: World) -> None:
    global_member(world)
    done(world, "--accept-global")
    assert world.writer() == SECOND


@pytest.mark.parametrize(("status", "why"), [("failing-over", "already in progress"), ("upgrading", "is upgrading")])
def test_a_cluster_that_is_busy_is_left_alone(status: str, why: str) -> None:
    reader = ClusterMember("b", writer=False, status="available", zone="", endpoint="", port=0)
    cluster = Cluster("a", "arn", status, "aurora-postgresql", "", "", 0, [reader])
    with pytest.raises(Refused, match=why):
        fit_cluster(None, cluster, "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "why"), [("rebooting", "is already rebooting"), ("modifying", "is modifying")])
def test_an_instance_that_is_busy_is_left_alone(status: str, why: str) -> None:
    instance = RdsInstance("a", "arn", status, "postgres", "", "", "x", "y", True, "", "", 0, False)
    with pytest.raises(Refused, match=why):
        fit_instance(instance)


def test_a_reader_that_is_down_is_passed_over(world: World) -> None:
    stop(SECOND)(world)
    assert f"{CLUSTER} -> {THIRD}" in world.opsctl("database", "failover", "-n", check=3).out


def test_who_is_no_member_is_not_found(world: World) -> None:
    said = refused(world, "--to", "nobody", check=1)
    assert "no instance 'nobody'" in said
    assert THIRD in said
    alone(world)
    assert "one standby" in refused(world, "--to", SECOND, check=2)


@pytest.mark.parametrize("operation", ["rds.FailoverDBCluster", "rds.DescribeDBClusters"])
def test_throttled_it_still_fails_over_once(world: World, operation: str) -> None:
    world.fault("aws", operation, "throttle", times=2)
    done(world)
    assert [message for message in world.failovers() if "Completed" in message] == [f"Completed failover to DB instance: {SECOND}"]


def test_a_lost_answer_is_looked_up_not_asked_again(world: World) -> None:
    world.fault("aws", "rds.FailoverDBCluster", "timeout-after-effect", seconds=0.1)
    done(world)
    assert [message for message in world.failovers() if "Started" in message] == [f"Started cross AZ failover to DB instance: {SECOND}"]


def test_a_lost_answer_of_an_instance_too(world: World) -> None:
    alone(world)
    world.fault("aws", "rds.RebootDBInstance", "timeout-after-effect", seconds=0.1)
    done(world)
    assert world.failovers() == ["Multi-AZ instance failover started.", "Multi-AZ instance failover completed."]


def superuser(world: World, statement: str) -> None:
    with postgres.connect(
        int(world.facts["pg_port"]), world.facts["pg_superuser_password"], database=world.facts["database"]
    ) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def test_a_login_that_may_not_write_is_no_proof(world: World) -> None:
    superuser(world, "REVOKE TEMPORARY ON DATABASE safawinet FROM PUBLIC, safawinet")
    failed = world.opsctl("-o", "json", "database", "failover", "-y", check=1)
    assert "denied" in failed.err
    assert [change["state"] for change in failed.json["changes"]] == ["applied", "failed"]


def test_interrupted_before_a_write_it_says_why_and_goes_on_there(world: World) -> None:
    superuser(world, "ALTER ROLE safawinet CONNECTION LIMIT 0")
    try:
        child = world.opsctl.start("-o", "json", "database", "failover", "-y")
        until(lambda: "trying a test write: The database has no free connection" in child._said(2))
        os.kill(child.pid, signal.SIGINT)
        stopped = child.wait()
    finally:
        superuser(world, "ALTER ROLE safawinet CONNECTION LIMIT -1")
    assert (stopped.code, stopped.json["result"]) == (6, "partial")
    resumed = world.opsctl("-o", "json", "runs", "resume", stopped.json["run"], check=0)
    assert "s without writes" in resumed.json["changes"][1]["why"]
    assert len(world.failovers()) == 2


@pytest.fixture(scope="module")
def slow_rehearsal() -> Iterator[Rehearsal]:
    """A sandbox in which a failover takes a second."""
    made = Rehearsal(users=10, sessions=10)
    try:
        made.facts = lifecycle.up(made.folder, tempo=0.3, users=10, sessions=10)
        yield made
    finally:
        made.down()


@pytest.fixture
def slow(slow_rehearsal: Rehearsal, opsctl: Terminal, machine: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("OPSCTL_SANDBOX", str(slow_rehearsal.folder))
    slow_rehearsal.reset()
    found = World(slow_rehearsal, opsctl, machine)
    found.configure()
    monkeypatch.setenv("OPSCTL_CONFIG", str(found.config))
    return found


def test_it_watches_a_failover_that_takes_a_while(slow: World) -> None:
    with slow.database() as held:
        run = slow.opsctl("-o", "json", "database", "failover", "-y", check=0)
        with pytest.raises(psycopg.OperationalError):
            held.execute("SELECT 1")
    assert f"{CLUSTER} is failing over" in run.err
    assert run.json["changes"][1]["evidence"]["seconds_without_writes"] >= 0.8
    assert slow.writer() == SECOND


def test_an_aws_that_cannot_be_asked_meanwhile_ends_nothing(slow: World) -> None:
    child = slow.opsctl.start("-o", "json", "database", "failover", "-y")
    until(lambda: "is failing over" in child._said(2))
    slow.fault("aws", "rds.DescribeDBClusters", "fail", times=5)
    result = child.wait()
    slow.heal()
    assert (result.code, slow.writer()) == (0, SECOND)
    assert len(slow.failovers()) == 2


def test_begun_and_not_waited_for_it_is_proven_by_resuming(slow: World) -> None:
    begun = slow.opsctl("-o", "json", "database", "failover", "-y", "--no-wait", check=6)
    assert [change["state"] for change in begun.json["changes"]] == ["unknown", "pending"]
    proven = slow.opsctl("-o", "json", "runs", "resume", begun.json["run"], check=0)
    assert [change["state"] for change in proven.json["changes"]] == ["applied", "applied"]
    assert len(slow.failovers()) == 2


def test_killed_while_aws_works_it_is_taken_up(slow: World) -> None:
    child = slow.opsctl.start("database", "failover", "-y")
    until(lambda: "is failing over" in child._said(2))
    child.kill()
    (run,) = slow.runs()
    slow.opsctl("runs", "resume", run, check=0)
    assert slow.writer() == SECOND
    assert len(slow.failovers()) == 2


def test_somebody_elses_failover_between_plan_and_yes_is_enough(slow: World) -> None:
    plan = str(slow.home / "plan.json")
    slow.opsctl("database", "failover", "-n", "--save", plan, check=3)
    slow.aws("rds").failover_db_cluster(DBClusterIdentifier=CLUSTER)
    result = slow.opsctl("-o", "json", "apply", plan, "-y", check=0)
    assert [change["state"] for change in result.json["changes"]] == ["done", "applied"]
    assert result.json["changes"][1]["why"] == "a test write was committed"
    assert len(slow.failovers()) == 2


def test_an_application_sees_its_connections_drop_and_come_back(slow: World) -> None:
    seen: list[bool] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            try:
                with slow.database() as connection:
                    connection.execute("SELECT 1")
                seen.append(True)
            except psycopg.OperationalError:
                seen.append(False)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        until(lambda: True in seen)
        slow.opsctl("database", "failover", "-y", check=0)
        until(lambda: seen[-1])
    finally:
        ended.set()
        worker.join()
    assert (seen[0], False in seen, seen[-1]) == (True, True, True)
