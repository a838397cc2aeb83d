"""The AWS services of an environment, all over one session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from opsctl.adapters.base import locked_cached_property

if TYPE_CHECKING:
    from opsctl.adapters.aws.autoscaling import Autoscaling
    from opsctl.adapters.aws.cloudtrail import CloudTrail
    from opsctl.adapters.aws.cloudwatch import CloudWatch
    from opsctl.adapters.aws.ecr import Ecr
    from opsctl.adapters.aws.ecs import Ecs
    from opsctl.adapters.aws.elasticache import ElastiCache
    from opsctl.adapters.aws.functions import Functions
    from opsctl.adapters.aws.iam import Iam
    from opsctl.adapters.aws.insights import Insights
    from opsctl.adapters.aws.logs import Logs
    from opsctl.adapters.aws.performance import Performance
    from opsctl.adapters.aws.rds import Rds
    from opsctl.adapters.aws.secrets import Secrets
    from opsctl.adapters.aws.ses import Ses
    from opsctl.adapters.aws.session import AwsSession
    from opsctl.adapters.aws.shield import Shield
    from opsctl.adapters.aws.snapshots import Snapshots
    from opsctl.adapters.aws.sqs import Sqs
    from opsctl.adapters.aws.waf import Waf


class AwsSystems(ABC):
    """The adapters of AWS services over one session; each is built, and its module imported, on first use."""

    @property
    @abstractmethod
    def aws(self) -> AwsSession:
        """The session that every service uses."""

    @locked_cached_property
    def secrets(self) -> Secrets:
        """Secrets Manager."""
        from opsctl.adapters.aws.secrets import Secrets

        return Secrets(self.aws)

    @locked_cached_property
    def ecs(self) -> Ecs:
        """ECS services, their deployments and tasks."""
        from opsctl.adapters.aws.ecs import Ecs

        return Ecs(self.aws)

    @locked_cached_property
    def autoscaling(self) -> Autoscaling:
        """Application Auto Scaling's bounds."""
        from opsctl.adapters.aws.autoscaling import Autoscaling

        return Autoscaling(self.aws)

    @locked_cached_property
    def ecr(self) -> Ecr:
        """The digest behind an image's tag."""
        from opsctl.adapters.aws.ecr import Ecr

        return Ecr(self.aws)

    @locked_cached_property
    def rds(self) -> Rds:
        """RDS clusters, instances and their endpoints."""
        from opsctl.adapters.aws.rds import Rds

        return Rds(self.aws)

    @locked_cached_property
    def elasticache(self) -> ElastiCache:
        """ElastiCache clusters and their endpoints."""
        from opsctl.adapters.aws.elasticache import ElastiCache

        return ElastiCache(self.aws)

    @locked_cached_property
    def functions(self) -> Functions:
        """Lambda functions, their variables, versions and aliases."""
        from opsctl.adapters.aws.functions import Functions

        return Functions(self.aws)

    @locked_cached_property
    def cloudwatch(self) -> CloudWatch:
        """Alarms and metrics."""
        from opsctl.adapters.aws.cloudwatch import CloudWatch

        return CloudWatch(self.aws)

    @locked_cached_property
    def logs(self) -> Logs:
        """CloudWatch Logs."""
        from opsctl.adapters.aws.logs import Logs

        return Logs(self.aws)

    @locked_cached_property
    def insights(self) -> Insights:
        """CloudWatch Logs Insights."""
        from opsctl.adapters.aws.insights import Insights

        return Insights(self.aws)

    @locked_cached_property
    def ses(self) -> Ses:
        """Amazon SES."""
        from opsctl.adapters.aws.ses import Ses

        return Ses(self.aws)

    @locked_cached_property
    def sqs(self) -> Sqs:
        """SQS queues."""
        from opsctl.adapters.aws.sqs import Sqs

        return Sqs(self.aws)

    @locked_cached_property
    def iam(self) -> Iam:
        """IAM users, their keys and policies."""
        from opsctl.adapters.aws.iam import Iam

        return Iam(self.aws)

    @locked_cached_property
    def cloudtrail(self) -> CloudTrail:
        """CloudTrail's events."""
        from opsctl.adapters.aws.cloudtrail import CloudTrail

        return CloudTrail(self.aws)

    @locked_cached_property
    def shield(self) -> Shield:
        """Shield Advanced."""
        from opsctl.adapters.aws.shield import Shield

        return Shield(self.aws)

    @locked_cached_property
    def waf(self) -> Waf:
        """WAF's web ACLs and address sets."""
        from opsctl.adapters.aws.waf import Waf

        return Waf(self.aws)

    @locked_cached_property
    def snapshots(self) -> Snapshots:
        """RDS snapshots."""
        from opsctl.adapters.aws.snapshots import Snapshots

        return Snapshots(self.aws)

    @locked_cached_property
    def performance(self) -> Performance:
        """Performance Insights."""
        from opsctl.adapters.aws.performance import Performance

        return Performance(self.aws)
