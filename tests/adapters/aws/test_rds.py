"""Where the database and the cache are: RDS and ElastiCache."""

from __future__ import annotations

import pytest

from opsctl.adapters.aws.elasticache import ElastiCache
from opsctl.adapters.aws.rds import Rds
from opsctl.adapters.aws.session import AwsSession
from opsctl.errors import ExternalError, NotFound, ReadOnly


def test_a_cluster_and_its_members_the_writer_first(reading: AwsSession, writing: AwsSession) -> None:
    writing.call(
        "rds",
        "create_db_cluster",
        DBClusterIdentifier="prod",
        Engine="aurora-postgresql",
        MasterUsername="root",
        MasterUserPassword="not-a-password",
    )
    for name in ("prod-2", "prod-1"):
        writing.call(
            "rds",
            "create_db_instance",
            DBInstanceIdentifier=name,
            DBClusterIdentifier="prod",
            DBInstanceClass="db.r6g.large",
            Engine="aurora-postgresql",
        )
    found = Rds(reading).cluster("prod")
    assert (found.id, found.engine, found.status, found.port) == ("prod", "aurora-postgresql", "available", 5432)
    assert found.endpoint
    assert found.reader_endpoint
    assert found.arn.endswith(":cluster:prod")
    assert found.writer == found.members[0]
    assert {m.id for m in found.members} == {"prod-1", "prod-2"}
    assert [m.writer for m in found.members] == [True, False]
    assert all(m.endpoint and m.port for m in found.members)


def test_an_unknown_cluster_is_not_found(reading: AwsSession) -> None:
    with pytest.raises(NotFound):
        Rds(reading).cluster("nothing")


def test_an_instance_by_itself_and_its_endpoint(reading: AwsSession, writing: AwsSession) -> None:
    made = {"DBInstanceClass": "db.t4g.small", "Engine": "postgres", "AllocatedStorage": 20, "MultiAZ": True}
    writing.call("rds", "create_db_instance", DBInstanceIdentifier="alone", **made)
    found = Rds(reading).instance("alone")
    assert (found.id, found.engine, found.status, found.size) == ("alone", "postgres", "available", "db.t4g.small")
    assert (found.multi_az, found.cluster, found.insights) == (True, "", "")
    assert Rds(reading).endpoint("", "alone") == (found.endpoint, found.port)
    with pytest.raises(NotFound):
        Rds(reading).instance("nothing")


def test_a_member_of_a_global_database_is_known_by_its_arn(reading: AwsSession, writing: AwsSession) -> None:
    login = {"MasterUsername": "root", "MasterUserPassword": "not-a-password"}
    for name in ("world", "home"):
        made = writing.call("rds", "create_db_cluster", DBClusterIdentifier=name, Engine="aurora-postgresql", **login)
        arn = made["DBCluster"]["DBClusterArn"]
    assert Rds(reading).global_database(arn) == ""
    writing.call("rds", "create_global_cluster", GlobalClusterIdentifier="earth", SourceDBClusterIdentifier=arn)
    assert Rds(reading).global_database(arn) == "earth"
    assert Rds(reading).global_database(arn.replace("home", "world")) == ""


@pytest.mark.parametrize(("method", "given"), [("fail_over", ("prod", "prod-2")), ("reboot_to_standby", ("alone",))])
def test_a_reading_adapter_fails_nothing_over(reading: AwsSession, method: str, given: tuple[str, ...]) -> None:
    with pytest.raises(ReadOnly):
        getattr(Rds(reading), method)(*given)


class Caches:
    """Answers as ElastiCache does for a node of a replication group, a lone cluster, and one that is being made."""

    writing = False

    def call(self, service: str, operation: str, **asked: str) -> dict:
        if operation == "describe_replication_groups":
            if asked["ReplicationGroupId"] != "group":
                raise NotFound("no such group")
            nodes = [{"PrimaryEndpoint": {"Address": "primary.example", "Port": 6379}}]
            return {"ReplicationGroups": [{"Status": "available", "NodeGroups": nodes}]}
        known = {
            "lone": {"CacheNodes": [{"Endpoint": {"Address": "lone.example", "Port": 6380}}]},
            "new": {"CacheNodes": []},
            "group-001": {"ReplicationGroupId": "group", "CacheNodes": [{"Endpoint": {"Address": "replica.example", "Port": 1}}]},
        }
        if (name := asked["CacheClusterId"]) not in known:
            raise NotFound("no such cluster")
        common = {"CacheClusterStatus": "available" if name != "new" else "creating", "Engine": "redis", "EngineVersion": "7.1"}
        return {"CacheClusters": [common | known[name]]}


@pytest.mark.parametrize(
    ("name", "place"),
    [("lone", ("lone.example", 6380)), ("group", ("primary.example", 6379)), ("group-001", ("primary.example", 6379))],
)
def test_the_endpoint_is_the_one_that_takes_writes(name: str, place: tuple[str, int]) -> None:
    assert ElastiCache(Caches()).endpoint(name) == place


def test_a_cache_without_an_endpoint_says_its_status() -> None:
    assert ElastiCache(Caches()).cluster("new").status == "creating"
    with pytest.raises(ExternalError, match="creating"):
        ElastiCache(Caches()).endpoint("new")


def test_an_unknown_cache_is_not_found(reading: AwsSession) -> None:
    with pytest.raises(NotFound):
        ElastiCache(reading).endpoint("nothing")
