"""RDS: failovers that take a while, endpoints that are the sandbox's real PostgreSQL; the rest is moto's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.moto_internals import backend
from opsctl.sandbox.aws.names import REGION
from opsctl.sandbox.aws.rds_failover import Failovers, Outage
from opsctl.sandbox.aws.snapshots import FakeSnapshots
from opsctl.sandbox.aws.wire import Answer, Request, query_answer

_NAMESPACE = "http://rds.amazonaws.com/doc/2014-10-31/"
_HOST_NAME = re.compile(rb"[\w.-]+\.rds\.amazonaws\.com(?=</)")


class FakeRds:
    """The calls that take time. Progress waits on the timeline and shows in moto's own objects."""

    def __init__(self, timeline: EventLog, wait: Callable[[float], float], facts: Mapping[str, str], moto: MotoApp) -> None:
        self._timeline = timeline
        self._wait = wait
        self._facts = facts
        self._moto = moto
        self._failovers = Failovers(timeline, wait, Outage(facts))
        self.snapshots = FakeSnapshots(timeline, wait, facts, moto)
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "FailoverDBCluster": self._failover,
            "RebootDBInstance": self._reboot,
            "DescribeDBClusters": self._with_endpoints,
            "DescribeDBInstances": self._with_endpoints,
            **self.snapshots.operations,
        }

    def seed(self, cluster: str, instances: list[str], database: str) -> None:
        """Make an Aurora PostgreSQL cluster; the first instance is its writer, and the others follow it by their promotion tiers."""
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

    def seed_alone(self, name: str) -> None:
        """Make a Multi-AZ PostgreSQL instance that is in no cluster."""
        self._moto.query(
            "rds",
            REGION,
            "CreateDBInstance",
            DBInstanceIdentifier=name,
            Engine="postgres",
            EngineVersion="16.4",
            DBInstanceClass="db.t4g.medium",
            AllocatedStorage=20,
            MasterUsername="postgres",
            MasterUserPassword="never-used-to-log-in",
            AvailabilityZone=f"{REGION}a",
            MultiAZ="true",
        )
        made = self._backend(REGION).databases[name]
        made.port = int(self._facts.get("pg_port", "5432"))
        made.secondary_availability_zone = f"{REGION}b"
        made.performance_insights_enabled = False

    def _backend(self, region: str) -> Any:
        return backend("rds.models.rds_backends", region)

    def _with_endpoints(self, request: Request) -> Answer:
        answer = self._moto(request)
        host = self._facts.get("pg_host", "127.0.0.1").encode()
        return Answer(answer.status, answer.headers, _HOST_NAME.sub(host, answer.body))

    def _failover(self, request: Request) -> Answer:
        backend, params = self._backend(request.region), request.params
        cluster = backend.clusters.get(params.get("DBClusterIdentifier", ""))
        if cluster is None:
            return self._moto(request)
        self._failovers.of_cluster(backend, cluster, params.get("TargetDBInstanceIdentifier"))
        return self._described(request, "DBCluster", cluster.db_cluster_identifier)

    def _reboot(self, request: Request) -> Answer:
        backend, params = self._backend(request.region), request.params
        instance = backend.databases.get(params.get("DBInstanceIdentifier", ""))
        if instance is None:
            return self._moto(request)
        self._failovers.of_instance(backend, instance, swap=params.get("ForceFailover") == "true")
        return self._described(request, "DBInstance", instance.db_instance_identifier)

    def _described(self, request: Request, kind: str, name: str) -> Answer:
        """An answer that holds one cluster or instance as it is described."""
        operation = f"Describe{kind}s"
        body = urlencode({"Action": operation, f"{kind}Identifier": name, "Version": "2014-10-31"}).encode()
        asked = Request(request.environ, request.service, request.region, request.access_key, "query", operation, body)
        text = self._with_endpoints(asked).body.decode()
        return query_answer(request, _NAMESPACE, text.partition(f"<{kind}s>")[2].rpartition(f"</{kind}s>")[0])
