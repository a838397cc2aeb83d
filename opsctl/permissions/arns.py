"""The ARNs of an environment's resources, as far as its configuration names them."""

from __future__ import annotations

from collections.abc import Iterator

from opsctl.errors import ConfigurationError
from opsctl.settings import Reference, Settings

PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b", "eusc-": "aws-eusc"}
"""The partition of the regions that begin so; all others are in `aws` (AWS documentation, "Amazon Resource Names")."""


class Arns:
    """Builds ARNs from a configuration. Each method returns patterns as IAM takes them."""

    def __init__(self, settings: Settings) -> None:
        if settings.aws is None:
            raise ConfigurationError("This environment has no [aws].", "Choose an environment with AWS: --env NAME")
        self._settings, self._aws = settings, settings.aws
        region = self._aws.region
        self._partition = next((name for start, name in PARTITIONS.items() if region.startswith(start)), "aws")

    def arn(self, service: str, rest: str, region: str | None = None) -> str:
        """The ARN of a resource in a region, by default the environment's; empty for a service without regions."""
        where = self._aws.region if region is None else region
        return f"arn:{self._partition}:{service}:{where}:{self._aws.account}:{rest}"

    def services(self) -> list[str]:
        """The configured ECS services."""
        return [self.arn("ecs", f"service/{each.cluster}/{each.service}") for each in self._settings.services.values()]

    def tasks(self) -> list[str]:
        """The tasks in the clusters of the configured services."""
        return [self.arn("ecs", f"task/{each.cluster}/*") for each in self._settings.services.values()]

    def clusters(self) -> list[str]:
        """The database's cluster."""
        name = self._settings.database.cluster if self._settings.database else ""
        return [self.arn("rds", f"cluster:{name}")] if name else []

    def instances(self) -> list[str]:
        """The database's instance; every instance where the database is a cluster, whose members AWS alone names."""
        name = self._settings.database.instance if self._settings.database else ""
        return [self.arn("rds", f"db:{name or '*'}")]

    def rds(self, *kinds: str) -> list[str]:
        """Every RDS resource of these kinds."""
        return [self.arn("rds", f"{kind}:*") for kind in kinds]

    def cache(self) -> list[str]:
        """The configured cache."""
        redis = self._settings.redis
        return [self.arn("elasticache", f"cluster:{redis.cluster}")] if redis else []

    def secret(self, reference: Reference | None) -> list[str]:
        """The secret of a credential; Secrets Manager adds a dash and six characters to the name."""
        return [self._secret(reference.aws, reference.region)] if reference and reference.aws else []

    def secrets(self, *kinds: str) -> list[str]:
        """The configured secrets of these kinds (default: all), and those where functions' secrets are stored."""
        found = []
        for each in self._settings.secrets.values():
            if each.kind == "function" and not kinds:
                found += self.secret(each.store_in)
            elif each.kind in kinds or not kinds:
                found.append(self._secret(each.id, each.region))
        return found

    def written(self) -> list[str]:
        """The secrets to which opsctl writes values."""
        stores = [arn for each in self._settings.secrets.values() if each.kind == "function" for arn in self.secret(each.store_in)]
        return self.secrets("generic") + stores

    def functions(self) -> list[str]:
        """The configured Lambda functions, and those that hold a secret, with their versions and aliases."""
        where = {(each.name, each.region) for each in self._settings.functions.values()}
        where |= {(each.function, each.region) for each in self._settings.secrets.values() if each.function}
        return [self.arn("lambda", f"function:{name}{end}", region) for name, region in where for end in ("", ":*")]

    def log_groups(self) -> list[str]:
        """The configured log groups, and those of functions."""
        groups = {(name, None) for name in self._settings.log_groups.values()}
        named = groups | {(each.log_group, each.region) for each in self._settings.functions.values()}
        return [self.arn("logs", f"log-group:{name}{end}", region) for name, region in named for end in ("", ":*")]

    def alarms(self) -> list[str]:
        """The configured alarms; every alarm where none is named."""
        return [self.arn("cloudwatch", f"alarm:{name}") for name in self._settings.alarms or ["*"]]

    def queue(self) -> list[str]:
        """The queue of SES's notifications."""
        mail = self._settings.bounces
        return [self.arn("sqs", mail.queue, mail.region)] if mail and mail.queue else []

    def firewall(self, kind: str, *names: str | None) -> list[str]:
        """The web ACLs or address sets of these names, where [protection] is."""
        wall = self._settings.protection
        if wall is None:
            return []
        scope = "global" if wall.scope == "CLOUDFRONT" else "regional"
        return [self.arn("wafv2", f"{scope}/{kind}/{name}/*", wall.place.region) for name in names if name]

    def acl(self) -> list[str]:
        """The web ACL that guards the service."""
        return self.firewall("webacl", self._settings.protection.acl) if self._settings.protection else []

    def acl_and_parts(self) -> list[str]:
        """The web ACL that guards the service, and anything that its rules may refer to."""
        parts = ("ipset", "rulegroup", "regexpatternset", "managedruleset")
        return self.acl() + [arn for kind in parts for arn in self.firewall(kind, "*")]

    def blocked(self) -> list[str]:
        """The address sets of blocked clients."""
        wall = self._settings.protection
        return self.firewall("ipset", wall.blocked_v4, wall.blocked_v6) if wall else []

    @property
    def before_cloudfront(self) -> bool:
        """Whether the web ACL guards CloudFront's distributions."""
        return self._settings.protection is not None and self._settings.protection.scope == "CLOUDFRONT"

    def regions(self) -> Iterator[str]:
        """The environment's region, and those of its secrets and its queue."""
        yield self._aws.region
        yield from {each.region for each in self._settings.secrets.values() if each.region}
        if self._settings.bounces and self._settings.bounces.region:
            yield self._settings.bounces.region

    def _secret(self, id: str, region: str | None) -> str:
        return id if id.startswith("arn:") else self.arn("secretsmanager", f"secret:{id}-??????", region)
