"""The runbook's own commands, really run against the sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import ROOT
from thieves import Session
from world import World

needs_aws = pytest.mark.skipif(shutil.which("aws") is None, reason="the aws command isn't installed here")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed here")


def shell(world: World, lines: str, folder: Path) -> str:
    """Run lines in a shell that has met the sandbox, and stop at the first that fails."""
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = f'eval "$({sys.executable} -m opsctl.main sandbox env)"\nset -euo pipefail\n{lines}\n'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=told, cwd=folder, timeout=60, start_new_session=True, check=False
    )
    assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@needs_curl
def test_the_runbooks_own_lines(world: World, tmp_path: Path) -> None:
    assert shell(world, "psql -Atc 'SELECT count(*) FROM users'", tmp_path).strip() == "10000"
    assert shell(world, 'redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT" ping', tmp_path).strip() == "PONG"
    assert int(shell(world, 'valkey-cli -h "$REDIS_HOST" -p "$REDIS_PORT" dbsize', tmp_path).split()[-1]) >= 25_000
    health = shell(world, 'curl -fsS "$API_URL/health"', tmp_path)
    assert "ok" in health.lower()
    stolen = Session.of(world, 15)
    shell(
        world,
        'curl -fsS -X POST "$API_URL/v1/auth/force-logout-all" -H "Authorization: Bearer $ADMIN_TOKEN" -H "Content-Type: application/json"'
        ' -d \'{"reason": "Token compromise"}\'',
        tmp_path,
    )
    assert stolen.dead


@needs_aws
def test_the_runbooks_own_aws_lines(world: World, tmp_path: Path) -> None:
    lines = {
        "aws ecs describe-services --cluster safawinet-prod --services safawinet-api-prod": "safawinet-api-prod",
        "aws elasticache describe-cache-clusters --cache-cluster-id safawinet-redis --show-cache-node-info": "127.0.0.1",
        'aws rds describe-db-clusters --db-cluster-identifier safawinet-prod --endpoint-url "$AWS_ENDPOINT_URL"': "safawinet-prod",
        "aws rds-data execute-statement --resource-arn $DB_CLUSTER_ARN --secret-arn $DB_SECRET_ARN --database safawinet"
        " --sql 'SELECT count(*) FROM users'": "10000",
        'aws cloudwatch describe-alarms --alarm-names "Safawinet-ALB-5xx-Errors"': "Safawinet-ALB-5xx-Errors",
    }
    for line, word in lines.items():
        assert word in shell(world, line, tmp_path)
