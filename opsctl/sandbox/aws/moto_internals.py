"""The parts of moto that are not its public interface, in one place: a new release of moto may move any of them.

A part is imported when it is first used, because moto's services are slow to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from opsctl.sandbox.aws.names import ACCOUNT

Part = Literal[
    "awslambda.exceptions.UnknownAliasException",
    "awslambda.exceptions.UnknownFunctionException",
    "awslambda.models.lambda_backends",
    "cloudwatch.exceptions.InvalidParameterCombination",
    "cloudwatch.exceptions.InvalidParameterValue",
    "cloudwatch.exceptions.ValidationError",
    "cloudwatch.models.Alarm",
    "cloudwatch.models.cloudwatch_backends",
    "cloudwatch.responses.CloudWatchResponse",
    "core.model_instances.reset_model_data",
    "core.responses.ActionResult",
    "elasticache.models.elasticache_backends",
    "iam.models.AWSManagedPolicy",
    "iam.models.AccessKeyLastUsed",
    "iam.models.iam_backends",
    "logs.models.logs_backends",
    "moto_api._internal.models.moto_api_backend",
    "moto_server.werkzeug_app.DomainDispatcherApplication",
    "moto_server.werkzeug_app.create_backend_app",
    "rds.models.rds_backends",
    "secretsmanager.models.secretsmanager_backends",
    "sts.models.sts_backends",
]
Backends = Literal[
    "awslambda.models.lambda_backends",
    "cloudwatch.models.cloudwatch_backends",
    "elasticache.models.elasticache_backends",
    "iam.models.iam_backends",
    "logs.models.logs_backends",
    "rds.models.rds_backends",
    "secretsmanager.models.secretsmanager_backends",
    "sts.models.sts_backends",
]
GLOBAL = "aws"
"""The region under which moto keeps a service that has no regions."""


def part(name: Part) -> Any:
    """A class, a function or an object of moto, by its module and name."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(f"moto.{module}"), attribute)


def backend(name: Backends, region: str = GLOBAL) -> Any:
    """The objects that moto keeps of a service in the sandbox's account."""
    return part(name)[ACCOUNT][region]
