"""Amazon RDS: a database cluster, its endpoints and its members."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter
from opsctl.errors import NotFound


class Member(Struct, frozen=True):
    """One instance of a cluster; `endpoint` is empty while it has none."""

    id: str
    writer: bool
    status: str
    zone: str
    endpoint: str
    port: int


class Cluster(Struct, frozen=True):
    """A database cluster; `endpoint` is the writer's."""

    id: str
    arn: str
    status: str
    engine: str
    endpoint: str
    reader_endpoint: str
    port: int
    members: list[Member]

    @property
    def writer(self) -> Member | None:
        """The member that takes writes."""
        return next((m for m in self.members if m.writer), None)


class Rds(Adapter):
    """RDS in the environment's region."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
        self._endpoints: dict[str, tuple[str, int]] = {}

    def endpoint(self, id: str) -> tuple[str, int]:
        """Return host and port of the writer, asked once; raises NotFound for a cluster that doesn't exist."""
        if id not in self._endpoints:
            found = self._described(id)
            self._endpoints[id] = found.get("Endpoint", ""), found.get("Port", 0)
        return self._endpoints[id]

    def arn(self, id: str) -> str:
        """The cluster's ARN; raises NotFound for a cluster that doesn't exist."""
        arn: str = self._described(id)["DBClusterArn"]
        return arn

    def cluster(self, id: str) -> Cluster:
        """Raises NotFound for a cluster that doesn't exist."""
        found = self._described(id)
        return Cluster(
            id=found["DBClusterIdentifier"],
            arn=found["DBClusterArn"],
            status=found["Status"],
            engine=found["Engine"],
            endpoint=found.get("Endpoint", ""),
            reader_endpoint=found.get("ReaderEndpoint", ""),
            port=found.get("Port", 0),
            members=self._members(found),
        )

    def _described(self, id: str) -> dict[str, Any]:
        answer = self._aws.call("rds", "describe_db_clusters", DBClusterIdentifier=id)
        if not answer["DBClusters"]:
            raise NotFound(f"There is no database cluster {id}.", "Correct `cluster` in the configuration.")
        found: dict[str, Any] = answer["DBClusters"][0]
        return found

    def _members(self, cluster: dict[str, Any]) -> list[Member]:
        """The members, the writer first; which one writes is told by the cluster, the rest by the instances."""
        writers = {m["DBInstanceIdentifier"]: m["IsClusterWriter"] for m in cluster.get("DBClusterMembers", [])}
        filters = [{"Name": "db-cluster-id", "Values": [cluster["DBClusterIdentifier"]]}]
        members = [
            Member(
                id=raw["DBInstanceIdentifier"],
                writer=writers[raw["DBInstanceIdentifier"]],
                status=raw["DBInstanceStatus"],
                zone=raw.get("AvailabilityZone", ""),
                endpoint=raw.get("Endpoint", {}).get("Address", ""),
                port=raw.get("Endpoint", {}).get("Port", 0),
            )
            for page in self._aws.pages("rds", "describe_db_instances", Filters=filters)
            for raw in page["DBInstances"]
            if raw["DBInstanceIdentifier"] in writers
        ]
        return sorted(members, key=lambda m: (not m.writer, m.id))
