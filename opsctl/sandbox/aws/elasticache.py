"""ElastiCache: cache nodes with the endpoint of the sandbox's real Valkey; the rest is moto's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.moto_internals import backend
from opsctl.sandbox.aws.names import REGION
from opsctl.sandbox.aws.wire import Answer, Request


class FakeElastiCache:
    """DescribeCacheClusters, with nodes where ShowCacheNodeInfo asks for them."""

    def __init__(self, facts: Mapping[str, str], moto: MotoApp) -> None:
        self._facts = facts
        self._moto = moto
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {"DescribeCacheClusters": self._describe}

    def seed(self, name: str) -> None:
        """Make a cache cluster of one node."""
        fields = {"CacheClusterId": name, "Engine": "redis", "EngineVersion": "7.1", "NumCacheNodes": 1}
        self._moto.query(
            "elasticache",
            REGION,
            "CreateCacheCluster",
            CacheNodeType="cache.t4g.small",
            Port=self._facts.get("redis_port", "6379"),
            **fields,
        )

    def _describe(self, request: Request) -> Answer:
        wanted = str(request.params.get("ShowCacheNodeInfo", "")).lower() == "true"
        for cluster in backend("elasticache.models.elasticache_backends", request.region).cache_clusters.values():
            cluster.cache_nodes = [self._node()] if wanted else []
        return self._moto(request)

    def _node(self) -> dict[str, Any]:
        endpoint = {
            "Address": self._facts.get("redis_host", "127.0.0.1"),
            "Port": int(self._facts.get("redis_port", "6379")),
        }
        return {
            "CacheNodeId": "0001",
            "CacheNodeStatus": "available",
            "Endpoint": endpoint,
            "ParameterGroupStatus": "in-sync",
            "CustomerAvailabilityZone": f"{REGION}a",
        }
