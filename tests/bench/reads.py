"""Commands that read beside the runbook's own `aws` commands for the same (Safawinet, quick reference and sections 3 to 7)."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opsctl import config
from tests.bench.sides import by_turns, command
from tests.bench.table import Row, ratio

BOUND = 0.7
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
PAIRS = [
    ("alarms list", ["aws cloudwatch describe-alarms"], BOUND),
    ("service metrics api", [METRICS], BOUND),
    ("database status", ["aws rds describe-db-clusters --db-cluster-identifier safawinet-prod"], BOUND),
    (DATA_API + "database connections", [COUNT], BOUND),
    ("database connections", [COUNT], None),
    (DATA_API + "database activity", [INSTANCES, ACTIVE], BOUND),
    ("database activity", [INSTANCES, ACTIVE], BOUND),
    ("snapshots list", ["aws rds describe-db-snapshots --db-instance-identifier safawinet-prod"], BOUND),
    ("bounces stats", ["aws ses get-send-statistics --region us-east-1"], BOUND),
]
"""A line of opsctl, the runbook's lines whose answers it gives, and the bound; without one, it is there for comparison."""

REPEATS = 11


def measure(folder: Path) -> list[Row]:
    """Each pair by turns."""
    over_data_api(folder / "data-api")
    rows = []
    for ours, theirs, bound in PAIRS:
        words = shlex.split(ours.format(folder=folder))
        lines = [os.path.expandvars(_timed(line)) for line in theirs]
        taken = by_turns([command("opsctl", *words), command("sh", "-ec", "\n".join(lines))], REPEATS)
        name = ours.replace(DATA_API, "Data API: ")
        rows.append(ratio(name, *taken, bound, ("opsctl", ", ".join(" ".join(shlex.split(line)[:3]) for line in lines))))
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
