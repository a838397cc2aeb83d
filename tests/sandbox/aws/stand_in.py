from __future__ import annotations

import time
from typing import Any

import boto3
from botocore.config import Config
from werkzeug.serving import WSGIRequestHandler

from opsctl.sandbox.aws import front
from opsctl.sandbox.services import SandboxContext

CLUSTER = "safawinet-prod"
API = "safawinet-api-prod"
JWT = "safawinet/prod/jwt"


class Clock:
    """The real time, and as much later as a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def pass_by(self, seconds: float) -> None:
        self.ahead += seconds


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        pass


class Aws:
    """The stand-in behind a port, and clients for it."""

    def __init__(self, world: SandboxContext, part: front.AwsEndpoint, clock: Clock, port: int) -> None:
        self.world, self.part, self.clock, self.port = world, part, clock, port
        self._clients: dict[tuple[str, str, str], Any] = {}

    def client(self, service: str, region: str = "us-east-1", key: str = "") -> Any:
        wanted = (service, region, key)
        if wanted not in self._clients:
            self._clients[wanted] = boto3.session.Session().client(
                service,
                region_name=region,
                endpoint_url=f"http://127.0.0.1:{self.port}",
                aws_access_key_id=key or self.world.facts["access_key_id"],
                aws_secret_access_key="no-key",
                config=Config(retries={"total_max_attempts": 1}),
            )
        return self._clients[wanted]

    def service(self, name: str = API) -> dict[str, Any]:
        return self.client("ecs").describe_services(cluster=CLUSTER, services=[name])["services"][0]

    def writer(self) -> str:
        cluster = self.client("rds").describe_db_clusters(DBClusterIdentifier=CLUSTER)["DBClusters"][0]
        return next(each["DBInstanceIdentifier"] for each in cluster["DBClusterMembers"] if each["IsClusterWriter"])
