"""Needs as two IAM policies: one for what reads, one for what `apply` needs beyond it.

Each action's resource and further required actions are from the Service Authorization Reference, unless noted otherwise. An action without
an entry takes no resource, or one that no configuration names: its resource is `*`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from opsctl.permissions import Permissions
from opsctl.permissions.arns import Arns
from opsctl.settings import ChannelSettings, Reference, Settings

Resources = Callable[[Arns], list[str]]

ANY = "[any]"
"""The end of a need for every resource of an action's type, because its user names the resource."""

DATA_API = ("rds-data:BeginTransaction", "rds-data:ExecuteStatement", "rds-data:RollbackTransaction", "rds-data:CommitTransaction")
"""The Data API's actions; what only reads never commits."""

RESOURCES: dict[str, Resources] = {
    "application-autoscaling:RegisterScalableTarget": lambda a: [a.arn("application-autoscaling", "scalable-target/*")],
    "cloudwatch:DescribeAlarms": lambda a: [a.arn("cloudwatch", "alarm:*")],
    "cloudfront:ListDistributionsByWebACLId": lambda a: ["*"] if a.before_cloudfront else [],
    "cloudwatch:SetAlarmState": Arns.alarms,
    "ecs:DescribeServices": Arns.services,
    "ecs:DescribeTasks": Arns.tasks,
    "ecs:UpdateService": Arns.services,
    "elasticache:DescribeCacheClusters": Arns.cache,
    "elasticache:DescribeReplicationGroups": lambda a: [a.arn("elasticache", "replicationgroup:*")],
    **dict.fromkeys(
        (
            "iam:DeleteLoginProfile",
            "iam:DeleteUserPolicy",
            "iam:GetAccessKeyLastUsed",
            "iam:GetLoginProfile",
            "iam:GetUser",
            "iam:GetUserPolicy",
            "iam:ListAccessKeys",
            "iam:ListMFADevices",
            "iam:PutUserPolicy",
            "iam:SimulatePrincipalPolicy",
            "iam:UpdateAccessKey",
        ),
        lambda a: [a.arn("iam", "user/*", "")],
    ),
    **dict.fromkeys(
        (
            "lambda:GetAlias",
            "lambda:GetFunctionConfiguration",
            "lambda:PublishVersion",
            "lambda:UpdateAlias",
            "lambda:UpdateFunctionConfiguration",
        ),
        Arns.functions,
    ),
    **dict.fromkeys(("logs:FilterLogEvents", "logs:GetQueryResults", "logs:StartQuery"), Arns.log_groups),
    **dict.fromkeys(("pi:DescribeDimensionKeys", "pi:GetResourceMetrics"), lambda a: [a.arn("pi", "metrics/rds/*")]),
    **dict.fromkeys(DATA_API, Arns.clusters),
    **dict.fromkeys((f"{action}{ANY}" for action in DATA_API), lambda a: a.rds("cluster")),
    "rds:AddTagsToResource": lambda a: a.rds("cluster", "db", "cluster-snapshot", "snapshot"),
    "rds:CreateDBClusterSnapshot": lambda a: [*a.clusters(), *a.rds("cluster-snapshot")] if a.clusters() else [],
    "rds:CreateDBInstance": lambda a: a.rds("cluster", "db", "og", "pg", "secgrp", "subgrp"),
    "rds:CreateDBSnapshot": lambda a: [] if a.clusters() else [*a.instances(), *a.rds("snapshot")],
    "rds:DeleteDBClusterSnapshot": lambda a: a.rds("cluster-snapshot"),
    "rds:DeleteDBSnapshot": lambda a: a.rds("snapshot"),
    "rds:DescribeDBClusterSnapshots": lambda a: a.rds("cluster", "cluster-snapshot"),
    "rds:DescribeDBClusters": Arns.clusters,
    f"rds:DescribeDBClusters{ANY}": lambda a: a.rds("cluster"),
    "rds:DescribeDBInstances": Arns.instances,
    f"rds:DescribeDBInstances{ANY}": lambda a: a.rds("db"),
    "rds:DescribeDBSnapshots": lambda a: a.rds("db", "snapshot"),
    "rds:DescribeGlobalClusters": lambda a: [a.arn("rds", "global-cluster:*", "")],
    "rds:EnableHttpEndpoint": lambda a: a.rds("cluster"),
    "rds:FailoverDBCluster": Arns.clusters,
    "rds:RebootDBInstance": lambda a: [] if a.clusters() else a.instances(),
    "rds:RestoreDBClusterFromSnapshot": lambda a: a.rds("cluster", "cluster-pg", "cluster-snapshot", "og", "snapshot", "subgrp"),
    "rds:RestoreDBInstanceFromDBSnapshot": lambda a: a.rds("cluster-snapshot", "db", "og", "pg", "snapshot", "subgrp"),
    **dict.fromkeys(
        ("secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:ListSecretVersionIds"),
        Arns.secrets,
    ),
    **dict.fromkeys(("secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"), Arns.written),
    "secretsmanager:RotateSecret": lambda a: a.secrets("managed"),
    **dict.fromkeys(("shield:DeleteProtection", "shield:DescribeProtection"), lambda a: [a.arn("shield", "protection/*", "")]),
    **dict.fromkeys(("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ReceiveMessage"), Arns.queue),
    **dict.fromkeys(("wafv2:GetIPSet", "wafv2:UpdateIPSet"), Arns.blocked),
    **dict.fromkeys(("wafv2:GetRateBasedStatementManagedKeys", "wafv2:GetSampledRequests", "wafv2:GetWebACL"), Arns.acl),
    **dict.fromkeys(
        ("apprunner:ListAssociatedServicesForWebAcl", "cognito-idp:ListResourcesForWebACL", "wafv2:ListResourcesForWebACL"),
        lambda a: [] if a.before_cloudfront else a.acl(),
    ),
    "wafv2:UpdateWebACL": Arns.acl_and_parts,
}

BEYOND: dict[str, tuple[str, ...]] = {
    # Application Auto Scaling User Guide, identity-based policy examples: its callers also need the target service's own actions.
    "application-autoscaling:RegisterScalableTarget": ("ecs:DescribeServices", "ecs:UpdateService"),
    # An ALB asks for its own action too; so does each other kind of resource that an ACL can guard.
    "wafv2:ListResourcesForWebACL": (
        "apprunner:ListAssociatedServicesForWebAcl",
        "appsync:ListResourcesForWebACL",
        "cognito-idp:ListResourcesForWebACL",
        "ec2:DescribeVerifiedAccessInstanceWebAclAssociations",
        "elasticloadbalancing:DescribeWebACLAssociation",
    ),
    # Secrets Manager API reference, RotateSecret: the caller also has to be able to invoke the function that rotates.
    "secretsmanager:RotateSecret": ("lambda:InvokeFunction",),
}
"""Actions that AWS asks of the caller beside the one that was called."""


def policies(settings: Settings, permissions: Permissions) -> dict[str, dict[str, Any]]:
    """The two policy documents, `read` and `write`; `write` has only what `read` lacks."""
    read = set(_pairs(settings, permissions.read, writing=False))
    write = set(_pairs(settings, permissions.write, writing=True)) - read
    return {"read": _document(settings, read, "Decrypt"), "write": _document(settings, write, "GenerateDataKey")}


def _pairs(settings: Settings, needed: Iterable[str], *, writing: bool) -> Iterator[tuple[str, str]]:
    """Each action with each of its resources."""
    if settings.aws is None:
        return
    arns = Arns(settings)
    words = set(needed)
    for need in words | set(_lookups(settings, words, writing=writing)):
        if _is_action(need):
            action = need.removesuffix(ANY)
            found = _resources(arns, need)
            yield from ((action, resource) for resource in found)
            yield from ((each, resource) for each in BEYOND.get(action, ()) for resource in _resources(arns, each) if found)
    for need in words:
        for reference in _credentials(settings, need, writing=writing):
            yield from (("secretsmanager:GetSecretValue", secret) for secret in arns.secret(reference))


def _resources(arns: Arns, need: str) -> list[str]:
    return RESOURCES[need](arns) if need in RESOURCES else ["*"]


def _is_action(need: str) -> bool:
    return need.rpartition(":")[2][:1].isupper()


def _lookups(settings: Settings, needed: set[str], *, writing: bool) -> Iterator[str]:
    """The actions that find or reach a system's endpoint."""
    systems = {need.partition(":")[0] for need in needed}
    if any(need.startswith("postgres:activity") for need in needed):
        yield "rds:DescribeDBInstances"
    if "postgres" in systems and settings.database:
        yield "rds:DescribeDBClusters" if settings.database.cluster else "rds:DescribeDBInstances"
        if settings.database.driver == "rds-data":
            yield from DATA_API[:3]
            yield from DATA_API[3:] if writing else ()
            # A restored copy is queried under its own ARN.
            yield from (f"{action}{ANY}" for action in DATA_API[:3]) if "postgres:copy" in needed else ()
    if "redis" in systems and settings.redis:
        yield from ("elasticache:DescribeCacheClusters", "elasticache:DescribeReplicationGroups")


def _credentials(settings: Settings, need: str, *, writing: bool) -> Iterator[Reference | None]:
    """The credentials that a need logs in with."""
    system = need.partition(":")[0]
    channels: ChannelSettings = settings.channels
    if system == "postgres" and (database := settings.database):
        rescue = (database.rescue or database.login) if need == "postgres:activity.end" else database.login
        yield rescue if writing else database.reader
    elif system == "redis" and settings.redis:
        yield settings.redis.login(writing=writing)[1]
    elif system == "hubspot" and settings.hubspot:
        yield settings.hubspot.app_secret if need == "hubspot:webhook" else settings.hubspot.token
    elif system == "lease" and settings.lease:
        yield settings.lease.edge_auth
    elif system == "sentry" and settings.sentry:
        yield settings.sentry.token
    elif system == "api" and settings.api:
        api = settings.api
        logins = {"api:login": api.test, "api:revoke": api.login, "api:announce": api.login}
        yield from (api.token,) if need != "api:login" else ()
        if login := logins.get(need):
            yield from (login.email, login.password)
    else:
        yield {"slack": channels.slack, "pagerduty": channels.page, "statuspage": channels.status_key}.get(system)


def _document(settings: Settings, pairs: set[tuple[str, str]], key_action: str) -> dict[str, Any]:
    """A policy document: resources that the same actions are allowed on share a statement."""
    by_action: dict[str, set[str]] = {}
    for action, resource in pairs:
        by_action.setdefault(action, set()).add(resource)
    by_resource: dict[str, set[str]] = {}
    for action, resources in by_action.items():
        for one in resources:
            if not any(one != other and fnmatchcase(one, other) for other in resources):
                by_resource.setdefault(one, set()).add(action)
    by_actions: dict[tuple[str, ...], list[str]] = {}
    for resource, actions in sorted(by_resource.items()):
        by_actions.setdefault(tuple(sorted(actions)), []).append(resource)
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": list(actions), "Resource": resources} for actions, resources in sorted(by_actions.items())
    ]
    return {"Version": "2012-10-17", "Statement": statements + _keys(settings, by_action, key_action)}


def _keys(settings: Settings, actions: Iterable[str], key_action: str) -> list[dict[str, Any]]:
    """The statement for the keys that encrypt secrets and queues, which only these services may use for the caller."""
    encrypted = any(action.startswith(("secretsmanager:GetSecret", "secretsmanager:Put", "sqs:Receive")) for action in actions)
    if settings.aws is None or not settings.aws.kms_keys or not encrypted:
        return []
    regions = sorted(set(Arns(settings).regions()))
    via = [f"{service}.{region}.amazonaws.com" for region in regions for service in ("secretsmanager", "sqs")]
    condition = {"StringEquals": {"kms:ViaService": via}}
    allowed = sorted({"kms:Decrypt", f"kms:{key_action}"})
    return [{"Effect": "Allow", "Action": allowed, "Resource": settings.aws.kms_keys, "Condition": condition}]
