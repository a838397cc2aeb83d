"""The automated commands of the runbook's 1.2 and 1.5 (Safawinet, token compromise) beside the runbook's own shell commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from opsctl.sandbox import lifecycle
from tests.bench.house import HOUSE
from tests.bench.sides import by_turns, command
from tests.bench.table import Row, ratio

LINES = ("logout all", "service redeploy api", "service status api")
"""What the playbook runs in these two sections."""
SHELL = """
curl -fsS -X POST "$API_URL/v1/auth/force-logout-all" -H "Authorization: Bearer $ADMIN_TOKEN" -H "Content-Type: application/json"
aws rds-data execute-statement --resource-arn "$DB_CLUSTER_ARN" --secret-arn "$DB_SECRET_ARN" \
  --database "$PGDATABASE" --sql "DELETE FROM refresh_sessions WHERE expires_at > NOW();"
aws elasticache describe-cache-clusters --cache-cluster-id safawinet-redis
valkey-cli -h "$REDIS_HOST" -p "$REDIS_PORT" FLUSHALL
aws ecs update-service --cluster safawinet-prod --service safawinet-api-prod --force-new-deployment
aws ecs describe-services --cluster safawinet-prod --services safawinet-api-prod
"""
"""As the runbook has them; the password comes from REDISCLI_AUTH, for an argument can be read by every process."""


def measure(folder: Path) -> list[Row]:
    """Both sides on the freshly seeded world, whose rollouts take no time."""
    ours = command(sys.executable, "-m", "tests.bench.lines", *LINES, folder=HOUSE)
    shell = command("sh", "-ec", SHELL)
    taken = by_turns([ours, shell], repeats=11, before=_seeded(folder))
    return [ratio("sections 1.2 and 1.5", *taken, 0.35, ("opsctl", "aws, curl, valkey-cli"))]


def _seeded(folder: Path) -> Callable[[], None]:
    return lambda: lifecycle.reset(folder)
