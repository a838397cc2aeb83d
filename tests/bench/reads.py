"""Commands that read beside the runbook's own `aws` command for the same (Safawinet)."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opsctl.cli import root
from opsctl.render import reference
from tests.bench.sides import by_turns, command
from tests.bench.table import Row, ratio

STATEMENT = 'aws rds-data execute-statement --resource-arn $DB_CLUSTER_ARN --secret-arn $DB_SECRET_ARN --database $PGDATABASE --sql "{}"'
METRICS = (
    "aws cloudwatch get-metric-statistics --namespace AWS/ECS --metric-name CPUUtilization --period 300 --statistics Average"
    " --dimensions Name=ClusterName,Value=safawinet-prod Name=ServiceName,Value=safawinet-api-prod"
    " --start-time {} --end-time {}"
)
PAIRS = [
    ("alarms list", "aws cloudwatch describe-alarms"),
    ("service metrics api", METRICS),
    ("database status", "aws rds describe-db-clusters --db-cluster-identifier safawinet-prod"),
    ("database connections", STATEMENT.format("SELECT count(*) FROM pg_stat_activity;")),
    ("database activity", STATEMENT.format("SELECT * FROM pg_stat_activity WHERE state = 'active';")),
    ("snapshots list", "aws rds describe-db-snapshots --db-instance-identifier safawinet-prod"),
    ("bounces stats", "aws ses get-send-statistics --region us-east-1"),
]
"""A line of opsctl, and the runbook's line; one whose command isn't there is left out, and said."""

REPEATS = 11
BOUND = 0.7


def measure(folder: Path) -> list[Row]:
    """Each pair by turns."""
    known = {words for words, _ in reference.leaves(root)}
    rows = []
    for ours, theirs in PAIRS:
        if not any(ours == words or ours.startswith(f"{words} ") for words in known):
            sys.stderr.write(f"  left out, as there is no such command: {ours}\n")
            continue
        words = shlex.split(os.path.expandvars(_timed(theirs)))
        taken = by_turns([command("opsctl", *shlex.split(ours)), command(*words)], REPEATS)
        rows.append(ratio(f"opsctl {ours}", *taken, BOUND, ("opsctl", " ".join(words[:3]))))
    return rows


def _timed(line: str) -> str:
    """The runbook's last hour."""
    now = datetime.now(UTC)
    return line.format(*(f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in (now - timedelta(hours=1), now)))
