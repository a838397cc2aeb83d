"""Failovers: the writer changes, or the zone of a Multi-AZ instance, and the connections to the real PostgreSQL break meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from opsctl.sandbox import postgres
from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.wire import AwsError

FAILOVER_SECONDS = 3.0
BREAK = """
SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class Outage:
    """The moment in which the database takes nobody: every connection ends, and new ones are refused for a while."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._facts = facts

    def begin(self, seconds: float) -> None:
        """Break every connection; with `seconds` refuse new ones until then. A world without a PostgreSQL has none to break."""
        if "pg_superuser_password" not in self._facts:
            return
        if seconds:
            self._allow(False)
            # A timer, since the timeline moves on only when somebody asks AWS.
            opening = threading.Timer(seconds, self._allow, [True])
            opening.daemon = True
            opening.start()
        self._run(BREAK, [self._facts["database"]])

    def _allow(self, open: bool) -> None:
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        self._run(statement.format(sql.Identifier(self._facts["database"]), sql.Literal(open)), [])

    def _run(self, statement: Any, values: list[str]) -> None:
        with contextlib.suppress(psycopg.Error), self._connected() as connection:
            connection.execute(statement, values)

    def _connected(self) -> postgres.Connection:
        return postgres.connect(int(self._facts["pg_port"]), self._facts["pg_superuser_password"])


@dataclass
class FailoverEvent:
    """One of RDS' events, with the names that moto writes out."""

    source_identifier: str
    source_type: str
    source_arn: str
    message: str
    date: datetime
    event_categories: tuple[str, ...] = ("failover",)


class Failovers:
    """Begins failovers; they end on the timeline, and each leaves two events."""

    def __init__(self, timeline: EventLog, wait: Callable[[float], float], outage: Outage) -> None:
        self._timeline = timeline
        self._wait = wait
        self._outage = outage

    def of_cluster(self, backend: Any, cluster: Any, wanted: str | None) -> None:
        """Begin to give a cluster another writer; AwsError where AWS refuses it."""
        name = cluster.db_cluster_identifier
        if cluster.status != "available":
            raise AwsError("InvalidDBClusterStateFault", f"DB cluster {name} is not in available state: {cluster.status}")
        target = _target(cluster, wanted)
        cluster.status = "failing-over"
        same = cluster.writer is not None and cluster.writer.availability_zone == target.availability_zone
        begun = f"Started {'same' if same else 'cross'} AZ failover to DB instance: {target.db_instance_identifier}"
        self._tell(backend, name, "db-cluster", cluster.arn, begun)

        def finish(due: float) -> None:
            cluster.failover(target)
            cluster.status = "available"
            self._tell(backend, name, "db-cluster", cluster.arn, f"Completed failover to DB instance: {target.db_instance_identifier}")

        self._begin(finish)

    def of_instance(self, backend: Any, instance: Any, *, swap: bool) -> None:
        """Begin to reboot an instance, with `swap` in its other zone; AwsError where AWS refuses it."""
        name = instance.db_instance_identifier
        if instance.status != "available":
            raise AwsError("InvalidDBInstanceState", f"Instance {name} is not in available state.")
        if swap and not instance.multi_az:
            message = "ForceFailover cannot be specified since the instance is not configured for MultiAZ"
            raise AwsError("InvalidParameterCombination", message)
        instance.status = "rebooting"
        if swap:
            self._tell(backend, name, "db-instance", instance.arn, "Multi-AZ instance failover started.")

        def finish(due: float) -> None:
            instance.status = "available"
            if swap:
                zones = instance.availability_zone, instance.secondary_availability_zone
                instance.secondary_availability_zone, instance.availability_zone = zones
                self._tell(backend, name, "db-instance", instance.arn, "Multi-AZ instance failover completed.")

        self._begin(finish)

    def _begin(self, finish: Callable[[float], None]) -> None:
        seconds = self._wait(FAILOVER_SECONDS)
        self._outage.begin(seconds)
        self._timeline.at(self._timeline.now() + seconds, finish)

    def _tell(self, backend: Any, name: str, kind: str, arn: str, message: str) -> None:
        moment = datetime.fromtimestamp(self._timeline.now(), UTC)
        backend.events.append(FailoverEvent(name, kind, arn, message, moment))


def _target(cluster: Any, wanted: str | None) -> Any:
    """The instance that becomes the writer; where none is wanted, the reader of the lowest promotion tier."""
    name = cluster.db_cluster_identifier
    readers = {member.db_instance_identifier: member for member in cluster.members if not member.is_cluster_writer}
    if wanted and cluster.writer and wanted == cluster.writer.db_instance_identifier:
        raise AwsError("InvalidDBClusterStateFault", f"DB instance {wanted} is already the writer of DB cluster {name}")
    if not readers:
        raise AwsError("InvalidDBClusterStateFault", f"DB cluster {name} has no instance to fail over to")
    if wanted and wanted not in readers:
        raise AwsError("InvalidParameterValue", f"Cannot find target instance: {wanted}")
    target = readers[wanted] if wanted else min(readers.values(), key=lambda member: member.promotion_tier)
    if target.status != "available":
        raise AwsError("InvalidDBInstanceState", f"Instance {target.db_instance_identifier} should be in valid state for failover.")
    return target
