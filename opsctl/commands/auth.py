"""`opsctl auth`: prove that signing in works, and that old tokens don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsctl.adapters.http.jwt import claims, sign
from opsctl.cli.app import group
from opsctl.cli.command import gives_verdict, read_only, requires
from opsctl.errors import ExternalError, OpsctlError
from opsctl.render.shapes import Check, Verdict

if TYPE_CHECKING:
    from opsctl.adapters.http.api import Tokens
    from opsctl.systems import Systems

ASKED = 6

auth = group("auth")


@auth.command()
@requires("api:login secretsmanager:GetSecretValue")
@gives_verdict(probes="it signs a test user in, and out again")
@read_only
def verify(systems: Systems) -> Verdict:
    """Verify sign-in with the configured test user: log in, refresh, check that a token of the former key is refused, log out.

    Examples:
        opsctl auth verify
    """
    settings = systems.environment.api
    health = systems.api.health()
    checks = [Check("the API answers", health.ok, f"{health.detail}, {health.latency_ms:.0f} ms")]
    if settings.test is None:
        checks.append(Check("new tokens are issued", None, "no [api.test] credentials are configured"))
        return Verdict(checks, "Add [api.test] to the configuration.")
    # Without its credentials the login isn't tried, which says nothing of the API.
    email, password = systems.resolve(settings.test.email), systems.resolve(settings.test.password)
    try:
        tokens = systems.api.login(email, password)
    except ExternalError as cause:
        return Verdict([*checks, Check("new tokens are issued", False, cause.what)], "opsctl service status; opsctl secrets verify jwt")
    try:
        checks += [_accepted(systems, tokens), _renewed(systems, tokens), _former_refused(systems, tokens)]
    finally:
        systems.api.end(tokens.access)
    return Verdict(checks, "opsctl service redeploy the consumers of the signing key, then: opsctl auth verify")


def _accepted(systems: Systems, tokens: Tokens) -> Check:
    """Asked several times, since each request may reach another task."""
    users = {systems.api.user_of(tokens.access) for _ in range(ASKED)}
    return Check("new tokens are issued and accepted", None not in users, f"{ASKED} requests" if None not in users else "refused by a task")


def _renewed(systems: Systems, tokens: Tokens) -> Check:
    try:
        fresh = systems.api.refresh(tokens.refresh)
    except ExternalError as cause:
        return Check("sessions can be refreshed", False, cause.what)
    accepted = systems.api.user_of(fresh.access) is not None
    systems.api.end(fresh.access)
    return Check("sessions can be refreshed", accepted)


def _former_refused(systems: Systems, tokens: Tokens) -> Check:
    """Sign what the API has just issued with the former key, as a thief would who holds it."""
    from opsctl.changes.secrets import last_rotation

    word = "tokens of the former key are refused"
    name = systems.environment.api.signed_by
    if name is None:
        return Check(word, None, "no api.signed-by is configured")
    secret, rotated = systems.environment.secret(name), last_rotation(systems.history, name)
    if rotated is None:
        return Check(word, None, f"this ledger has no rotation of {name}", applies=False)
    try:
        former = systems.secrets.value(secret.id, key=secret.key, version=rotated[0], region=secret.region)
    except OpsctlError as cause:
        return Check(word, None, f"the former key can't be read: {cause.what}")
    forged = sign(claims(tokens.access), former)
    accepted = [user for user in (systems.api.user_of(forged) for _ in range(ASKED)) if user is not None]
    return Check(word, not accepted, f"{len(accepted)} of {ASKED} requests were accepted" if accepted else f"{ASKED} requests")
