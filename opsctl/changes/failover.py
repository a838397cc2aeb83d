"""Changes that give the database another writer, and the test write that verifies it."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.changes import raw
from opsctl.changes.states import DATABASE
from opsctl.contract import Change, Done, Drifted, Evidence, Failed, Finding, InProgress, OutcomeKnownBy, Pending
from opsctl.errors import CheckFailed, CredentialsInvalid, Denied, ExternalError, NotFound, OutcomeUnknown, ReadOnly, Refused, Retry
from opsctl.permissions import Permissions, needs
from opsctl.shell import Equal, Forever, Variable

if TYPE_CHECKING:
    from opsctl.adapters.aws.rds import Cluster, ClusterMember, RdsInstance
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

FAILING_OVER, REBOOTING = "failing-over", "rebooting"
UNSEEN_NEXT = "Get the permission, or try again. To continue without this check, within this region, add --accept-global"
PAUSE = 0.2
PATIENCE = 600.0
"""Seconds after which a database that takes no write is no longer waited for."""
PROOF = "CREATE TEMPORARY TABLE opsctl_write_proof ON COMMIT DROP AS SELECT 1 AS written"
"""Its catalogue rows are written and committed, a node that only reads refuses it, and nothing of it is left."""


class FailOver(Change, frozen=True, kw_only=True):
    """A change after which another instance takes writes than when the plan was made."""

    poll: ClassVar[float] = 1
    read_lag: ClassVar[float] = 2
    timeout: ClassVar[float] = 600
    proven_by_history: ClassVar[bool] = True
    needs_typed_confirmation: ClassVar[bool] = True
    irreversible: ClassVar[str] = "failing back would be a second outage"

    @property
    def needless(self) -> str:
        """Why there was nothing to do when the plan was made; empty if there was."""
        return ""

    def over(self, read: Systems) -> bool:
        """Whether AWS reports that no failover is in progress."""
        raise NotImplementedError


class FailOverCluster(FailOver, frozen=True, kw_only=True):
    """The writer of a cluster (Aurora or Multi-AZ) is no longer `writer`; with `named` it has to be `to`.

    With `accept_global`, the global database is not checked.
    """

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"writer", "to", "accept_global"})
    permissions: ClassVar[Permissions] = needs(
        check="cloudwatch:GetMetricData rds:DescribeDBClusters rds:DescribeDBInstances rds:DescribeGlobalClusters",
        apply="cloudwatch:GetMetricData rds:DescribeDBClusters rds:DescribeDBInstances rds:DescribeGlobalClusters rds:FailoverDBCluster",
    )
    target_template: ClassVar[str] = "database/{cluster}"

    cluster: str
    writer: str
    to: str
    named: bool = False
    accept_global: bool = False

    @property
    def summary(self) -> str:
        """The new writer, if it has to be a certain one."""
        return f"fail over {self.cluster} to {self.to if self.named else 'a reader'}"

    @property
    def needless(self) -> str:
        """Whether the wanted writer was already the writer."""
        return f"{self.to} is the writer" if self.to == self.writer else ""

    def difference(self) -> tuple[Any, Any]:
        """The writer."""
        return self.writer, self.to

    def check(self, read: Systems) -> Finding:
        """Reads the cluster's writer."""
        state = read.rds.cluster(self.cluster)
        now = state.writer.id if state.writer else ""
        if now == self.to:
            return Done(f"{now} is the writer" if self.needless else f"{now} is the writer; it was {self.writer}")
        if state.status == FAILING_OVER:
            return InProgress(f"{self.cluster} is failing over; the writer is {now or 'not chosen yet'}")
        if isinstance(waited := DATABASE.waited(self.cluster, state.status, "writers"), Failed):
            return waited
        if now == self.writer:
            unseen = self._unseen(read, state)
            return Pending(1, "writers", f"{_broken(read, now)}; {_behind(read, state, self.to)}", unseen, UNSEEN_NEXT if unseen else "")
        if not now:
            return InProgress(f"{self.cluster} has no writer; {waited.note if waited else 'it is available'}")
        if self.named:
            return Drifted(f"{now} is the writer; it was {self.writer} in the plan, and {self.to} is wanted")
        return Done(f"{now} is the writer; it was {self.writer}")

    def _unseen(self, read: Systems, state: Cluster) -> str:
        """Why it is unknown whether the cluster belongs to a global database; empty if known, or accepted."""
        try:
            if not self.accept_global:
                within_one_region(read, state)
        except ExternalError as cause:
            return f"opsctl couldn't check whether {self.cluster} belongs to a global database: {cause.what}"
        return ""

    def over(self, read: Systems) -> bool:
        """The cluster's status."""
        return read.rds.cluster(self.cluster).status != FAILING_OVER

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """FailoverDBCluster to a named reader (AWS refuses if it is already the writer), after one more check of its fitness."""
        read = write.reader
        state = read.rds.cluster(self.cluster)
        fit_cluster(read, state, self.to)
        if unseen := self._unseen(read, state):
            raise Refused(unseen, UNSEEN_NEXT)
        return {"status": write.rds.fail_over(self.cluster, self.to)}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 5.2), with the reader named, until that reader is the writer."""
        look = raw.aws(environment, "rds", "describe-db-clusters", DBClusterIdentifier=self.cluster)
        query = "DBClusters[0].DBClusterMembers[?IsClusterWriter] | [0].DBInstanceIdentifier"
        where = {"DBClusterIdentifier": self.cluster, "TargetDBInstanceIdentifier": self.to}
        return [
            *raw.as_reviewed(look, query, self.writer, f"The writer of {self.cluster}"),
            raw.aws(environment, "rds", "failover-db-cluster", **where),
            *raw.wait_until(look, query, self.to, seconds=int(self.timeout), what=f"Whether {self.to} is the writer"),
            raw.aws(environment, "rds", "wait db-cluster-available", DBClusterIdentifier=self.cluster),
        ]


class FailOverInstance(FailOver, frozen=True, kw_only=True):
    """A Multi-AZ instance no longer runs in `zone`, but in its standby's."""

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"zone", "to"})
    permissions: ClassVar[Permissions] = needs(check="rds:DescribeDBInstances", apply="rds:DescribeDBInstances rds:RebootDBInstance")
    target_template: ClassVar[str] = "database/{instance}"

    instance: str
    zone: str
    to: str

    @property
    def summary(self) -> str:
        """The zone that the instance fails over to."""
        return f"fail over {self.instance} to its standby{f' in zone {self.to}' if self.to else ''}"

    def difference(self) -> tuple[Any, Any]:
        """The zone."""
        return self.zone, self.to or "the standby's"

    def check(self, read: Systems) -> Finding:
        """Reads the instance's zone."""
        state = read.rds.instance(self.instance)
        if not state.zone:
            return InProgress(f"RDS reports no zone for {self.instance}; it is {state.status}")
        if state.zone != self.zone:
            return Done(f"it runs in {state.zone}; it was in {self.zone}")
        if state.status == REBOOTING:
            return InProgress(f"{self.instance} is rebooting; it is in {state.zone}")
        if isinstance(waited := DATABASE.waited(self.instance, state.status, "writers"), Failed):
            return waited
        return Pending(1, "writers", _broken(read, self.instance))

    def over(self, read: Systems) -> bool:
        """The instance's status."""
        return read.rds.instance(self.instance).status != REBOOTING

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """RebootDBInstance with ForceFailover, after one more check of its fitness."""
        fit_instance(write.reader.rds.instance(self.instance))
        return {"status": write.rds.reboot_to_standby(self.instance)}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The RDS commands for a single instance, until it runs in another zone."""
        where = {"DBInstanceIdentifier": self.instance}
        look, zone = raw.aws(environment, "rds", "describe-db-instances", **where), "DBInstances[0].AvailabilityZone"
        moved = Equal(one=Variable("now"), other=self.zone, differ=True)
        return [
            *raw.as_reviewed(look, zone, self.zone, f"The zone of {self.instance}"),
            raw.aws(environment, "rds", "reboot-db-instance", ForceFailover=True, **where),
            Forever(
                statements=(raw.learn("now", look, zone),),
                until=moved,
                seconds=int(self.timeout),
                otherwise=f"{self.instance} still runs in {self.zone}.",
            ),
            raw.aws(environment, "rds", "wait db-instance-available", **where),
        ]


class ProveWrites(Change, frozen=True, kw_only=True):
    """After a failover, a write was committed with the application's login, at the endpoint that the application uses."""

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"failover"})
    permissions: ClassVar[Permissions] = needs(apply="postgres:temporary rds:DescribeDBClusters rds:DescribeDBInstances")
    outcome_known_by: ClassVar[OutcomeKnownBy] = "idempotency_key"
    poll: ClassVar[float] = 1
    target_template: ClassVar[str] = "{failover.target}/writes"
    proven_by_history: ClassVar[bool] = True
    summary_template: ClassVar[str] = "verify that the application's login can write to the database"
    irreversible: ClassVar[str] = "the test write leaves nothing behind"

    failover: FailOverCluster | FailOverInstance

    @property
    def depends_on(self) -> frozenset[str]:
        """The failover."""
        return frozenset({self.failover.target})

    def check(self, read: Systems) -> Finding:
        """Waits for the failover: an earlier write would show nothing."""
        if why := self.failover.needless:
            return Done(f"{why}, so there was no failover to verify")
        found = self.failover.check(read)
        if isinstance(found, Done):
            return Pending(1, "writes")
        return found if isinstance(found, Drifted) else InProgress("after the failover")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Tries until a write is committed, then until AWS reports that the failover is over."""
        patience = time.monotonic() + PATIENCE
        tries = _written(write, patience, progress)
        began = write.history.begun(token, self.failover.target)
        lost = (write.now() - began).total_seconds() if began else None
        while not _is_over(write, self.failover) and time.monotonic() < patience:
            progress(tries, tries, "test write tried; waiting until AWS reports the failover as finished", effect=False)
            time.sleep(PAUSE)
        if lost is None:
            return {"why": "a test write was committed", "tries": tries}
        why = f"a test write was committed {lost:.1f} s after the failover was requested: at most {lost:.1f} s without writes"
        return {"why": why, "tries": tries, "seconds_without_writes": round(lost, 1)}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The same write with psql, until it is committed."""
        proof = Forever(
            until=raw.sql(environment, PROOF), seconds=int(PATIENCE), otherwise=f"No test write was committed in {PATIENCE:.0f} s."
        )
        return [*raw.database(environment), proof]


def _written(write: Systems, patience: float, progress: ProgressCallback) -> int:
    """How many tries a committed write took.

    Raises Denied and the like at once, CheckFailed when `patience` (on the monotonic clock) runs out.
    """
    for tries in itertools.count(1):
        try:
            with write.database.transaction():
                write.database.execute(PROOF)
            return tries
        except (Denied, CredentialsInvalid, NotFound):
            raise
        except (ExternalError, ReadOnly, OutcomeUnknown) as cause:
            # The write leaves nothing behind, whether it succeeded or not, so that it can be repeated.
            if time.monotonic() >= patience:
                raise CheckFailed(
                    f"No test write was committed within {PATIENCE:.0f} s of the failover: {cause.what}",
                    Retry("Show the state: opsctl database status"),
                ) from cause
            progress(tries, None, f"trying a test write: {cause.what}", effect=False)
        time.sleep(PAUSE)
    raise AssertionError("it returns or raises")


def _is_over(write: Systems, failover: FailOver) -> bool:
    try:
        return failover.over(write.reader)
    except (Denied, CredentialsInvalid):
        # Waiting fixes neither.
        raise
    except ExternalError:
        return False


def fit_cluster(read: Systems, state: Cluster, to: str) -> None:
    """Raises Refused unless a cluster can fail over now, and the reader `to` can become the writer."""
    again = "Show the state: opsctl database status"
    if state.status == FAILING_OVER:
        raise Refused(
            f"A failover of {state.id} is already in progress; no other was started.",
            "Watch it: opsctl database status; whether opsctl started it: opsctl runs list --active",
        )
    if state.status != "available":
        raise Refused(f"{state.id} is {state.status}; only an available cluster can fail over.", again)
    candidate = next((member for member in state.readers if member.id == to), None)
    if candidate is None:
        raise Refused(f"{to} is not a reader of {state.id}.", again)
    if candidate.status != "available":
        raise Refused(f"{to} is {candidate.status}, so it can't become the writer.", again)
    (lag, _), most = seconds_behind(read, state, candidate), read.environment.database.max_lag
    if lag is not None and lag > most.total_seconds():
        raise Refused(
            f"{to} is {lag:.1f} s behind the writer, more than max-lag ({most}).",
            "Choose another reader with --to, or wait until it has caught up: opsctl database status",
        )


def within_one_region(read: Systems, state: Cluster) -> None:
    """Raises Refused for a cluster of a global database; ExternalError if that can't be read."""
    if found := read.rds.global_database(state.arn):
        raise Refused(
            f"{state.id} belongs to the global database {found}, where a failover may mean a change of region.",
            f"To fail over to another region: aws rds switchover-global-cluster --global-cluster-identifier {found}"
            " --target-db-cluster-identifier ARN; within this region: add --accept-global",
        )


def fit_instance(state: RdsInstance) -> None:
    """Raises Refused unless an instance can fail over to its standby now."""
    if state.cluster:
        raise Refused(
            f"{state.id} is a member of the cluster {state.cluster}; only the whole cluster can fail over.",
            f'Set cluster = "{state.cluster}" in [database] instead of instance.',
        )
    if not state.multi_az:
        raise Refused(
            f"{state.id} is in one zone only ({state.zone}) and has no standby: a failover would only cause an outage.",
            "Make it Multi-AZ first: aws rds modify-db-instance --multi-az; a plain restart is aws rds reboot-db-instance",
        )
    if state.status == REBOOTING:
        raise Refused(
            f"{state.id} is already rebooting; no failover was started.",
            "Watch it: opsctl database status; whether opsctl started it: opsctl runs list --active",
        )
    if state.status != "available":
        raise Refused(
            f"{state.id} is {state.status}; only an available instance can fail over.", "Wait until it is available: opsctl database status"
        )


def seconds_behind(read: Systems, cluster: Cluster, reader: ClusterMember) -> tuple[float | None, str]:
    """How many seconds a reader is behind its writer, or None and the reason; an unknown lag doesn't stop a failover."""
    metric, unit = ("AuroraReplicaLag", 1000) if cluster.aurora else ("ReplicaLag", 1)
    found, unknown = _newest(read, metric, reader.id)
    return None if found is None else found / unit, unknown


def _newest(read: Systems, metric: str, instance: str) -> tuple[float | None, str]:
    """CloudWatch's newest value, or None and the reason."""
    try:
        found = read.cloudwatch.latest("AWS/RDS", metric, {"DBInstanceIdentifier": instance}, read.now())
    except ExternalError as no:
        return None, no.what.rstrip(".")
    return found, "CloudWatch has no value" if found is None else ""


def _broken(read: Systems, writer: str) -> str:
    """A note on the connections that end, as CloudWatch counts them: the database itself may not respond."""
    count, _ = _newest(read, "DatabaseConnections", writer)
    now = "" if count is None else f" ({count:.0f} now)"
    return f"all connections to {writer} break{now}, and no write succeeds until the new writer takes over"


def _behind(read: Systems, cluster: Cluster, to: str) -> str:
    reader = next((member for member in cluster.readers if member.id == to), None)
    lag, unknown = seconds_behind(read, cluster, reader) if reader else (None, "it is not a reader")
    return f"replica lag of {to} unknown: {unknown}" if lag is None else f"replica lag of {to}: {lag * 1000:.0f} ms"
