from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stand_in import CLUSTER, Aws

Refused = Callable[..., str]


@pytest.fixture
def rds(aws: Aws) -> Any:
    return aws.client("rds")


def status(rds: Any) -> str:
    return str(rds.describe_db_clusters(DBClusterIdentifier=CLUSTER)["DBClusters"][0]["Status"])


def test_the_endpoints_are_the_real_postgres(aws: Aws, rds: Any) -> None:
    cluster = rds.describe_db_clusters()["DBClusters"][0]
    assert (cluster["Endpoint"], cluster["ReaderEndpoint"], cluster["Port"]) == ("127.0.0.1", "127.0.0.1", 5999)
    assert cluster["DBClusterArn"] == aws.world.facts["db_cluster_arn"]
    assert cluster["DatabaseName"] == "safawinet"
    assert cluster["HttpEndpointEnabled"] is True
    instances = rds.describe_db_instances()["DBInstances"]
    assert [each["DBInstanceIdentifier"] for each in instances] == [CLUSTER, f"{CLUSTER}-2", f"{CLUSTER}-3", "safawinet-reports"]
    assert {(each["Endpoint"]["Address"], each["Endpoint"]["Port"]) for each in instances} == {("127.0.0.1", 5999)}


def test_a_failover_takes_a_while_and_changes_the_writer(aws: Aws, rds: Any) -> None:
    assert aws.writer() == CLUSTER
    begun = rds.failover_db_cluster(DBClusterIdentifier=CLUSTER, TargetDBInstanceIdentifier=f"{CLUSTER}-3")
    assert begun["DBCluster"]["Status"] == status(rds) == "failing-over"
    assert aws.writer() == CLUSTER
    aws.clock.pass_by(3.5)
    assert (status(rds), aws.writer()) == ("available", f"{CLUSTER}-3")


def test_a_failover_is_refused_as_aws_refuses_it(aws: Aws, rds: Any, refused: Refused) -> None:
    fail = rds.failover_db_cluster
    to_writer = {"DBClusterIdentifier": CLUSTER, "TargetDBInstanceIdentifier": CLUSTER}
    assert refused(fail, **to_writer) == "InvalidDBClusterStateFault"
    assert refused(fail, DBClusterIdentifier="nope") == "DBClusterNotFoundFault"
    fail(DBClusterIdentifier=CLUSTER)
    assert refused(fail, DBClusterIdentifier=CLUSTER) == "InvalidDBClusterStateFault"
    aws.clock.pass_by(3.5)
    assert aws.writer() == f"{CLUSTER}-2"


def test_a_failover_leaves_two_events(aws: Aws, rds: Any) -> None:
    rds.failover_db_cluster(DBClusterIdentifier=CLUSTER)
    aws.clock.pass_by(3.5)
    events = rds.describe_events(SourceType="db-cluster", SourceIdentifier=CLUSTER)["Events"]
    assert [(each["Message"], each["EventCategories"]) for each in events] == [
        (f"Started cross AZ failover to DB instance: {CLUSTER}-2", ["failover"]),
        (f"Completed failover to DB instance: {CLUSTER}-2", ["failover"]),
    ]
    assert (events[1]["Date"] - events[0]["Date"]).total_seconds() >= 2.9


def test_members_have_promotion_tiers_and_the_writer_insights(rds: Any) -> None:
    cluster = rds.describe_db_clusters(DBClusterIdentifier=CLUSTER)["DBClusters"][0]
    assert [each["PromotionTier"] for each in cluster["DBClusterMembers"]] == [0, 1, 2]
    assert cluster["MultiAZ"] is True
    instances = rds.describe_db_instances()["DBInstances"]
    assert [each["PerformanceInsightsEnabled"] for each in instances] == [True, False, False, False]


def test_a_multi_az_instance_swaps_its_zones(aws: Aws, rds: Any) -> None:
    def shown() -> tuple[str, str, str]:
        (found,) = rds.describe_db_instances(DBInstanceIdentifier="safawinet-reports")["DBInstances"]
        assert found["MultiAZ"] is True
        assert "DBClusterIdentifier" not in found
        return found["DBInstanceStatus"], found["AvailabilityZone"], found["SecondaryAvailabilityZone"]

    assert shown() == ("available", "us-east-1a", "us-east-1b")
    begun = rds.reboot_db_instance(DBInstanceIdentifier="safawinet-reports", ForceFailover=True)["DBInstance"]
    assert begun["DBInstanceStatus"] == "rebooting"
    assert shown() == ("rebooting", "us-east-1a", "us-east-1b")
    aws.clock.pass_by(3.5)
    assert shown() == ("available", "us-east-1b", "us-east-1a")
    rds.reboot_db_instance(DBInstanceIdentifier="safawinet-reports")
    aws.clock.pass_by(3.5)
    assert shown() == ("available", "us-east-1b", "us-east-1a")


def test_a_reboot_is_refused_as_aws_refuses_it(rds: Any, refused: Refused) -> None:
    reboot = rds.reboot_db_instance
    assert refused(reboot, DBInstanceIdentifier="nope") == "DBInstanceNotFound"
    assert refused(reboot, DBInstanceIdentifier=CLUSTER, ForceFailover=True) == "InvalidParameterCombination"
    reboot(DBInstanceIdentifier="safawinet-reports")
    assert refused(reboot, DBInstanceIdentifier="safawinet-reports") == "InvalidDBInstanceState"


def test_a_cluster_snapshot_makes_progress(aws: Aws, rds: Any) -> None:
    def seen() -> tuple[str, int]:
        shown = rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier="before")["DBClusterSnapshots"][0]
        return shown["Status"], shown["PercentProgress"]

    names = {"DBClusterIdentifier": CLUSTER, "DBClusterSnapshotIdentifier": "before"}
    begun = rds.create_db_cluster_snapshot(**names)["DBClusterSnapshot"]
    assert (begun["Status"], begun["PercentProgress"]) == seen() == ("creating", 0)
    aws.clock.pass_by(1.6)
    assert seen() == ("creating", 50)
    aws.clock.pass_by(2)
    assert seen() == ("available", 100)


def test_snapshots_are_refused_as_aws_refuses_them(aws: Aws, rds: Any, refused: Refused) -> None:
    names = {"DBClusterIdentifier": CLUSTER, "DBClusterSnapshotIdentifier": "twice"}
    rds.create_db_cluster_snapshot(**names)
    assert refused(rds.create_db_cluster_snapshot, **names) == "DBClusterSnapshotAlreadyExistsFault"
    member = {"DBInstanceIdentifier": CLUSTER, "DBSnapshotIdentifier": "member"}
    assert refused(rds.create_db_snapshot, **member) == "InvalidParameterValue"


def test_an_instance_of_its_own_has_instance_snapshots(aws: Aws, rds: Any) -> None:
    rds.create_db_instance(DBInstanceIdentifier="alone", DBInstanceClass="db.t4g.small", Engine="postgres", AllocatedStorage=20)
    created = rds.create_db_snapshot(DBInstanceIdentifier="alone", DBSnapshotIdentifier="alone-1")["DBSnapshot"]
    assert created["Status"] == "creating"
    aws.clock.pass_by(3.5)
    (shown,) = rds.describe_db_snapshots(DBSnapshotIdentifier="alone-1")["DBSnapshots"]
    assert (shown["Status"], shown["PercentProgress"]) == ("available", 100)


def test_at_tempo_zero_the_next_look_finds_it_done(aws: Aws, rds: Any) -> None:
    aws.world.tempo = 0.0
    rds.failover_db_cluster(DBClusterIdentifier=CLUSTER)
    assert aws.writer() == f"{CLUSTER}-2"
