"""The playbook's calls by a bare script: the same SDKs, in one process, one call after another, with no plan, ledger, lock or guard.

It looks as often as opsctl does: once for the plan, once before each effect, and once after it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import botocore.session
import httpx
import psycopg
import redis

CLUSTER, SERVICE, BOTH = "safawinet-prod", "safawinet-api-prod", ["safawinet-api-prod", "safawinet-worker-prod"]
ROLE = "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
HIDDEN = "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = to_regclass('refresh_sessions')"
OLD = "SELECT count(*) FILTER (WHERE created_at < %s), count(*) FROM refresh_sessions"
PAGES = "SELECT pg_relation_size('refresh_sessions') / 8192"
DELETE = "DELETE FROM refresh_sessions WHERE ctid >= %s::tid AND ctid < %s::tid AND created_at < %s"
STEP = 150

session = botocore.session.get_session()
aws = {name: session.create_client(name) for name in ("sts", "secretsmanager", "rds", "elasticache", "ecs", "ecr")}
web = httpx.Client(base_url=os.environ["API_URL"])


def secret() -> None:
    aws["secretsmanager"].get_secret_value(SecretId=os.environ["DB_SECRET_ARN"])


def database() -> psycopg.Connection[Any]:
    secret()
    connection = psycopg.connect(autocommit=True)
    connection.execute(ROLE)
    return connection


def one(connection: psycopg.Connection[Any], statement: str, *values: Any) -> Any:
    row = connection.execute(statement, values).fetchone()
    assert row
    return row[0]


def cache() -> redis.Redis:
    secret()
    host, port = os.environ["REDIS_HOST"], int(os.environ["REDIS_PORT"])
    client = redis.Redis(host, port, username="default", password=os.environ["REDIS_PASSWORD"])
    client.ping()
    client.info("cluster")
    return client


def old_rows() -> Any:
    database_read.execute(HIDDEN)
    return one(database_read, OLD, cutoff)


def old_keys() -> int:
    return sum(1 for _ in cache_read.scan_iter("session:*", count=2_000))


def marks() -> Any:
    return cache_read.get("auth:revoked:all")


def service() -> dict[str, Any]:
    found: dict[str, Any] = aws["ecs"].describe_services(cluster=CLUSTER, services=[SERVICE])["services"][0]
    arns = aws["ecs"].list_tasks(cluster=CLUSTER, serviceName=SERVICE)["taskArns"]
    aws["ecs"].describe_tasks(cluster=CLUSTER, tasks=arns)
    return found


def deployable() -> None:
    definition = aws["ecs"].describe_task_definition(taskDefinition=service()["taskDefinition"])["taskDefinition"]
    image = definition["containerDefinitions"][0]["image"].partition("/")[2]
    repository, _, tag = image.partition(":")
    aws["ecr"].describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])


def healthy() -> None:
    web.get("/health").raise_for_status()


# The plan.
aws["sts"].get_caller_identity()
database_read = database()
cutoff = one(database_read, "SELECT clock_timestamp()")
aws["rds"].describe_db_clusters(DBClusterIdentifier="safawinet-prod")
old_rows()
aws["elasticache"].describe_cache_clusters(CacheClusterId="safawinet-redis", ShowCacheNodeInfo=True)
cache_read = cache()
old_keys()
marks()
deployable()
healthy()

# 1.2: the sessions in the database, those in Redis, and the API.
old_rows()
database_write = database()
for first in range(0, one(database_write, PAGES), STEP):
    with database_write.transaction():
        database_write.execute("SET LOCAL lock_timeout = 200")
        database_write.execute(DELETE, [f"({first},0)", f"({first + STEP},0)", cutoff])
assert old_rows() == 0
old_keys()
cache_write = cache()
cursor = -1
while cursor:
    cursor, keys = cache_write.scan(max(cursor, 0), "session:*", 2_000)
    if keys:
        cache_write.unlink(*keys)
assert old_keys() == 0
marks()
secret()
token = {"Authorization": f"Bearer {os.environ['ADMIN_TOKEN']}"}
web.post("/v1/auth/force-logout-all", headers=token, json={}).raise_for_status()

# 1.5: the service, twice verified.
deployable()
healthy()
deployable()
healthy()
began = datetime.now(UTC)
aws["ecs"].update_service(cluster=CLUSTER, service=SERVICE, forceNewDeployment=True)
while (primary := service()["deployments"][0])["rolloutState"] != "COMPLETED":
    assert (datetime.now(UTC) - began).total_seconds() < 60
assert primary["runningCount"] == primary["desiredCount"]
healthy()
service()
healthy()
aws["ecs"].describe_services(cluster=CLUSTER, services=BOTH)
healthy()
