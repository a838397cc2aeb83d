"""Blocks AWS calls that write on a read-only session.

The operation's name decides, because the models' own `readonly` trait is absent from most services.
"""

from __future__ import annotations

import json
import re
from typing import Any

from opsctl.errors import ReadOnly

READING_NAME = re.compile(r"(Get|List|Describe|Head|BatchGet|Lookup|Filter)[A-Z]")

READING_EXCEPTIONS = frozenset(
    {
        ("logs", "StartQuery"),
        ("logs", "StopQuery"),
        ("logs", "StartLiveTail"),
        ("iam", "GenerateCredentialReport"),
        ("iam", "SimulatePrincipalPolicy"),
        ("iam", "SimulateCustomPolicy"),
    }
)

# Calls of a login: by role, web identity, or a refreshed SSO token.
LOGIN = frozenset(
    {
        ("sts", "AssumeRole"),
        ("sts", "AssumeRoleWithWebIdentity"),
        ("sts", "AssumeRoleWithSAML"),
        ("sso-oidc", "CreateToken"),
        ("signin", "CreateOAuth2Token"),
    }
)

# Reads over the Data API need a transaction, which is never committed.
TRANSACTION = frozenset({("rds-data", "BeginTransaction"), ("rds-data", "RollbackTransaction")})

ENDING = re.compile(r"\s*(COMMIT|END|PREPARE)\b", re.IGNORECASE)


def reads(service: str, operation: str) -> bool:
    """Whether `operation` (`DescribeServices`) of `service` (botocore's name, `ecs`) only reads."""
    name = (service, operation)
    return bool(READING_NAME.match(operation)) or name in READING_EXCEPTIONS or name in LOGIN or name in TRANSACTION


def guard(model: Any, params: dict[str, Any], **_: Any) -> None:
    """Refuse every call that writes; botocore calls this on `before-call`, before anything is sent.

    ExecuteStatement is allowed only in a transaction, which is never committed.
    """
    service, operation = model.service_model.service_name, model.name
    if reads(service, operation):
        return
    if (service, operation) == ("rds-data", "ExecuteStatement") and _lost_in_the_end(params):
        return
    raise ReadOnly(f"{service}:{operation} writes, and this session is read-only.")


def _lost_in_the_end(params: dict[str, Any]) -> bool:
    """Whether the statement is in a transaction and doesn't end it."""
    asked = json.loads(params.get("body") or b"{}")
    return bool(asked.get("transactionId")) and not ENDING.match(asked.get("sql", ""))
