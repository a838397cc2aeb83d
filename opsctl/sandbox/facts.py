"""The values shared by the sandbox's services and clients: names, logins and random secrets."""

from __future__ import annotations

import secrets
import time

from opsctl.sandbox.aws.sns_signing import new_key
from opsctl.sandbox.seed import ADMIN_ID, AUTH_TEST_ID, OWNER, READER, RESCUE
from opsctl.sandbox.tokens import AccessToken, access_token

ACCOUNT = "123456789012"
REGION = "us-east-1"
TEN_YEARS = 10 * 365 * 86_400
RANDOM = (
    "pg_superuser_password",
    "pg_password",
    "pg_reader_password",
    "pg_rescue_password",
    "redis_password",
    "admin_password",
    "auth_test_password",
    "user_password",
    "control_token",
    "secret_access_key",
    "hs_app_secret",
    "hs_next_app_secret",
    "edge_shared_secret",
    "slack_key",
    "pagerduty_key",
    "statuspage_key",
    "sentry_token",
)
PREFIXED = {
    "hs_token": "pat-na1-",
    "hs_next_token": "pat-na1-",
    "hs_reading_token": "pat-na1-",
    "hs_expired_token": "pat-na1-",
    "ghcr_pat": "ghp_",
    "ghcr_next_pat": "ghp_",
}


def new() -> dict[str, str]:
    """The facts of a new sandbox that don't depend on ports, with new random secrets."""
    jwt_secret = secrets.token_hex(32)
    administrator = AccessToken(ADMIN_ID, "admin", session_id=0, issued_at=int(time.time() * 1000))
    fixed = {
        "account": ACCOUNT,
        "region": REGION,
        "access_key_id": "AKIASANDBOXSANDBOXSB",
        "database": "safawinet",
        "pg_host": "127.0.0.1",
        "pg_user": OWNER,
        "pg_reader_user": READER,
        "pg_rescue_user": RESCUE,
        "redis_host": "127.0.0.1",
        "db_cluster_arn": f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:safawinet-prod",
        "db_secret_arn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:safawinet/prod/database",
        "admin_email": f"user{ADMIN_ID}@example.com",
        "auth_test_email": f"user{AUTH_TEST_ID}@example.com",
        "jwt_secret": jwt_secret,
        "sns_key": new_key(),
        "admin_token": access_token(administrator, jwt_secret, TEN_YEARS),
    }
    random = {name: PREFIXED.get(name, "") + secrets.token_hex(18) for name in (*RANDOM, *PREFIXED)}
    # HubSpot's own name for it, and the one of the secret that HH keeps it in.
    return fixed | random | {"hubspot_app_secret": random["hs_app_secret"]}


def of_ports(ports: dict[str, int]) -> dict[str, str]:
    """The facts that follow from the HTTP parts' ports: base addresses without a trailing slash."""
    bases = {part: f"http://127.0.0.1:{port}" for part, port in ports.items()}
    notices = bases["notices"]
    return {
        "aws": bases["aws"],
        "api": bases["api"],
        "hubspot": bases["hubspot"],
        "hh_webhook": bases["hh"],
        "hh_lease": bases["hh"],
        "ghcr": bases["ghcr"],
        "control": bases["control"],
        "notices": notices,
        "slack": f"{notices}/slack",
        "pagerduty": f"{notices}/pagerduty",
        "statuspage": f"{notices}/statuspage",
        "sentry": f"{notices}/sentry",
    }
