"""Commands that read beside the runbook's own `aws` commands for the same (Safawinet, quick reference and sections 3 to 7)."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opsctl import config
from tests.bench.sides import by_turns, command
from tests.bench.table import Row, ratio

STATEMENT = 'aws rds-data execute-statement --resource-arn $DB_CLUSTER_ARN --secret-arn $DB_SECRET_ARN --database $PGDATABASE --sql "{}"'
METRICS = (
    "aws cloudwatch get-metric-statistics --namespace AWS/ECS --metric-name CPUUtilization --period 300 --statistics Average"
    " --dimensions Name=ClusterName,Value=safawinet-prod Name=ServiceName,Value=safawinet-api-prod"
    " --start-time {} --end-time {}"
)
COUNT = STATEMENT.format("SELECT count(*) FROM pg_stat_activity;")
ACTIVE = STATEMENT.format("SELECT * FROM pg_stat_activity WHERE state = 'active';")
INSTANCES = "aws rds describe-db-instances --db-instance-identifier safawinet-prod"
DATA_API = "--config {folder}/data-api "
"""Asks the database as the runbook does, over the Data API; else the sandbox's driver is a connection."""
PAIRS = {
    "alarms list": ("alarms list", ["aws cloudwatch describe-alarms"]),
    "service metrics api": ("service metrics api", [METRICS]),
    "database status": ("database status", ["aws rds describe-db-clusters --db-cluster-identifier safawinet-prod"]),
    "database connections, over the Data API": (DATA_API + "database connections", [COUNT]),
    "": ("database connections", [COUNT]),
    "database activity, over the Data API": (DATA_API + "database activity", [INSTANCES, ACTIVE]),
    "database activity": ("database activity", [INSTANCES, ACTIVE]),
    "snapshots list": ("snapshots list", ["aws rds describe-db-snapshots --db-instance-identifier safawinet-prod"]),
    "bounces stats": ("bounces stats", ["aws ses get-send-statistics --region us-east-1"]),
}
"""By the bound's words: a line of opsctl, and the runbook's lines whose answers it gives. The one without a bound is for comparison."""

REPEATS = 9


def measure(folder: Path) -> list[Row]:
    """Each pair by turns."""
    over_data_api(folder / "data-api")
    rows = []
    for bound, (ours, theirs) in PAIRS.items():
        words = shlex.split(ours.format(folder=folder))
        lines = [os.path.expandvars(_timed(line)) for line in theirs]
        taken = by_turns([command("opsctl", *words), command("sh", "-ec", "\n".join(lines))], REPEATS)
        rows.append(ratio(bound, *taken, what="" if bound else ours))
    return rows


def over_data_api(folder: Path) -> None:
    """Write the sandbox's configuration anew, the database's driver being the Data API."""
    folder.mkdir()
    text = config.find("sandbox").text.decode()
    (folder / "sandbox.toml").write_text(text.replace('driver = "postgres"', 'driver = "rds-data"'))


def _timed(line: str) -> str:
    """The runbook's last hour."""
    now = datetime.now(UTC)
    return line.format(*(f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in (now - timedelta(hours=1), now)))
