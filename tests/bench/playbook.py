"""The automated commands of the runbook's 1.2 and 1.5 (token compromise), beside its own shell commands and a bare script."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from opsctl.playbook.loader import load
from opsctl.playbook.schema import PlaybookStep
from opsctl.sandbox import lifecycle
from tests.bench.bounds import LOGOUT
from tests.bench.sides import by_turns, command
from tests.bench.table import Row, ratio

PLAYBOOK = "token-compromise"
SECTIONS = ("1.2 ", "1.5 ")
ROLLOUT = "rollout"
"""The step that makes what 1.5 of the playbook verifies; the runbook has it in 1.5."""
OURS, THEIRS = "service redeploy api worker", "service redeploy api"
"""The runbook restarts the API alone: so do both sides."""
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


BARE = Path(__file__).with_name("bare.py")


def measure(folder: Path) -> list[Row]:
    """All sides on the freshly seeded world, whose rollouts take no time."""
    place = folder / "playbook"
    name = shortened(place)
    ours = command("opsctl", "playbook", "run", name, "--yes", folder=place)
    shell, bare = command("sh", "-ec", SHELL), command(sys.executable, str(BARE))
    run, script, lines = by_turns([ours, bare, shell], repeats=9, before=_seeded(folder))
    return [ratio(LOGOUT, run, lines), ratio(f"{LOGOUT}, in one process", run, script)]


def shortened(place: Path) -> str:
    """Write the shipped playbook's run and verify steps of those sections, in the case that the runbook has, as a playbook of its own."""
    steps = [s for s in load(PLAYBOOK).playbook.steps if _wanted(s)]
    known = {step.id for step in steps}
    kept: list[dict[str, Any]] = []
    for step in steps:
        plain = {key: value.replace(OURS, THEIRS) if isinstance(value, str) else value for key, value in msgspec.to_builtins(step).items()}
        plain.pop("when", None)
        if step.follows not in known:
            plain.pop("follows", None)
        if step.id == ROLLOUT:
            # No key was changed here, which is what would have made the tasks too old.
            plain["run"] += " --again"
        kept.append(plain)
    target = place / "playbooks" / "contain-and-restart.yaml"
    target.parent.mkdir(parents=True)
    target.write_text(yaml.safe_dump({"title": "Sections 1.2 and 1.5", "steps": kept}))
    return target.stem


def _wanted(step: PlaybookStep) -> bool:
    widespread = not step.conditions or any(c.get("scope") == "widespread" for c in step.conditions)
    return step.kind != "ask" and widespread and (step.section.startswith(SECTIONS) or step.id == ROLLOUT)


def _seeded(folder: Path) -> Callable[[], None]:
    """Bring the seeded data back, and ask each service once: the sandbox seeds one when it is first asked, which is nobody's time."""
    looks = [command("opsctl", *words.split()) for words in ("database status", "service status", "secrets list", "status --only Redis")]

    def seed() -> None:
        lifecycle.reset(folder)
        for look in looks:
            look()

    return seed
