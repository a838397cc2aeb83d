"""RDS snapshots and what is restored from them: both take a while, and are refused as AWS refuses them; the rest is moto's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.moto_internals import backend
from opsctl.sandbox.aws.names import REGION
from opsctl.sandbox.aws.wire import Answer, AwsError, Request, query_answer

SNAPSHOT_SECONDS = 3.0
RESTORE_SECONDS = 4.0
DAY = 86_400.0
SUBNETS = "safawinet-private"
NAMESPACE = "http://rds.amazonaws.com/doc/2014-10-31/"
_MEMBER = (
    "The specified instance is a member of a cluster and a snapshot cannot be created directly. "
    "Please use the CreateDBClusterSnapshot API instead."
)


class _Creating(str):
    """The status of a cluster that is being restored. moto takes its own "creating" back at the first look."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = str.__hash__


class FakeSnapshots:
    """Snapshots of clusters and instances, and restores. Progress waits on the timeline and shows in moto's own objects."""

    def __init__(self, timeline: EventLog, wait: Callable[[float], float], facts: Mapping[str, str], moto: MotoApp) -> None:
        self._timeline = timeline
        self._wait = wait
        self._facts = facts
        self._moto = moto
        self._fails = False
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "CreateDBClusterSnapshot": self._snapshot_cluster,
            "CreateDBSnapshot": self._snapshot_instance,
            "DeleteDBClusterSnapshot": self._delete,
            "DeleteDBSnapshot": self._delete,
            "RestoreDBClusterFromSnapshot": self._restore_cluster,
            "RestoreDBInstanceFromDBSnapshot": self._restore_instance,
            "CreateDBInstance": self._create_instance,
            "EnableHttpEndpoint": self._enable_data_api,
        }

    def seed(self, cluster: str, began: float) -> None:
        """Put the cluster into a network of its own, with parameters of its own, and add a snapshot that somebody made by hand long ago."""
        backend = self._backend(REGION)
        subnets = [SimpleNamespace(id=f"subnet-{zone}", availability_zone=f"{REGION}{zone}", vpc_id="vpc-safawinet") for zone in "abc"]
        backend.create_subnet_group(SUBNETS, "Safawinet's private subnets", subnets, [])
        group = {"DBParameterGroupName": cluster, "DBParameterGroupFamily": "aurora-postgresql16", "Description": "Safawinet"}
        self._moto.query("rds", REGION, "CreateDBParameterGroup", **group)
        kept = backend.clusters[cluster]
        kept.db_subnet_group_name, kept.parameter_group, kept.vpc_security_group_ids = SUBNETS, f"{cluster}-cluster", ["sg-safawinet-db"]
        for member in kept.members:
            member.db_subnet_group_name, member.db_parameter_group_name, member.publicly_accessible = SUBNETS, cluster, False
            self._no_snapshot_of(backend, member)
        made = backend.create_db_cluster_snapshot(cluster, "before-the-upgrade")
        made.created = datetime.fromtimestamp(began - 30 * DAY, UTC)

    def fail_next(self) -> None:
        """Have the next snapshot fail half way."""
        self._fails = True

    def has_data_api(self, arn: str) -> bool:
        """Whether the cluster of this ARN has its Data API switched on."""
        cluster = self._backend(REGION).clusters.get(arn.rpartition(":")[2])
        return cluster is not None and bool(cluster._enable_http_endpoint)

    def _backend(self, region: str) -> Any:
        return backend("rds.models.rds_backends", region)

    def _find_snapshot(self, request: Request) -> tuple[Any, bool]:
        """The snapshot that a request names, or None; and whether it is one of a cluster."""
        backend, params = self._backend(request.region), request.params
        names = ("DBClusterSnapshotIdentifier", "SnapshotIdentifier", "DBSnapshotIdentifier")
        name = next(str(params[each]) for each in names if each in params).lower()
        cluster = "Cluster" in request.operation
        return (backend.cluster_snapshots if cluster else backend.database_snapshots).get(name), cluster

    def _snapshot_cluster(self, request: Request) -> Answer:
        answer = self._moto(request)
        return self._creating(answer, self._find_snapshot(request)[0]) if answer.status == 200 else answer

    def _snapshot_instance(self, request: Request) -> Answer:
        instance = self._backend(request.region).databases.get(request.params.get("DBInstanceIdentifier", ""))
        if getattr(instance, "db_cluster_identifier", None):
            raise AwsError("InvalidParameterValue", _MEMBER)
        return self._snapshot_cluster(request)

    def _creating(self, answer: Answer, snapshot: Any) -> Answer:
        snapshot.status, snapshot.percent_progress = "creating", 0
        now = self._timeline.now()
        quarters = (1, 2) if self._fails else (1, 2, 3, 4)
        for quarter in quarters:
            due = now + self._wait(SNAPSHOT_SECONDS * quarter / 4)
            self._timeline.at(due, partial(_progress, snapshot, quarter * 25, self._fails and quarter == quarters[-1]))
        self._fails = False
        body = re.sub(rb"<PercentProgress>\d+</PercentProgress>", b"", answer.body)
        shown = b"<Status>creating</Status><PercentProgress>0</PercentProgress>"
        return Answer(200, answer.headers, body.replace(b"<Status>available</Status>", shown, 1))

    def _delete(self, request: Request) -> Answer:
        self._must_be_whole(request, ("available", "failed"))
        return self._moto(request)

    def _must_be_whole(self, request: Request, states: tuple[str, ...] = ("available",)) -> None:
        snapshot, cluster = self._find_snapshot(request)
        if snapshot is not None and snapshot.status not in states:
            code = "InvalidDBClusterSnapshotStateFault" if cluster else "InvalidDBSnapshotState"
            raise AwsError(code, f"The snapshot is not in a state that allows it: {snapshot.status}")

    def _restore_cluster(self, request: Request) -> Answer:
        backend, name = self._backend(request.region), request.params.get("DBClusterIdentifier", "").lower()
        if name in backend.clusters:
            raise AwsError("DBClusterAlreadyExistsFault", f"DB Cluster {name} already exists")
        self._must_be_whole(request)
        answer = self._moto(request)
        if answer.status != 200:
            return answer
        cluster = backend.clusters[name]
        cluster.port = int(self._facts.get("pg_port", "5432"))
        # A restored cluster has a Data API only once it is enabled.
        cluster._enable_http_endpoint = False
        return self._settling(answer, cluster, "_status", _Creating("creating"))

    def _enable_data_api(self, request: Request) -> Answer:
        arn = request.params.get("ResourceArn", "")
        cluster = self._backend(request.region).clusters.get(arn.rpartition(":")[2])
        if cluster is None:
            raise AwsError("ResourceNotFoundFault", f"The specified resource {arn} was not found.", 404)
        cluster._enable_http_endpoint = True
        shown = f"<ResourceArn>{arn}</ResourceArn><HttpEndpointEnabled>true</HttpEndpointEnabled>"
        return query_answer(request, NAMESPACE, shown)

    def _restore_instance(self, request: Request) -> Answer:
        self._must_be_whole(request)
        return self._create_instance(request)

    def _create_instance(self, request: Request) -> Answer:
        answer = self._moto(request)
        if answer.status != 200:
            return answer
        instance = self._backend(request.region).databases[request.params["DBInstanceIdentifier"].lower()]
        instance.port = int(self._facts.get("pg_port", "5432"))
        if instance.db_cluster_identifier:
            self._no_snapshot_of(self._backend(request.region), instance)
        return self._settling(answer, instance, "status", "creating")

    def _no_snapshot_of(self, backend: Any, member: Any) -> None:
        """moto makes an automated snapshot of every instance; those of a cluster have none."""
        for name, kept in list(backend.database_snapshots.items()):
            if kept.db_instance_identifier == member.db_instance_identifier:
                del backend.database_snapshots[name]

    def _settling(self, answer: Answer, made: Any, attribute: str, state: str) -> Answer:
        setattr(made, attribute, state)
        self._timeline.at(self._timeline.now() + self._wait(RESTORE_SECONDS), lambda due: setattr(made, attribute, "available"))
        return Answer(200, answer.headers, answer.body.replace(b"InstanceStatus>available<", b"InstanceStatus>creating<", 1))


def _progress(snapshot: Any, percent: int, fails: bool, due: float) -> None:
    snapshot.percent_progress = percent
    if fails or percent == 100:
        snapshot.status = "failed" if fails else "available"
