"""Amazon RDS: snapshots, and what is restored from them.

RDS lowers every name. A snapshot is ours when it has the tag `opsctl` and, in `opsctl-name`, its own name: AWS copies a database's tags to
the snapshots that others make of it, and a snapshot's to its copies. What AWS doesn't tell, which snapshot a database was restored from,
stands in the database's tag `opsctl-snapshot`.
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
"""A snapshot's tags: the run and the step that made it, its name, and why it may not be pruned."""
ORIGIN, RESTORED_BY = "opsctl-snapshot", "opsctl-restored-by"
"""A restored database's tags: the `origin` of its snapshot, and the run and the step."""
LONGEST = 256
"""Characters that a tag's value may have."""

TAKEN = ("AlreadyExists", "AlreadyExistsFault")


class Snapshot(Struct, frozen=True):
    """A snapshot of a cluster or an instance, `of`; `percent` and `created` are None where AWS doesn't say yet. Size in GiB."""

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
        """Whether opsctl made it, and the tags that say so weren't copied from elsewhere."""
        return OURS in self.tags and self.tags.get(NAME) == self.id

    @property
    def origin(self) -> str:
        """When it was made and its ARN, as a tag's value: names, and ARNs with them, are given again."""
        made = self.created.isoformat(timespec="milliseconds") if self.created else ""
        return f"{made} {self.arn}"[:LONGEST]

    @property
    def held(self) -> str | None:
        """Why it may not be pruned, where somebody said so."""
        return self.tags.get(HOLD)


class RdsDatabase(Struct, frozen=True):
    """A cluster or an instance as it is now; `cluster` is the one that an instance belongs to, `data_api` whether it is switched on."""

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
    """What a restored database takes over from a living one: its network, its parameters, its size.

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
        """The snapshot that is called so; None when there is none. Where both kinds have one, a cluster's comes first."""
        found: list[Snapshot] = []
        if kind != "instance":
            named = {"DBClusterSnapshotIdentifier": id}
            found += self._listed("describe_db_cluster_snapshots", "DBClusterSnapshots", _of_cluster, named)
        if kind != "cluster":
            found += self._listed("describe_db_snapshots", "DBSnapshots", _of_instance, {"DBSnapshotIdentifier": id})
        return next((one for one in found if _called(id, one.id, one.arn)), None)

    def place(self, id: str, kind: Kind | None = None) -> RdsDatabase | None:
        """The cluster or instance that is called so; None when there is none. Where both are, the cluster comes first."""
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
        """What a copy of this cluster or instance takes over; None when it isn't there, or a cluster has no instance."""
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
        """Begin a snapshot. Sent again with the same tags it has no second effect; Refused where another is called so."""
        if kind == "cluster":
            names = {"DBClusterIdentifier": of, "DBClusterSnapshotIdentifier": id}
            operation = "create_db_cluster_snapshot"
        else:
            names = {"DBInstanceIdentifier": of, "DBSnapshotIdentifier": id}
            operation = "create_db_snapshot"
        self._once(lambda: self.find(id, kind), f"snapshot {id}", tags, operation, **names)

    @writes
    def delete(self, kind: Kind, id: str) -> None:
        """Delete a manual snapshot for good; one that is gone already is no error."""
        names = {"DBClusterSnapshotIdentifier": id} if kind == "cluster" else {"DBSnapshotIdentifier": id}
        try:
            self._aws.call("rds", "delete_db_cluster_snapshot" if kind == "cluster" else "delete_db_snapshot", **names)
        except NotFound:
            return

    @writes
    def restore(self, kind: Kind, snapshot: str, to: str, like: Surroundings, tags: Mapping[str, str]) -> None:
        """Begin to restore a snapshot into a new cluster or instance that isn't open to the internet; else as `create`."""
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
        """Begin to give a cluster its instance, which isn't open to the internet; else as `create`."""
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
        """Switch a cluster's Data API on."""
        self._aws.call("rds", "enable_http_endpoint", ResourceArn=arn)

    def _once(
        self, look: Callable[[], Snapshot | RdsDatabase | None], what: str, tags: Mapping[str, str], operation: str, **how: Any
    ) -> None:
        """Make something under a name; where the name is taken, by this very step or from the same snapshot, it is made already."""
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
    """Whether what AWS gave is what was asked for: an empty name is any to it."""
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
