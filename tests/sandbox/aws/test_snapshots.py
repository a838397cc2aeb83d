"""What the stand-in does with snapshots and restores, as AWS does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stand_in import CLUSTER, Aws

Refused = Callable[..., str]
BY_HAND = "before-the-upgrade"
ENGINE = "aurora-postgresql"


@pytest.fixture
def rds(aws: Aws) -> Any:
    return aws.client("rds")


def snapshot(rds: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=name)["DBClusterSnapshots"][0]
    return found


def cluster(rds: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]
    return found


def restore(rds: Any, name: str, **how: Any) -> dict[str, Any]:
    made: dict[str, Any] = rds.restore_db_cluster_from_snapshot(DBClusterIdentifier=name, SnapshotIdentifier=BY_HAND, Engine=ENGINE, **how)[
        "DBCluster"
    ]
    return made


def of_members(rds: Any) -> set[str]:
    """The instances in a cluster that have snapshots of their own."""
    members = {each["DBInstanceIdentifier"] for each in rds.describe_db_instances()["DBInstances"] if each.get("DBClusterIdentifier")}
    return members & {each["DBInstanceIdentifier"] for each in rds.describe_db_snapshots()["DBSnapshots"]}


def test_the_database_has_a_network_and_parameters_of_its_own_and_a_snapshot_that_somebody_made(rds: Any) -> None:
    found = cluster(rds, CLUSTER)
    assert (found["DBSubnetGroup"], found["DBClusterParameterGroup"]) == ("safawinet-private", "safawinet-prod-cluster")
    assert [group["VpcSecurityGroupId"] for group in found["VpcSecurityGroups"]] == ["sg-safawinet-db"]
    assert snapshot(rds, BY_HAND)["TagList"] == []
    assert of_members(rds) == set(), "a cluster's member has no snapshots"


def test_a_snapshot_fails_half_way_on_request_once(aws: Aws, rds: Any) -> None:
    aws.part.rds.snapshots.fail_next()
    rds.create_db_cluster_snapshot(DBClusterIdentifier=CLUSTER, DBClusterSnapshotIdentifier="one")
    aws.clock.pass_by(4)
    assert (snapshot(rds, "one")["Status"], snapshot(rds, "one")["PercentProgress"]) == ("failed", 50)
    rds.create_db_cluster_snapshot(DBClusterIdentifier=CLUSTER, DBClusterSnapshotIdentifier="two")
    aws.clock.pass_by(4)
    assert snapshot(rds, "two")["Status"] == "available"


def test_what_is_being_made_can_neither_be_restored_nor_deleted(aws: Aws, rds: Any, refused: Refused) -> None:
    rds.create_db_cluster_snapshot(DBClusterIdentifier=CLUSTER, DBClusterSnapshotIdentifier="young")
    how = {"DBClusterIdentifier": "copy", "SnapshotIdentifier": "young", "Engine": ENGINE}
    assert refused(rds.restore_db_cluster_from_snapshot, **how) == "InvalidDBClusterSnapshotStateFault"
    assert refused(rds.delete_db_cluster_snapshot, DBClusterSnapshotIdentifier="young") == "InvalidDBClusterSnapshotStateFault"
    aws.clock.pass_by(4)
    rds.delete_db_cluster_snapshot(DBClusterSnapshotIdentifier="young")
    assert refused(snapshot, rds=rds, name="young") == "DBClusterSnapshotNotFoundFault"


def test_a_cluster_is_restored_slowly_without_instance_and_without_data_api(aws: Aws, rds: Any, refused: Refused) -> None:
    made = restore(rds, "copy", Tags=[{"Key": "from", "Value": "it"}])
    assert (made["Status"], made["TagList"]) == ("creating", [{"Key": "from", "Value": "it"}])
    assert [cluster(rds, "copy")["Status"] for _ in range(2)] == ["creating"] * 2
    aws.clock.pass_by(4.5)
    found = cluster(rds, "copy")
    assert (found["Status"], found["DBClusterMembers"], found["HttpEndpointEnabled"], found["Port"]) == ("available", [], False, 5999)
    rds.enable_http_endpoint(ResourceArn=found["DBClusterArn"])
    assert cluster(rds, "copy")["HttpEndpointEnabled"] is True
    assert refused(restore, rds=rds, name="copy") == "DBClusterAlreadyExistsFault"
    assert refused(rds.enable_http_endpoint, ResourceArn=found["DBClusterArn"] + "x") == "ResourceNotFoundFault"


def test_an_instance_of_it_is_made_slowly_too(aws: Aws, rds: Any) -> None:
    restore(rds, "copy")
    made = rds.create_db_instance(
        DBInstanceIdentifier="copy-1", DBClusterIdentifier="copy", DBInstanceClass="db.r6g.large", Engine=ENGINE, PubliclyAccessible=False
    )["DBInstance"]
    assert made["DBInstanceStatus"] == "creating"
    aws.clock.pass_by(4.5)
    (shown,) = rds.describe_db_instances(DBInstanceIdentifier="copy-1")["DBInstances"]
    assert (shown["DBInstanceStatus"], shown["Endpoint"]) == ("available", {"Address": "127.0.0.1", "Port": 5999})
    assert [m["IsClusterWriter"] for m in cluster(rds, "copy")["DBClusterMembers"]] == [True]
    assert of_members(rds) == set()


def test_an_instance_of_its_own_is_restored_slowly(aws: Aws, rds: Any, refused: Refused) -> None:
    rds.create_db_instance(DBInstanceIdentifier="alone", DBInstanceClass="db.t4g.small", Engine="postgres", AllocatedStorage=20)
    rds.create_db_snapshot(DBInstanceIdentifier="alone", DBSnapshotIdentifier="alone-1")
    how = {"DBInstanceIdentifier": "copy", "DBSnapshotIdentifier": "alone-1"}
    assert refused(rds.restore_db_instance_from_db_snapshot, **how) == "InvalidDBSnapshotState"
    aws.clock.pass_by(4)
    made = rds.restore_db_instance_from_db_snapshot(**how, Tags=[{"Key": "from", "Value": "it"}])["DBInstance"]
    assert made["DBInstanceStatus"] == "creating"
    aws.clock.pass_by(4.5)
    (shown,) = rds.describe_db_instances(DBInstanceIdentifier="copy")["DBInstances"]
    assert (shown["DBInstanceStatus"], shown["TagList"]) == ("available", [{"Key": "from", "Value": "it"}])
    assert refused(rds.restore_db_instance_from_db_snapshot, **how) == "DBInstanceAlreadyExists"
