"""RDS: failovers that take a while, endpoints that are the sandbox's real PostgreSQL; the rest is moto's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from opsctl.sandbox.aws.moto_app import Moto
from opsctl.sandbox.aws.names import ACCOUNT, REGION
from opsctl.sandbox.aws.snapshots import Snapshots
from opsctl.sandbox.aws.timeline import Timeline
from opsctl.sandbox.aws.wire import Answer, AwsError, Request, query_answer

FAILOVER_SECONDS = 3.0
_NAMESPACE = "http://rds.amazonaws.com/doc/2014-10-31/"
_HOST_NAME = re.compile(rb"[\w.-]+\.rds\.amazonaws\.com(?=</)")


class Rds:
    """The calls that take time. Progress waits on the timeline and shows in moto's own objects."""

    def __init__(self, timeline: Timeline, wait: Callable[[float], float], facts: Mapping[str, str], moto: Moto) -> None:
        self._timeline = timeline
        self._wait = wait
        self._facts = facts
        self._moto = moto
        self.snapshots = Snapshots(timeline, wait, facts, moto)
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "FailoverDBCluster": self._failover,
            "DescribeDBClusters": self._with_endpoints,
            "DescribeDBInstances": self._with_endpoints,
            **self.snapshots.operations,
        }

    def seed(self, cluster: str, instances: list[str], database: str) -> None:
        """Make an Aurora PostgreSQL cluster; the first instance is its writer."""
        port = self._facts.get("pg_port", "5432")
        common = {"Engine": "aurora-postgresql", "DBClusterIdentifier": cluster}
        self._moto.query(
            "rds",
            REGION,
            "CreateDBCluster",
            **common,
            EngineVersion="16.4",
            DatabaseName=database,
            MasterUsername="postgres",
            MasterUserPassword="never-used-to-log-in",
            Port=port,
        )
        for number, name in enumerate(instances):
            self._moto.query(
                "rds",
                REGION,
                "CreateDBInstance",
                **common,
                DBInstanceIdentifier=name,
                DBInstanceClass="db.r6g.large",
                AvailabilityZone=f"{REGION}{'abc'[number % 3]}",
                PromotionTier=number,
            )
        kept = self._backend(REGION).clusters[cluster]
        kept._enable_http_endpoint = True
        kept.status = "available"
        for name in instances:
            self._backend(REGION).databases[name].port = int(port)

    def _backend(self, region: str) -> Any:
        from moto.rds.models import rds_backends

        return rds_backends[ACCOUNT][region]

    def _with_endpoints(self, request: Request) -> Answer:
        answer = self._moto(request)
        host = self._facts.get("pg_host", "127.0.0.1").encode()
        return Answer(answer.status, answer.headers, _HOST_NAME.sub(host, answer.body))

    def _failover(self, request: Request) -> Answer:
        params = request.params
        cluster = self._backend(request.region).clusters.get(params.get("DBClusterIdentifier", ""))
        if cluster is None:
            return self._moto(request)
        if cluster.status != "available":
            message = f"DB cluster {cluster.db_cluster_identifier} is not in available state: {cluster.status}"
            raise AwsError("InvalidDBClusterStateFault", message)
        target = _failover_target(cluster, params.get("TargetDBInstanceIdentifier"))
        cluster.status = "failing-over"

        def finish(due: float) -> None:
            cluster.failover(target)
            cluster.status = "available"

        self._timeline.at(self._timeline.now() + self._wait(FAILOVER_SECONDS), finish)
        described = self._describe_cluster(request, cluster.db_cluster_identifier)
        return query_answer(request, _NAMESPACE, described)

    def _describe_cluster(self, request: Request, name: str) -> str:
        body = urlencode({"Action": "DescribeDBClusters", "DBClusterIdentifier": name, "Version": "2014-10-31"}).encode()
        asked = Request(request.environ, request.service, request.region, request.access_key, "query", "DescribeDBClusters", body)
        text = self._with_endpoints(asked).body.decode()
        return text.partition("<DBClusters>")[2].rpartition("</DBClusters>")[0]


def _failover_target(cluster: Any, wanted: str | None) -> Any:
    readers = {member.db_instance_identifier: member for member in cluster.members if not member.is_cluster_writer}
    if wanted and cluster.writer and wanted == cluster.writer.db_instance_identifier:
        message = f"DB instance {wanted} is already the writer of DB cluster {cluster.db_cluster_identifier}"
        raise AwsError("InvalidDBClusterStateFault", message)
    if not readers:
        message = f"DB cluster {cluster.db_cluster_identifier} has no instance to fail over to"
        raise AwsError("InvalidDBClusterStateFault", message)
    if wanted and wanted not in readers:
        raise AwsError("InvalidParameterValue", f"Cannot find target instance: {wanted}")
    return readers[wanted] if wanted else next(iter(readers.values()))
