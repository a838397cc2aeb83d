"""Snapshots and restores through the adapter: found, made once, and never mistaken for somebody else's."""

from __future__ import annotations

from typing import Any

import pytest

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.aws.snapshots import Snapshots, Surroundings
from opsctl.errors import NotFound, ReadOnly, Refused

OURS = {"opsctl": "run-1", "opsctl-step": "1"}
ALONE = {"DBInstanceIdentifier": "alone", "DBInstanceClass": "db.t4g.small", "Engine": "postgres", "AllocatedStorage": 20}
LIKE = Surroundings(engine="postgres", subnets="", security_groups=(), port=0, parameters="", instance_class="db.t4g.small")


@pytest.fixture
def snapshots(writing: AwsSession) -> Snapshots:
    """An account with a cluster `prod`, its member `prod-1`, and an instance that stands alone."""
    login = {"MasterUsername": "root", "MasterUserPassword": "not-a-password"}
    writing.call("rds", "create_db_cluster", DBClusterIdentifier="prod", Engine="aurora-postgresql", **login)
    member = {"DBClusterIdentifier": "prod", "DBInstanceClass": "db.r6g.large", "Engine": "aurora-postgresql"}
    writing.call("rds", "create_db_instance", DBInstanceIdentifier="prod-1", **member)
    writing.call("rds", "create_db_instance", **ALONE, **login)
    return Snapshots(writing)


def manual(snapshots: Snapshots, of: str | None = None) -> list[tuple[str, str, str]]:
    return [(s.id, s.kind, s.of) for s in snapshots.all(of) if s.manual]


def test_both_kinds_are_listed_the_newest_first(snapshots: Snapshots) -> None:
    snapshots.create("cluster", "prod", "first", {**OURS, "opsctl-name": "first"})
    snapshots.create("instance", "alone", "second", {**OURS, "opsctl-name": "first", "hold": "the auditors"})
    assert manual(snapshots) == [("second", "instance", "alone"), ("first", "cluster", "prod")]
    assert manual(snapshots, "prod") == [("first", "cluster", "prod")]
    first, second = snapshots.find("first"), snapshots.find("second")
    assert first is not None
    assert second is not None
    assert (first.ours, first.held, first.status, first.size) == (True, None, "available", 1)
    assert (second.ours, second.held, second.size) == (False, "the auditors", 20)
    assert first.created is not None
    assert first.created.tzinfo is not None
    assert snapshots.find("first", "instance") is None
    assert snapshots.find("third") is None
    assert snapshots.find("") is None, "AWS takes it for any"


def test_the_same_step_again_has_no_second_effect_and_another_is_refused(snapshots: Snapshots) -> None:
    for kind, of in (("cluster", "prod"), ("instance", "alone")):
        snapshots.create(kind, of, f"{of}-1", OURS)  # type: ignore[arg-type]
        snapshots.create(kind, of, f"{of}-1", OURS)  # type: ignore[arg-type]
        with pytest.raises(Refused, match=f"already a .*{of}-1"):
            snapshots.create(kind, of, f"{of}-1", {**OURS, "opsctl": "run-2"})  # type: ignore[arg-type]
    assert len(manual(snapshots)) == 2


def test_what_is_gone_is_deleted_already(snapshots: Snapshots) -> None:
    snapshots.create("cluster", "prod", "first", OURS)
    snapshots.delete("cluster", "first")
    snapshots.delete("cluster", "first")
    assert manual(snapshots) == []


def test_a_cluster_comes_before_an_instance_and_a_member_says_whose_it_is(snapshots: Snapshots) -> None:
    cluster, member, alone = (snapshots.place(name) for name in ("prod", "prod-1", "alone"))
    assert cluster is not None
    assert member is not None
    assert alone is not None
    assert [(p.kind, p.cluster) for p in (cluster, member, alone)] == [("cluster", None), ("instance", "prod"), ("instance", None)]
    assert snapshots.place("prod", "instance") is None
    assert snapshots.place("nothing") is None
    assert snapshots.place("") is None, "AWS takes it for any"
    assert snapshots.surroundings("", "instance") is None


def test_surroundings_are_the_writers_class_and_the_clusters_network(snapshots: Snapshots) -> None:
    found, alone = snapshots.surroundings("prod", "cluster"), snapshots.surroundings("alone", "instance")
    assert found is not None
    assert (found.engine, found.instance_class, found.cluster_parameters) == ("aurora-postgresql", "db.r6g.large", "default.aurora8.0")
    assert alone is not None
    assert (alone.engine, alone.instance_class, alone.cluster_parameters) == ("postgres", "db.t4g.small", "")
    assert len(alone.security_groups) == 1
    assert snapshots.surroundings("nothing", "cluster") is None


def test_serverless_capacity_is_carried_over(snapshots: Snapshots, writing: AwsSession) -> None:
    how = {"ServerlessV2ScalingConfiguration": {"MinCapacity": 0.5, "MaxCapacity": 8}}
    login = {"MasterUsername": "root", "MasterUserPassword": "not-a-password"}
    writing.call("rds", "create_db_cluster", DBClusterIdentifier="less", Engine="aurora-postgresql", **login, **how)
    member = {"DBClusterIdentifier": "less", "DBInstanceClass": "db.serverless", "Engine": "aurora-postgresql"}
    writing.call("rds", "create_db_instance", DBInstanceIdentifier="less-1", **member)
    like = snapshots.surroundings("less", "cluster")
    assert like is not None
    assert like.capacity == (0.5, 8)
    snapshots.create("cluster", "less", "saved", OURS)
    snapshots.restore("cluster", "saved", "copy", like, OURS)
    raw: dict[str, Any] = writing.call("rds", "describe_db_clusters", DBClusterIdentifier="copy")["DBClusters"][0]
    assert raw["ServerlessV2ScalingConfiguration"] == {"MinCapacity": 0.5, "MaxCapacity": 8.0}


def test_a_copy_is_made_once_closed_and_says_where_it_is_from(snapshots: Snapshots, writing: AwsSession) -> None:
    snapshots.create("instance", "alone", "saved", OURS)
    tags = {**OURS, "opsctl-snapshot": "arn:saved"}
    asked: list[dict[str, str]] = []
    hear = writing.client("rds").meta.events.register
    hear("before-call.rds.RestoreDBInstanceFromDBSnapshot", lambda params, **_: asked.append(params["body"]))
    snapshots.restore("instance", "saved", "copy", LIKE, tags)
    snapshots.restore("instance", "saved", "copy", LIKE, {**tags, "opsctl": "run-2"})
    assert {(body["PubliclyAccessible"], body["MultiAZ"]) for body in asked} == {("false", "false")}
    place = snapshots.place("copy")
    assert place is not None
    assert place.tags == tags
    with pytest.raises(Refused, match="already a database copy"):
        snapshots.restore("instance", "saved", "copy", LIKE, {**tags, "opsctl-snapshot": "arn:another"})


def test_the_origin_tells_two_of_one_name_apart_and_is_no_longer_than_a_tag_may_be(snapshots: Snapshots) -> None:
    origins = set()
    for _ in range(2):
        snapshots.create("cluster", "prod", "x" * 255, OURS)
        found = snapshots.find("x" * 255)
        assert found is not None
        origins.add(found.origin)
        snapshots.delete("cluster", found.id)
    assert {len(origin) for origin in origins} == {256}
    assert len(origins) == 2


def test_what_is_not_there_is_not_found(snapshots: Snapshots) -> None:
    with pytest.raises(NotFound):
        snapshots.create("cluster", "nothing", "first", OURS)
    with pytest.raises(NotFound):
        snapshots.restore("instance", "nothing", "copy", LIKE, OURS)


def test_a_reading_one_makes_nothing(snapshots: Snapshots, reading: AwsSession) -> None:
    with pytest.raises(ReadOnly):
        Snapshots(reading).create("cluster", "prod", "first", OURS)
    assert manual(snapshots) == []
