"""How long opsctl takes to begin."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.sides import by_turns, command
from tests.bench.table import Row, ratio

DESCRIBE = "aws ecs describe-services --cluster safawinet-prod --services safawinet-api-prod safawinet-worker-prod"


def measure(folder: Path) -> list[Row]:
    """`--help` beside `import click`, and `service status` beside the AWS CLI's describe-services."""
    helps, click = by_turns([command("opsctl", "--help"), command(sys.executable, "-c", "import click")], repeats=31)
    status, describe = by_turns([command("opsctl", "service", "status"), command(*DESCRIBE.split())], repeats=15)
    return [ratio("--help", helps, click), ratio("service status", status, describe)]
