"""Amazon ElastiCache: endpoint and status of a cache."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter
from opsctl.errors import ExternalError, NotFound


class Cache(Struct, frozen=True):
    """A cache cluster or replication group; `host` and `port` are the endpoint for writes (empty and 0 while there is none)."""

    id: str
    status: str
    engine: str
    version: str
    host: str
    port: int


class ElastiCache(Adapter):
    """ElastiCache in the environment's region."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
        self._endpoints: dict[str, tuple[str, int]] = {}

    def endpoint(self, id: str) -> tuple[str, int]:
        """Host and port of the endpoint for writes, cached; raises NotFound, or ExternalError while there is none."""
        if id not in self._endpoints:
            cache = self.cluster(id)
            if not cache.host:
                raise ExternalError(f"The cache {id} has no endpoint: its status is {cache.status}.", "Wait until it is available.")
            self._endpoints[id] = cache.host, cache.port
        return self._endpoints[id]

    def cluster(self, id: str) -> Cache:
        """Return the cache cluster or the replication group named `id`; raises NotFound when it is neither."""
        try:
            answer = self._aws.call("elasticache", "describe_cache_clusters", CacheClusterId=id, ShowCacheNodeInfo=True)
        except NotFound:
            return self._group(id)
        found = answer["CacheClusters"][0]
        # A node of a replication group may be a replica: only the group knows its primary.
        if group := found.get("ReplicationGroupId"):
            return self._group(group, found["Engine"], found.get("EngineVersion", ""))
        nodes = found.get("CacheNodes", [])
        place = found.get("ConfigurationEndpoint") or (nodes[0].get("Endpoint") if nodes else None) or {}
        return _cache(id, found["CacheClusterStatus"], found["Engine"], found.get("EngineVersion", ""), place)

    def _group(self, id: str, engine: str = "", version: str = "") -> Cache:
        answer = self._aws.call("elasticache", "describe_replication_groups", ReplicationGroupId=id)
        found = answer["ReplicationGroups"][0]
        nodes = found.get("NodeGroups", [])
        place = found.get("ConfigurationEndpoint") or (nodes[0].get("PrimaryEndpoint") if nodes else None) or {}
        return _cache(id, found["Status"], engine or found.get("Engine", ""), version, place)


def _cache(id: str, status: str, engine: str, version: str, place: dict[str, Any]) -> Cache:
    return Cache(id, status, engine, version, place.get("Address", ""), place.get("Port", 0))
