"""The sandbox's own AWS services, and the calls that each answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.autoscaling import AutoScaling
from opsctl.sandbox.aws.cloudwatch import CloudWatch
from opsctl.sandbox.aws.ecr import Ecr
from opsctl.sandbox.aws.ecs import Ecs
from opsctl.sandbox.aws.elasticache import ElastiCache
from opsctl.sandbox.aws.event_log import Timeline
from opsctl.sandbox.aws.lambdas import Lambda
from opsctl.sandbox.aws.logs import Logs
from opsctl.sandbox.aws.mail import Mail
from opsctl.sandbox.aws.moto_app import Moto
from opsctl.sandbox.aws.people import People
from opsctl.sandbox.aws.performance import Performance
from opsctl.sandbox.aws.rds import Rds
from opsctl.sandbox.aws.rdsdata import RdsData
from opsctl.sandbox.aws.secretsmanager import SecretsManager
from opsctl.sandbox.aws.shields import Shields
from opsctl.sandbox.aws.sns_signing import Signer
from opsctl.sandbox.aws.sts import Sts
from opsctl.sandbox.aws.trail import Trail
from opsctl.sandbox.aws.wire import Answer, Request
from opsctl.sandbox.services import World

Operation = Callable[[Request], Mapping[str, Any] | Answer]


class AwsServices:
    """One attribute a service; `operations` holds their calls, by the services' signing names."""

    def build(self, world: World, timeline: Timeline, moto: Moto, login: Callable[[str, str], Mapping[str, Any]]) -> None:
        """Make every service anew, empty."""
        self.secrets = SecretsManager(timeline, world.wait, moto)
        self.ecr = Ecr()
        self.ecs = Ecs(timeline, world.wait, self.secrets.resolve, self.ecr.digest)
        self.autoscaling = AutoScaling(timeline, self.ecs)
        self.rds = Rds(timeline, world.wait, world.facts, moto)
        self.rds_data = RdsData(world.facts, world.clock, login, self.rds.snapshots.has_data_api)
        self.elasticache = ElastiCache(world.facts, moto)
        self.logs = Logs(timeline, world.wait, moto)
        self.lambdas = Lambda(timeline, world.wait, moto)
        self.cloudwatch = CloudWatch(timeline, moto)
        self.signer = Signer(world.facts["sns_key"], world.facts.get("aws", ""))
        self.mail = Mail(timeline, moto, self.signer)
        self.people = People(timeline, world.facts["access_key_id"], moto)
        self.trail = Trail(timeline, world.wait, self.people.owner)
        self.shields = Shields(timeline, moto)
        self.performance = Performance(timeline, moto)
        self.operations: dict[str, dict[str, Operation]] = {
            "secretsmanager": self.secrets.operations,
            "ecr": self.ecr.operations,
            "ecs": self.ecs.operations,
            "application-autoscaling": self.autoscaling.operations,
            "rds": self.rds.operations,
            "rds-data": self.rds_data.operations,
            "elasticache": self.elasticache.operations,
            "monitoring": self.cloudwatch.operations,
            "logs": self.logs.operations,
            "lambda": self.lambdas.operations,
            "sts": Sts(world.facts["access_key_id"], moto).operations,
            **self.mail.services,
            **self.people.services,
            **self.trail.services,
            **self.shields.services,
            **self.performance.services,
        }
