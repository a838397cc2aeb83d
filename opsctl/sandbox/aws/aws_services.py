"""The sandbox's own AWS services, and the calls that each answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.autoscaling import FakeAutoScaling
from opsctl.sandbox.aws.cloudwatch import FakeCloudWatch
from opsctl.sandbox.aws.ecr import FakeEcr
from opsctl.sandbox.aws.ecs import FakeEcs
from opsctl.sandbox.aws.elasticache import FakeElastiCache
from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.lambdas import FakeLambda
from opsctl.sandbox.aws.logs import FakeLogs
from opsctl.sandbox.aws.mail import FakeSes
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.people import FakeIam
from opsctl.sandbox.aws.performance import FakePerformanceInsights
from opsctl.sandbox.aws.rds import FakeRds
from opsctl.sandbox.aws.rdsdata import FakeRdsData
from opsctl.sandbox.aws.secretsmanager import FakeSecretsManager
from opsctl.sandbox.aws.shields import FakeShield
from opsctl.sandbox.aws.sns_signing import Signer
from opsctl.sandbox.aws.sts import FakeSts
from opsctl.sandbox.aws.trail import FakeCloudTrail
from opsctl.sandbox.aws.wire import Answer, Request
from opsctl.sandbox.services import SandboxContext

Operation = Callable[[Request], Mapping[str, Any] | Answer]


class AwsServices:
    """One attribute a service; `operations` holds their calls, by the services' signing names."""

    def build(self, world: SandboxContext, timeline: EventLog, moto: MotoApp, login: Callable[[str, str], Mapping[str, Any]]) -> None:
        """Make every service anew, empty."""
        self.secrets = FakeSecretsManager(timeline, world.wait, moto)
        self.ecr = FakeEcr()
        self.ecs = FakeEcs(timeline, world.wait, self.secrets.resolve, self.ecr.digest)
        self.autoscaling = FakeAutoScaling(timeline, self.ecs)
        self.rds = FakeRds(timeline, world.wait, world.facts, moto)
        self.rds_data = FakeRdsData(world.facts, world.clock, login, self.rds.snapshots.has_data_api)
        self.elasticache = FakeElastiCache(world.facts, moto)
        self.logs = FakeLogs(timeline, world.wait, moto)
        self.lambdas = FakeLambda(timeline, world.wait, moto)
        self.cloudwatch = FakeCloudWatch(timeline, moto)
        self.signer = Signer(world.facts["sns_key"], world.facts.get("aws", ""))
        self.mail = FakeSes(timeline, moto, self.signer)
        self.people = FakeIam(timeline, world.facts["access_key_id"], moto)
        self.trail = FakeCloudTrail(timeline, world.wait, self.people.owner)
        self.shields = FakeShield(timeline, moto)
        self.performance = FakePerformanceInsights(timeline, moto)
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
            "sts": FakeSts(world.facts["access_key_id"], moto).operations,
            **self.mail.services,
            **self.people.services,
            **self.trail.services,
            **self.shields.services,
            **self.performance.services,
        }
