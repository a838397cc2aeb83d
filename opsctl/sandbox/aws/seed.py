"""The AWS account that every sandbox begins with. A service is filled at its first call, from inside the process."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

from opsctl.sandbox import tokens
from opsctl.sandbox.aws import seed_logs
from opsctl.sandbox.aws.aws_services import AwsServices
from opsctl.sandbox.aws.ecr import digest_of
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.names import ACCOUNT, CLUSTER, HH_REGION, REGION
from opsctl.sandbox.aws.sns_signing import new_key

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/safawinet-api:prod"
DAY = 86_400.0
TOKEN_SECONDS = 30 * 86_400
LAMBDAS = {"hh-webhook": "", "hh-lease": "live", "hh-authz": ""}
"""Each function, and its alias where it has one."""
_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


def fill_facts(facts: MutableMapping[str, str], clock: Callable[[], float] = time.time) -> None:
    """Draw what the world doesn't hold yet: keys, passwords, the administrator's token. What is there stays."""
    fixed = {
        "account": ACCOUNT,
        "access_key_id": "AKIASANDBOXSANDBOXSB",
        "database": "safawinet",
        "db_cluster_arn": f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:{CLUSTER}",
        "db_secret_arn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:safawinet/prod/database",
        "admin_email": "admin@example.com",
        "auth_test_email": "user2@example.com",
        "pg_user": "safawinet",
        "pg_reader_user": "opsctl_reader",
        "pg_rescue_user": "opsctl_rescue",
        "slack": "http://127.0.0.1/slack",
    }
    drawn = (
        "secret_access_key",
        "redis_password",
        "pg_password",
        "pg_reader_password",
        "pg_rescue_password",
        "admin_password",
        "auth_test_password",
        "edge_shared_secret",
        "hs_app_secret",
        "ghcr_pat",
        "sentry_token",
        "slack_key",
        "pagerduty_key",
        "statuspage_key",
    )
    for name, value in fixed.items():
        facts.setdefault(name, value)
    for name in drawn:
        facts.setdefault(name, secrets.token_urlsafe(24))
    facts.setdefault("jwt_secret", secrets.token_hex(32))
    facts.setdefault("mail_key", secrets.token_hex(16))
    facts.setdefault("tls_pin", secrets.token_hex(32))
    facts.setdefault("hs_token", f"pat-sandbox-{secrets.token_hex(16)}")
    if "sns_key" not in facts:
        facts["sns_key"] = new_key()
    if "admin_token" not in facts:
        administrator = tokens.AccessToken(1, "admin", session_id=0, issued_at=int(clock() * 1000))
        facts["admin_token"] = tokens.access_token(administrator, facts["jwt_secret"], TOKEN_SECONDS)


class AwsSeed:
    """Fills services, each once. `began` (epoch seconds) is when this world's account was last empty."""

    def __init__(self, part: AwsServices, moto: MotoApp, facts: Mapping[str, str], began: float) -> None:
        self._part = part
        self._moto = moto
        self._facts = facts
        self._began = began
        self._done: set[str] = set()
        self._fill: dict[str, Callable[[], None]] = {
            "secretsmanager": self._secrets,
            "ecr": self._images,
            "ecs": self._services,
            "application-autoscaling": partial(self.ensure, "ecs"),
            "rds": self._database,
            "elasticache": self._cache,
            "monitoring": self._monitoring,
            "logs": self._logs,
            "lambda": self._lambdas,
            "sns": self._topic,
            "iam": part.people.seed,
            "ses": part.mail.seed,
            "sesv2": partial(self.ensure, "ses"),
            "sqs": partial(self.ensure, "ses"),
            "cloudtrail": part.trail.seed,
            "shield": part.shields.seed,
            "wafv2": partial(self.ensure, "shield"),
            "pi": partial(self.ensure, "rds"),
        }

    def ensure(self, service: str) -> None:
        """Fill a service unless it is filled; one that has no seed is left empty."""
        if service in self._done:
            return
        self._done.add(service)
        if fill := self._fill.get(service):
            fill()

    def _secrets(self) -> None:
        facts, create = self._facts, self._part.secrets.create
        login = {"username": facts["pg_user"], "password": facts["pg_password"]}
        reader = {"username": facts["pg_reader_user"], "password": facts["pg_reader_password"]}
        rescue = {"username": facts["pg_rescue_user"], "password": facts["pg_rescue_password"]}
        for name, value in {
            "jwt": {"secret": facts["jwt_secret"]},
            "database": login,
            "database-reader": reader,
            "database-rescue": rescue,
            "redis": {"password": facts["redis_password"]},
            "admin-token": {"token": facts["admin_token"]},
            "admin-login": {"email": facts["admin_email"], "password": facts["admin_password"]},
            "auth-test": {"email": facts["auth_test_email"], "password": facts["auth_test_password"]},
            "mail-key": {"key": facts["mail_key"]},
            "partner-key": {"key": secrets.token_hex(32)},
            "sentry": {"token": facts["sentry_token"]},
            "slack": {"webhook": f"{facts['slack']}/services/T0SAFAWINET/B0OPERATIONS/{facts['slack_key']}"},
            "pagerduty": {"routing-key": facts["pagerduty_key"]},
            "statuspage": {"key": facts["statuspage_key"]},
        }.items():
            create(REGION, f"safawinet/prod/{name}", json.dumps(value))
        self._part.secrets.manage(REGION, "safawinet/prod/partner-key")
        create(REGION, "safawinet/prod/tls-pin", binary=base64.b64encode(bytes.fromhex(facts["tls_pin"])).decode())
        create(HH_REGION, "/hh/prod/hubspot/token", json.dumps({"token": facts["hs_token"]}))
        partner = {"username": "hh-partner", "pat": facts["ghcr_pat"]}
        create(HH_REGION, "/hh/prod/ghcr/creds", json.dumps(partner))
        create(HH_REGION, "/hh/prod/hubspot/app_secret", json.dumps({"secret": facts["hs_app_secret"]}))
        create(HH_REGION, "/hh/prod/edge-shared-secret", json.dumps({"secret": facts["edge_shared_secret"]}))
        for region in (REGION, HH_REGION):
            self._part.secrets.backdate(region, self._began - 30 * DAY)
        # The tasks have to start before anybody can change what they start with.
        self.ensure("ecs")

    def _images(self) -> None:
        repository, _, tag = IMAGE.rpartition("/")[2].partition(":")
        self._part.ecr.push(repository, tag, digest_of(IMAGE), self._began - 3 * DAY)
        self.ensure("ecs")

    def _services(self) -> None:
        self.ensure("secretsmanager")
        self.ensure("ecr")
        ecs = self._part.ecs
        key = f"{self._part.secrets.arn(REGION, 'safawinet/prod/jwt')}:secret::"
        for family, container in (("safawinet-api", "api"), ("safawinet-worker", "worker")):
            definition = {
                "name": container,
                "image": IMAGE,
                "essential": True,
                "environment": [{"name": "NODE_ENV", "value": "production"}],
                "secrets": [{"name": "JWT_SECRET", "valueFrom": key}],
            }
            ecs.add_definition(
                {
                    "family": family,
                    "networkMode": "awsvpc",
                    "requiresCompatibilities": ["FARGATE"],
                    "cpu": "512",
                    "memory": "1024",
                    "containerDefinitions": [definition],
                }
            )
        ecs.add_service(CLUSTER, "safawinet-api-prod", "safawinet-api", 2, self._began - 2 * DAY)
        ecs.add_service(CLUSTER, "safawinet-worker-prod", "safawinet-worker", 1, self._began - 2 * DAY)
        self._part.autoscaling.add(f"service/{CLUSTER}/safawinet-api-prod", 2, 10)

    def _database(self) -> None:
        instances = [CLUSTER, f"{CLUSTER}-2", f"{CLUSTER}-3"]
        self._part.rds.seed(CLUSTER, instances, self._facts["database"])
        self._part.rds.seed_alone("safawinet-reports")
        self._part.performance.switch_on(CLUSTER)
        self._part.rds.snapshots.seed(CLUSTER, self._began)

    def _cache(self) -> None:
        self._part.elasticache.seed("safawinet-redis")

    def _monitoring(self) -> None:
        self._part.cloudwatch.seed(self._began)

    def _logs(self) -> None:
        for region, group, events in seed_logs.groups(self._began):
            self._part.logs.seed(region, group, "sandbox/0001", events)

    def _lambdas(self) -> None:
        self.ensure("iam")
        for name, alias in LAMBDAS.items():
            self._call("iam", "CreateRole", RoleName=name, AssumeRolePolicyDocument=_TRUST)
            variables = {
                "EDGE_SHARED_SECRET": self._facts["edge_shared_secret"],
                "HUBSPOT_TOKEN_SECRET": "/hh/prod/hubspot/token",
                "LOG_LEVEL": "info",
            }
            self._part.lambdas.seed(HH_REGION, name, variables, self._began - 30 * DAY, alias)

    def _topic(self) -> None:
        self._call("sns", "CreateTopic", Name="safawinet-alerts")

    def _call(self, service: str, action: str, **fields: Any) -> None:
        self._moto.query(service, REGION, action, **fields)
