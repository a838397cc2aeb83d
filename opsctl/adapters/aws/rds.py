"""Amazon RDS: database clusters and instances, their endpoints and members, and their failover."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import NotFound

FAILING_OVER = "failing-over"
LAST_TIER = 15
"""AWS promotes the readers of the lowest tier first; 15 is the last (Amazon Aurora user guide, "High availability")."""


class ClusterMember(Struct, frozen=True):
    """One instance of a cluster; `endpoint` may be empty; `insights` is its id in Performance Insights, empty where it is off."""

    id: str
    writer: bool
    status: str
    zone: str
    endpoint: str
    port: int
    tier: int = LAST_TIER
    size: str = ""
    insights: str = ""


class Cluster(Struct, frozen=True):
    """A database cluster; `endpoint` is the writer's."""

    id: str
    arn: str
    status: str
    engine: str
    endpoint: str
    reader_endpoint: str
    port: int
    members: list[ClusterMember]
    version: str = ""

    @property
    def writer(self) -> ClusterMember | None:
        """The writer."""
        return next((m for m in self.members if m.writer), None)

    @property
    def readers(self) -> list[ClusterMember]:
        """The readers in the order of promotion."""
        return sorted((m for m in self.members if not m.writer), key=lambda m: (m.tier, m.id))

    @property
    def aurora(self) -> bool:
        """Whether it is Aurora, whose members share their storage; else a Multi-AZ DB cluster, whose readers replicate."""
        return self.engine.startswith("aurora")


class RdsInstance(Struct, frozen=True):
    """One instance: `standby` is the zone of its standby if it is Multi-AZ, `cluster` its cluster, `insights` as a member's."""

    id: str
    arn: str
    status: str
    engine: str
    version: str
    size: str
    zone: str
    standby: str
    multi_az: bool
    cluster: str
    endpoint: str
    port: int
    insights: str = ""


class Rds(Adapter):
    """RDS in the environment's region."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
        self._endpoints: dict[str, tuple[str, int]] = {}

    def endpoint(self, cluster: str, instance: str = "") -> tuple[str, int]:
        """Host and port of a cluster's writer or of an instance, cached; raises NotFound."""
        name = instance or cluster
        if name not in self._endpoints:
            self._endpoints[name] = self._endpoint(cluster, instance)
        return self._endpoints[name]

    def _endpoint(self, cluster: str, instance: str) -> tuple[str, int]:
        if instance:
            found = self.instance(instance)
            return found.endpoint, found.port
        described = self._described(cluster)
        return described.get("Endpoint", ""), described.get("Port", 0)

    def arn(self, id: str) -> str:
        """The cluster's ARN; raises NotFound for a cluster that doesn't exist."""
        arn: str = self._described(id)["DBClusterArn"]
        return arn

    def cluster(self, id: str) -> Cluster:
        """Raises NotFound for a cluster that doesn't exist."""
        with ThreadPoolExecutor(1, thread_name_prefix="instances") as aside:
            instances = aside.submit(self._instances_of, id)
            found = self._described(id)
            members = _members(found, instances.result())
        return Cluster(
            id=found["DBClusterIdentifier"],
            arn=found["DBClusterArn"],
            status=found["Status"],
            engine=found["Engine"],
            endpoint=found.get("Endpoint", ""),
            reader_endpoint=found.get("ReaderEndpoint", ""),
            port=found.get("Port", 0),
            members=members,
            version=found.get("EngineVersion", ""),
        )

    def instance(self, id: str) -> RdsInstance:
        """Raises NotFound for an instance that doesn't exist."""
        answer = self._aws.call("rds", "describe_db_instances", DBInstanceIdentifier=id)
        if not answer["DBInstances"]:
            raise NotFound(f"There is no database instance {id}.", "Correct `instance` in the configuration.")
        raw = answer["DBInstances"][0]
        return RdsInstance(
            id=raw["DBInstanceIdentifier"],
            arn=raw["DBInstanceArn"],
            status=raw["DBInstanceStatus"],
            engine=raw["Engine"],
            version=raw.get("EngineVersion", ""),
            size=raw.get("DBInstanceClass", ""),
            zone=raw.get("AvailabilityZone", ""),
            standby=raw.get("SecondaryAvailabilityZone", ""),
            multi_az=raw.get("MultiAZ", False),
            cluster=raw.get("DBClusterIdentifier", ""),
            endpoint=raw.get("Endpoint", {}).get("Address", ""),
            port=raw.get("Endpoint", {}).get("Port", 0),
            insights=_insights(raw),
        )

    def global_database(self, arn: str) -> str:
        """The global database that a cluster belongs to, by the cluster's ARN; empty for none."""
        for page in self._aws.pages("rds", "describe_global_clusters"):
            for found in page["GlobalClusters"]:
                if arn in _clusters_of(found):
                    return str(found["GlobalClusterIdentifier"])
        return ""

    @writes
    def fail_over(self, cluster: str, to: str) -> str:
        """Fail over to a reader; return the cluster's status. AWS refuses it for the present writer."""
        answer = self._aws.call("rds", "failover_db_cluster", DBClusterIdentifier=cluster, TargetDBInstanceIdentifier=to)
        return str(answer["DBCluster"]["Status"])

    @writes
    def reboot_to_standby(self, instance: str) -> str:
        """Fail a Multi-AZ instance over to its standby; return its status."""
        answer = self._aws.call("rds", "reboot_db_instance", DBInstanceIdentifier=instance, ForceFailover=True)
        return str(answer["DBInstance"]["DBInstanceStatus"])

    def _described(self, id: str) -> dict[str, Any]:
        answer = self._aws.call("rds", "describe_db_clusters", DBClusterIdentifier=id)
        if not answer["DBClusters"]:
            raise NotFound(f"There is no database cluster {id}.", "Correct `cluster` in the configuration.")
        found: dict[str, Any] = answer["DBClusters"][0]
        return found

    def _instances_of(self, cluster: str) -> list[dict[str, Any]]:
        filters = [{"Name": "db-cluster-id", "Values": [cluster]}]
        return [raw for page in self._aws.pages("rds", "describe_db_instances", Filters=filters) for raw in page["DBInstances"]]


def _members(cluster: dict[str, Any], instances: list[dict[str, Any]]) -> list[ClusterMember]:
    """The members, the writer first; the roles are from the cluster, the rest from the instances."""
    roles = {m["DBInstanceIdentifier"]: m for m in cluster.get("DBClusterMembers", [])}
    members = [
        ClusterMember(
            id=raw["DBInstanceIdentifier"],
            writer=roles[raw["DBInstanceIdentifier"]]["IsClusterWriter"],
            status=raw["DBInstanceStatus"],
            zone=raw.get("AvailabilityZone", ""),
            endpoint=raw.get("Endpoint", {}).get("Address", ""),
            port=raw.get("Endpoint", {}).get("Port", 0),
            tier=roles[raw["DBInstanceIdentifier"]].get("PromotionTier", LAST_TIER),
            size=raw.get("DBInstanceClass", ""),
            insights=_insights(raw),
        )
        for raw in instances
        if raw["DBInstanceIdentifier"] in roles
    ]
    return sorted(members, key=lambda m: (not m.writer, m.id))


def _insights(raw: dict[str, Any]) -> str:
    return str(raw["DbiResourceId"]) if raw.get("PerformanceInsightsEnabled") else ""


def _clusters_of(found: dict[str, Any]) -> Iterator[str]:
    for member in found.get("GlobalClusterMembers", []):
        yield member["DBClusterArn"]
        yield from member.get("Readers", [])
