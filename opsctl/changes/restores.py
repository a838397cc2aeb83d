"""Changes that restore a snapshot into a new database beside the original one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.adapters.aws.snapshots import ORIGIN, RESTORED_BY, Kind, Surroundings
from opsctl.adapters.sql.database import Busy
from opsctl.adapters.sql.visibility import count_some
from opsctl.changes.snapshots import progress, rds, tags
from opsctl.changes.states import DATABASE
from opsctl.contract import Change, Done, Drifted, Evidence, Failed, Finding, InProgress, Pending
from opsctl.errors import ExternalError, NotFound, Refused, Throttled, Unreachable
from opsctl.permissions import Permissions, needs

if TYPE_CHECKING:
    from opsctl.adapters.aws.snapshots import RdsDatabase
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

BY_HAND = "by-hand"
"""Which run made it, where that was a script."""
ENOUGH = 1_000
"""How many rows are proof enough: a fresh copy reads its pages from the snapshot, slowly."""


class RestoringChange(Change, frozen=True, kw_only=True):
    """A change to the copy `name` of the snapshot `origin`; `like` was pinned when it was planned."""

    poll: ClassVar[float] = 5
    timeout: ClassVar[float] = 6 * 3600
    target_template: ClassVar[str] = "database/{name}"
    irreversible: ClassVar[str] = "the copy may be in use by then; it costs money until you delete it by hand"

    name: str
    snapshot: str
    origin: str
    like: Surroundings

    def _restore_finding(self, place: RdsDatabase) -> Finding:
        """What a resource with that name means: somebody else's, failed, in progress, or done."""
        if place.tags.get(ORIGIN) != self.origin:
            return Drifted(f"{place.id} already exists and is not a copy of the current {self.snapshot}; choose another name")
        waited = DATABASE.waited(place.id, place.status, "databases", "delete it, then restore again")
        return waited or Done(f"{place.id} is available, from {self.snapshot}")

    def _missing(self, read: Systems, kind: Kind) -> Finding:
        """Pending, if the snapshot can be restored."""
        found = read.snapshots.find(self.snapshot, kind)
        if found is None:
            raise NotFound(f"The snapshot {self.snapshot} doesn't exist any more; nothing was restored.", "opsctl snapshots list --all")
        if found.status == "creating":
            raise Refused(f"{progress(found)}: it can't be restored yet.".capitalize(), "Wait until it is available: opsctl snapshots list")
        if found.status != "available":
            raise Refused(f"{progress(found)}: it can't be restored.".capitalize(), "Choose another: opsctl snapshots list --all")
        if found.origin != self.origin:
            return Drifted(f"snapshot {found.id} has been replaced since the plan: it is from {found.created:%Y-%m-%d %H:%M:%S} UTC")
        note = f"costs as much as a {self.like.instance_class} until somebody deletes it; not open to the internet"
        return Pending(1, "databases", note)

    def _whole(self, read: Systems) -> RdsDatabase | InProgress | None:
        """The copy's cluster once it accepts changes; None if there is none."""
        place = read.snapshots.place(self.name, "cluster")
        if place is None:
            return None
        waited = DATABASE.waited(f"cluster {place.id}", place.status, "databases")
        if isinstance(waited, Failed):
            raise ExternalError(f"{waited.why}.".capitalize(), "Delete the copy, then restore again.")
        return waited or place

    def _tags(self, token: str) -> dict[str, str]:
        return {RESTORED_BY: token, ORIGIN: self.origin}

    def _like(self) -> dict[str, Any]:
        """The options of any copy in a script."""
        return {
            "VpcSecurityGroupIds": list(self.like.security_groups),
            "DBSubnetGroupName": self.like.subnets,
            "Port": self.like.port,
            "Engine": self.like.engine,
            "Tags": tags(self._tags(BY_HAND)),
        }


def answers(read: Systems, place: RdsDatabase, arn: str) -> Finding:
    """Whether a copy answers a query: rows of the users' table, as the reader. `arn` identifies it to the Data API."""
    sessions = read.config.sessions
    database = read.database_at(place.host, place.port, arn)
    try:
        count = count_some(database, sessions.users_table if sessions else None, ENOUGH)
    except (Unreachable, Busy, Throttled) as no:
        return InProgress(f"{place.id} is available but doesn't answer yet: {no.what}")
    except (ExternalError, Refused) as no:
        return Failed(
            f"{place.id} is available but can't be queried, perhaps because it has the logins of the day of the snapshot: {no.what}"
        )
    finally:
        database.close()
    if sessions is None:
        return Done(f"{place.id} is available and answers")
    more = " or more" if count == ENOUGH else ""
    return Done(f"{place.id} is available and answers: {count:,}{more} rows in {sessions.users_table}")


class RestoreInstance(RestoringChange, frozen=True, kw_only=True):
    """An instance called `name` was restored from the snapshot, and answers a query."""

    permissions: ClassVar[Permissions] = needs(
        check="postgres:copy rds:DescribeDBInstances[any] rds:DescribeDBSnapshots",
        apply="rds:AddTagsToResource rds:RestoreDBInstanceFromDBSnapshot",
    )
    summary_template: ClassVar[str] = "restore {snapshot} into a new instance {name}"

    def check(self, read: Systems) -> Finding:
        """Reads the instance, then queries it."""
        place = read.snapshots.place(self.name, "instance")
        if place is None:
            return self._missing(read, "instance")
        found = self._restore_finding(place)
        return answers(read, place, place.arn) if isinstance(found, Done) else found

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """RestoreDBInstanceFromDBSnapshot."""
        write.snapshots.restore("instance", self.snapshot, self.name, self.like, self._tags(token))
        return {"database": self.name}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 7.2), with the network and parameters that it omits."""
        line = rds(
            environment,
            "restore-db-instance-from-db-snapshot",
            PubliclyAccessible=False,
            MultiAZ=False,
            DBInstanceIdentifier=self.name,
            DBSnapshotIdentifier=self.snapshot,
            DBInstanceClass=self.like.instance_class,
            DBParameterGroupName=self.like.parameters,
            **self._like(),
        )
        return [line, rds(environment, "wait db-instance-available", DBInstanceIdentifier=self.name)]


class RestoreCluster(RestoringChange, frozen=True, kw_only=True):
    """A cluster called `name` was restored from the snapshot; it has no instance yet."""

    permissions: ClassVar[Permissions] = needs(
        check="rds:DescribeDBClusterSnapshots rds:DescribeDBClusters[any]",
        apply="rds:AddTagsToResource rds:RestoreDBClusterFromSnapshot",
    )
    summary_template: ClassVar[str] = "restore {snapshot} into a new cluster {name}"

    def check(self, read: Systems) -> Finding:
        """Reads the cluster."""
        place = read.snapshots.place(self.name, "cluster")
        return self._restore_finding(place) if place else self._missing(read, "cluster")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """RestoreDBClusterFromSnapshot."""
        write.snapshots.restore("cluster", self.snapshot, self.name, self.like, self._tags(token))
        return {"database": self.name}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The AWS commands for a cluster; AWS refuses the runbook's command there."""
        capacity = self.like.capacity
        line = rds(
            environment,
            "restore-db-cluster-from-snapshot",
            DBClusterIdentifier=self.name,
            SnapshotIdentifier=self.snapshot,
            DBClusterParameterGroupName=self.like.cluster_parameters,
            ServerlessV2ScalingConfiguration=dict(zip(("MinCapacity", "MaxCapacity"), capacity, strict=True)) if capacity else None,
            **self._like(),
        )
        return [line, rds(environment, "wait db-cluster-available", DBClusterIdentifier=self.name)]


class EnableDataApi(RestoringChange, frozen=True, kw_only=True):
    """The restored cluster's Data API is on, because this environment uses it to query its database."""

    permissions: ClassVar[Permissions] = needs(check="rds:DescribeDBClusters[any]", apply="rds:EnableHttpEndpoint")
    target_template: ClassVar[str] = "database/{name}/data-api"
    summary_template: ClassVar[str] = "enable the Data API of {name}"

    arn: str

    @property
    def depends_on(self) -> frozenset[str]:
        """The cluster."""
        return frozenset({f"database/{self.name}"})

    def check(self, read: Systems) -> Finding:
        """Reads the cluster."""
        cluster = self._whole(read)
        if isinstance(cluster, InProgress):
            return cluster
        if cluster is not None and cluster.data_api:
            return Done(f"the Data API of {self.name} is enabled")
        return Pending(1, "settings")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """EnableHttpEndpoint."""
        write.snapshots.enable_data_api(self.arn)
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The AWS command."""
        return [rds(environment, "enable-http-endpoint", ResourceArn=self.arn)]


class AddInstance(RestoringChange, frozen=True, kw_only=True):
    """The restored cluster `name` has an instance `id`, and answers a query; `arn` is the cluster's."""

    permissions: ClassVar[Permissions] = needs(
        check="postgres:copy rds:DescribeDBClusters[any] rds:DescribeDBInstances[any]",
        apply="rds:AddTagsToResource rds:CreateDBInstance",
    )
    target_template: ClassVar[str] = "database/{name}/{id}"
    summary_template: ClassVar[str] = "create instance {id} in cluster {name}"

    id: str
    arn: str

    @property
    def depends_on(self) -> frozenset[str]:
        """The cluster."""
        return frozenset({f"database/{self.name}"})

    def check(self, read: Systems) -> Finding:
        """Reads the instance, then queries it."""
        place = read.snapshots.place(self.id, "instance")
        if place is None:
            cluster = self._whole(read)
            wanted = Pending(1, "databases", f"a {self.like.instance_class}, not open to the internet")
            return cluster if isinstance(cluster, InProgress) else wanted
        if place.cluster != self.name:
            return Drifted(f"{self.id} already exists in another cluster than {self.name}; choose another name")
        found = self._restore_finding(place)
        return answers(read, place, self.arn) if isinstance(found, Done) else found

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """CreateDBInstance in the cluster."""
        write.snapshots.add_instance(self.name, self.id, self.like, self._tags(token))
        return {"database": self.id}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The AWS commands."""
        line = rds(
            environment,
            "create-db-instance",
            PubliclyAccessible=False,
            DBInstanceIdentifier=self.id,
            DBClusterIdentifier=self.name,
            Engine=self.like.engine,
            DBInstanceClass=self.like.instance_class,
            DBParameterGroupName=self.like.parameters,
            Tags=tags(self._tags(BY_HAND)),
        )
        return [line, rds(environment, "wait db-instance-available", DBInstanceIdentifier=self.id)]
