"""Amazon RDS: snapshots, and what is restored from them.

RDS lowercases names. opsctl made a snapshot if it has the tag `opsctl`, and its own name in `opsctl-name`: AWS copies tags from a
database to its snapshots and from a snapshot to its copies. The tag `opsctl-snapshot` of a database names the snapshot that it was
restored from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import ExternalError, NotFound, Refused

Kind = Literal["cluster", "instance"]

OURS, STEP, NAME, HOLD = "opsctl", "opsctl-step", "opsctl-name", "hold"
"""Tags of a snapshot: run and step, its name, and the reason why it must not be pruned."""
ORIGIN, RESTORED_BY = "opsctl-snapshot", "opsctl-restored-by"
"""A restored database's tags: the `origin` of its snapshot, and the run and the step."""
LONGEST = 256
"""Characters that a tag's value may have."""

TAKEN = ("AlreadyExists", "AlreadyExistsFault")


class Snapshot(Struct, frozen=True):
    """A snapshot of a cluster or an instance, `of`; `percent` and `created` are None while unknown. Size in GiB."""

    id: str
    kind: Kind
    of: str
    arn: str
    status: str
    percent: int | None
    created: datetime | None
    manual: bool
    size: int
    encrypted: bool
    engine: str
    tags: dict[str, str]

    @property
    def ours(self) -> bool:
        """Whether opsctl made it, and its tags weren't copied from another snapshot."""
        return OURS in self.tags and self.tags.get(NAME) == self.id

    @property
    def origin(self) -> str:
        """Creation time and ARN as the value of a tag, because names are reused."""
        made = self.created.isoformat(timespec="milliseconds") if self.created else ""
        return f"{made} {self.arn}"[:LONGEST]

    @property
    def held(self) -> str | None:
        """The reason why it must not be pruned, if any."""
        return self.tags.get(HOLD)


class RdsDatabase(Struct, frozen=True):
    """The state of a cluster or an instance; `cluster` is an instance's cluster, `data_api` whether it is enabled."""

    id: str
    kind: Kind
    arn: str
    status: str
    host: str
    port: int
    tags: dict[str, str]
    cluster: str | None = None
    data_api: bool = False


class Surroundings(Struct, frozen=True, kw_only=True):
    """The settings that a restored database copies from a running one: network, parameters, size.

    `cluster_parameters` and `capacity` (Aurora Serverless' minimum and maximum) are a cluster's alone.
    """

    engine: str
    subnets: str
    security_groups: tuple[str, ...]
    port: int
    parameters: str
    instance_class: str
    cluster_parameters: str = ""
    capacity: tuple[float, float] | None = None


class Snapshots(Adapter):
    """Amazon RDS in the environment's region."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def all(self, of: str | None = None) -> list[Snapshot]:
        """Every snapshot of this account, or of the cluster or instance `of`; automated ones too, the newest first."""
        clusters = {"DBClusterIdentifier": of} if of else {}
        instances = {"DBInstanceIdentifier": of} if of else {}
        found = [
            *self._listed("describe_db_cluster_snapshots", "DBClusterSnapshots", _of_cluster, clusters),
            *self._listed("describe_db_snapshots", "DBSnapshots", _of_instance, instances),
        ]
        unfinished = [s for s in found if s.created is None]
        return unfinished + sorted((s for s in found if s.created), key=lambda s: (s.created, s.id), reverse=True)

    def find(self, id: str, kind: Kind | None = None) -> Snapshot | None:
        """The snapshot with this name, a cluster's before an instance's; None without one."""
        found: list[Snapshot] = []
        if kind != "instance":
            named = {"DBClusterSnapshotIdentifier": id}
            found += self._listed("describe_db_cluster_snapshots", "DBClusterSnapshots", _of_cluster, named)
        if kind != "cluster":
            found += self._listed("describe_db_snapshots", "DBSnapshots", _of_instance, {"DBSnapshotIdentifier": id})
        return next((one for one in found if _called(id, one.id, one.arn)), None)

    def place(self, id: str, kind: Kind | None = None) -> RdsDatabase | None:
        """The cluster or instance with this name, the cluster first; None without one."""
        if kind != "instance" and (raw := self._one("describe_db_clusters", "DBClusters", DBClusterIdentifier=id)):
            enabled = bool(raw.get("HttpEndpointEnabled"))
            where = (raw.get("Endpoint", ""), raw.get("Port", 0))
            return RdsDatabase(
                raw["DBClusterIdentifier"], "cluster", raw["DBClusterArn"], raw["Status"], *where, _tags(raw), data_api=enabled
            )
        if kind != "cluster" and (raw := self._one("describe_db_instances", "DBInstances", DBInstanceIdentifier=id)):
            end = raw.get("Endpoint", {})
            where = (end.get("Address", ""), end.get("Port", 0))
            arn, status, member = raw["DBInstanceArn"], raw["DBInstanceStatus"], raw.get("DBClusterIdentifier")
            return RdsDatabase(raw["DBInstanceIdentifier"], "instance", arn, status, *where, _tags(raw), cluster=member)
        return None

    def surroundings(self, id: str, kind: Kind) -> Surroundings | None:
        """The settings that a copy takes from this cluster or instance; None when it is missing or a cluster has no instance."""
        if kind == "instance":
            raw = self._one("describe_db_instances", "DBInstances", DBInstanceIdentifier=id)
            return _of_one(raw, raw) if raw else None
        raw = self._one("describe_db_clusters", "DBClusters", DBClusterIdentifier=id)
        members = raw.get("DBClusterMembers", []) if raw else []
        writer = next((m["DBInstanceIdentifier"] for m in members if m["IsClusterWriter"]), None)
        member = self._one("describe_db_instances", "DBInstances", DBInstanceIdentifier=writer) if writer else None
        return _of_one(raw, member) if raw and member else None

    @writes
    def create(self, kind: Kind, of: str, id: str, tags: Mapping[str, str]) -> None:
        """Start a snapshot. Idempotent for the same tags; raises Refused when the name is taken."""
        if kind == "cluster":
            names = {"DBClusterIdentifier": of, "DBClusterSnapshotIdentifier": id}
            operation = "create_db_cluster_snapshot"
        else:
            names = {"DBInstanceIdentifier": of, "DBSnapshotIdentifier": id}
            operation = "create_db_snapshot"
        self._once(lambda: self.find(id, kind), f"snapshot {id}", tags, operation, **names)

    @writes
    def delete(self, kind: Kind, id: str) -> None:
        """Delete a manual snapshot; a missing one is no error."""
        names = {"DBClusterSnapshotIdentifier": id} if kind == "cluster" else {"DBSnapshotIdentifier": id}
        try:
            self._aws.call("rds", "delete_db_cluster_snapshot" if kind == "cluster" else "delete_db_snapshot", **names)
        except NotFound:
            return

    @writes
    def restore(self, kind: Kind, snapshot: str, to: str, like: Surroundings, tags: Mapping[str, str]) -> None:
        """Start to restore a snapshot into a new, non-public cluster or instance; otherwise as `create`."""
        common: dict[str, Any] = {
            "VpcSecurityGroupIds": list(like.security_groups),
            "DBSubnetGroupName": like.subnets,
            "Port": like.port,
            "Engine": like.engine,
        }
        if kind == "instance":
            how: dict[str, Any] = {"DBInstanceIdentifier": to, "DBSnapshotIdentifier": snapshot, "DBParameterGroupName": like.parameters}
            how |= {"DBInstanceClass": like.instance_class, "PubliclyAccessible": False, "MultiAZ": False}
            operation = "restore_db_instance_from_db_snapshot"
        else:
            how = {"DBClusterIdentifier": to, "SnapshotIdentifier": snapshot, "DBClusterParameterGroupName": like.cluster_parameters}
            if like.capacity:
                how["ServerlessV2ScalingConfiguration"] = dict(zip(("MinCapacity", "MaxCapacity"), like.capacity, strict=True))
            operation = "restore_db_cluster_from_snapshot"
        given = {name: value for name, value in {**common, **how}.items() if value or value is False}
        self._once(lambda: self.place(to, kind), f"database {to}", tags, operation, **given)

    @writes
    def add_instance(self, cluster: str, id: str, like: Surroundings, tags: Mapping[str, str]) -> None:
        """Start to create a cluster's non-public instance; otherwise as `create`."""
        parameters = {"DBParameterGroupName": like.parameters} if like.parameters else {}
        names = {"DBClusterIdentifier": cluster, "DBInstanceIdentifier": id, "Engine": like.engine, "DBInstanceClass": like.instance_class}
        self._once(
            lambda: self.place(id, "instance"),
            f"database {id}",
            tags,
            "create_db_instance",
            **names,
            **parameters,
            PubliclyAccessible=False,
        )

    @writes
    def enable_data_api(self, arn: str) -> None:
        """Enable a cluster's Data API."""
        self._aws.call("rds", "enable_http_endpoint", ResourceArn=arn)

    def _once(
        self, look: Callable[[], Snapshot | RdsDatabase | None], what: str, tags: Mapping[str, str], operation: str, **how: Any
    ) -> None:
        """Create something with a name; done if this step, or a restore of the same snapshot, created it before."""
        try:
            self._aws.call("rds", operation, Tags=[{"Key": key, "Value": value} for key, value in tags.items()], **how)
        except ExternalError as no:
            code = str(getattr(no.__cause__, "response", {}).get("Error", {}).get("Code", ""))
            if not code.endswith(TAKEN):
                raise
            found = look()
            if found is None or not _same(found.tags, tags):
                raise Refused(f"There is already a {what}, which this run didn't create.", "Choose another name.") from no

    def _listed(self, operation: str, key: str, read: Callable[[dict[str, Any]], Snapshot], how: Mapping[str, str]) -> list[Snapshot]:
        try:
            return [read(raw) for page in self._aws.pages("rds", operation, **how) for raw in page[key]]
        except NotFound:
            return []

    def _one(self, operation: str, key: str, **how: str) -> dict[str, Any] | None:
        ((name, id),) = how.items()
        try:
            found: list[dict[str, Any]] = self._aws.call("rds", operation, **how)[key]
        except NotFound:
            return None
        return next((raw for raw in found if _called(id, raw[name], raw[name.replace("Identifier", "Arn")])), None)


def _called(asked: str, id: str, arn: str) -> bool:
    """Whether AWS's result is the requested one: AWS accepts an empty name for any."""
    return asked.lower() == id or asked == arn


def _same(kept: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    if ORIGIN in tags:
        return kept.get(ORIGIN) == tags[ORIGIN]
    return all(kept.get(key) == value for key, value in tags.items())


def _tags(raw: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in raw.get("TagList", [])}


def _of_cluster(raw: dict[str, Any]) -> Snapshot:
    return _snapshot(raw, "cluster", "DBCluster", bool(raw.get("StorageEncrypted")))


def _of_instance(raw: dict[str, Any]) -> Snapshot:
    return _snapshot(raw, "instance", "DB", bool(raw.get("Encrypted")))


def _snapshot(raw: dict[str, Any], kind: Kind, prefix: str, encrypted: bool) -> Snapshot:
    made = raw.get("SnapshotCreateTime")
    return Snapshot(
        id=raw[f"{prefix}SnapshotIdentifier"],
        kind=kind,
        of=raw["DBClusterIdentifier" if kind == "cluster" else "DBInstanceIdentifier"],
        arn=raw[f"{prefix}SnapshotArn"],
        status=raw["Status"],
        percent=raw.get("PercentProgress"),
        created=utc(made) if made else None,
        manual=raw.get("SnapshotType") == "manual",
        size=raw.get("AllocatedStorage", 0),
        encrypted=encrypted,
        engine=raw.get("Engine", ""),
        tags=_tags(raw),
    )


def _of_one(database: dict[str, Any], instance: dict[str, Any]) -> Surroundings:
    """`database` is the cluster, or the instance itself; `instance` the cluster's writer, or itself."""
    subnets = database.get("DBSubnetGroup", "")
    capacity = database.get("ServerlessV2ScalingConfiguration")
    return Surroundings(
        engine=database["Engine"],
        subnets=subnets if isinstance(subnets, str) else subnets.get("DBSubnetGroupName", ""),
        security_groups=tuple(group["VpcSecurityGroupId"] for group in database.get("VpcSecurityGroups", [])),
        port=database.get("Port") or instance.get("Endpoint", {}).get("Port", 0),
        parameters=next((group["DBParameterGroupName"] for group in instance.get("DBParameterGroups", [])), ""),
        instance_class=instance["DBInstanceClass"],
        cluster_parameters=database.get("DBClusterParameterGroup", ""),
        capacity=(capacity["MinCapacity"], capacity["MaxCapacity"]) if capacity else None,
    )
