"""What CloudTrail knows when a sandbox begins: two weeks of work, and somebody in an account that isn't theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opsctl.sandbox.aws.names import HH_REGION
from opsctl.sandbox.aws.people import CONTRACTOR_KEY, CONTRACTOR_NEW_KEY, DEPLOY_KEY

HOUR = 3_600.0
DAY = 24 * HOUR
DAYS = 14

OFFICE = "198.51.100.20"
PIPELINE = "198.51.100.77"
STRANGER = "203.0.113.66"
"""Addresses of documentation: nobody has them."""

_SIGN_IN = {"responseElements": {"ConsoleLogin": "Success"}, "additionalEventData": {"MFAUsed": "Yes"}}
_SIGN_IN_WITHOUT = {"responseElements": {"ConsoleLogin": "Success"}, "additionalEventData": {"MFAUsed": "No"}}
_WRONG = {
    "responseElements": {"ConsoleLogin": "Failure"},
    "errorMessage": "Failed authentication",
    "additionalEventData": {"MFAUsed": "No"},
}
_NO = {"errorCode": "AccessDenied", "errorMessage": "User is not authorized to perform this action"}


def past(now: float) -> list[dict[str, Any]]:
    """The fields of every event, oldest first, up to `now` (epoch seconds)."""
    return sorted([*_at_work(now), *_intrusion(now)], key=lambda each: float(each["at"]))


def _at_work(now: float) -> Iterator[dict[str, Any]]:
    """A deployment and a sign-in each day."""
    for day in range(DAYS):
        began = now - day * DAY - HOUR
        deploys = {"user": "deploy", "address": PIPELINE, "key": DEPLOY_KEY}
        yield _event(began, "RegisterTaskDefinition", "ecs", **deploys, resources=("safawinet-api",))
        yield _event(began + 20, "UpdateService", "ecs", **deploys, resources=("safawinet-api-prod",))
        yield _event(began - HOUR, "ConsoleLogin", "signin", user="oncall", address=OFFICE, fields=_SIGN_IN)


def _intrusion(now: float) -> Iterator[dict[str, Any]]:
    """Passwords are tried, one fits; secrets are read, a key is made for later, and more is tried than is allowed."""
    who = {"user": "former-contractor", "address": STRANGER}
    key, new = {**who, "key": CONTRACTOR_KEY}, {**who, "key": CONTRACTOR_NEW_KEY}
    at = now - 6 * HOUR
    for minute in range(4):
        yield _event(at - 600 + 60 * minute, "ConsoleLogin", "signin", **who, fields=_WRONG)
    yield _event(at, "ConsoleLogin", "signin", **who, fields=_SIGN_IN_WITHOUT)
    for number, (secret, region) in enumerate(
        [("safawinet/prod/jwt", ""), ("safawinet/prod/database", ""), ("/hh/prod/ghcr/creds", HH_REGION)]
    ):
        where = {"region": region} if region else {}
        asked = {"requestParameters": {"secretId": secret}}
        yield _event(at + HOUR + 30 * number, "GetSecretValue", "secretsmanager", **key, **where, fields=asked, reads=True)
    yield _event(now - 4 * HOUR, "CreateAccessKey", "iam", **key, resources=("former-contractor",))
    yield _event(now - 4 * HOUR + 60, "AssumeRole", "sts", **key, resources=("prod-debug",))
    yield _event(now - 3 * HOUR, "AttachUserPolicy", "iam", **new, resources=("former-contractor",), fields=_NO)
    yield _event(now - 3 * HOUR + 20, "StopLogging", "cloudtrail", **new, fields=_NO)
    shared = ("safawinet-prod-nightly",)
    yield _event(now - 3 * HOUR + 90, "ModifyDBClusterSnapshotAttribute", "rds", **new, resources=shared)


def _event(at: float, name: str, service: str, **how: Any) -> dict[str, Any]:
    return {"at": round(at, 3), "name": name, "source": f"{service}.amazonaws.com", **how}
