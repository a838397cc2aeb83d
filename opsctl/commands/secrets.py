"""`opsctl secrets`: list, rotate, roll back and verify secrets in Secrets Manager and in functions' variables."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli import completion
from opsctl.cli.app import group
from opsctl.cli.command import gives_verdict, mutating, read_only, requires
from opsctl.cli.types import SOURCE
from opsctl.concurrency import first_error_if_all_failed, gather
from opsctl.contract import Change, Planning
from opsctl.errors import ExternalError, OpsctlError, Refused
from opsctl.render.shapes import Check, Verdict

if TYPE_CHECKING:
    from opsctl.changes.rotation import Place
    from opsctl.settings import SecretSettings
    from opsctl.systems import Systems

LOOK_BACK = timedelta(days=1)
FAILURES = '{ ($.type = "*_error") || ($.level = "error") || ($.level = "ERROR") }'

secrets = group("secrets")


@secrets.command("list")
@requires("lambda:GetFunctionConfiguration secretsmanager:DescribeSecret secretsmanager:ListSecretVersionIds")
@read_only
def list_(systems: Systems) -> list[dict[str, Any]]:
    """List the configured secrets: version, age and consumers. Values are not shown.

    Examples:
        opsctl secrets list
    """
    wanted = dict(sorted(systems.config.secrets.items()))
    found = first_error_if_all_failed(gather({name: partial(_state, systems, name, secret) for name, secret in wanted.items()}))
    return [_row(name, wanted[name], each) for name, each in found.items()]


def _row(name: str, secret: SecretSettings, state: dict[str, Any] | OpsctlError) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "id": secret.id, "kind": secret.kind, "consumers": secret.consumers}
    return row | ({"version": None, "changed": None, "state": state.what} if isinstance(state, OpsctlError) else state)


def _state(systems: Systems, name: str, secret: SecretSettings) -> dict[str, Any]:
    return _variable(systems, name, secret) if secret.kind == "function" else _version(systems, secret)


def _version(systems: Systems, secret: SecretSettings) -> dict[str, Any]:
    state = systems.secrets.describe(secret.id, secret.region)
    current = state.versions.get(state.current or "")
    word = "deleted" if state.deleted else "a rotation is under way" if state.rotating else "ok"
    return {"version": state.current, "changed": current.created if current else None, "state": word}


def _variable(systems: Systems, name: str, secret: SecretSettings) -> dict[str, Any]:
    from opsctl.changes.rotation import function_of

    _, variable, state = function_of(systems, name, secret)
    words = {"InProgress": "the function is being updated", "Failed": f"the function's update failed: {state.reason}"}
    word = words.get(state.status, "ok") if variable in state.variables else f"the function has no variable {variable}"
    return {"version": None, "changed": state.modified, "state": word}


@secrets.command()
@requires(
    "ghcr hubspot:portal lambda:GetAlias lambda:GetFunctionConfiguration secretsmanager:DescribeSecret secretsmanager:GetSecretValue "
    "secretsmanager:ListSecretVersionIds",
    changes="ask-first move-secret-stage refresh-function rotate-managed-secret serve-latest set-function-variable stage-secret-version",
)
@click.argument("name", shell_complete=completion.SECRETS)
@click.option("--value-from", required=True, type=SOURCE, metavar="-|env:VAR|file:PATH|generate", help="Where to read the new value.")
@click.option("--compromised", is_flag=True, help="Others know the old value: it can't be restored later.")
@click.option(
    "--refresh-now", is_flag=True, help="Restart the functions that cache the secret, instead of waiting until they read it again."
)
@mutating
def rotate(planning: Planning, name: str, value_from: str, compromised: bool, refresh_now: bool) -> Iterator[Change]:
    """Give a secret a new value: store it, verify it, then make it current. Other keys of its JSON do not change.

    Examples:
        opsctl secrets rotate jwt --value-from generate -n
        opsctl secrets rotate jwt --value-from generate --compromised
    """
    from opsctl.changes.managed_secrets import RotateManagedSecret
    from opsctl.changes.rotation import ask, cached, described, into_variable, place_of, proof_of, refresh
    from opsctl.changes.secrets import CURRENT, PENDING, PREVIOUS, MoveSecretStage, StageSecretVersion

    systems = planning.systems
    secret = systems.environment.secret(name)
    refuse_kind(name, secret, value_from)
    place, state = place_of(name, secret), described(systems, name, secret)
    where: dict[str, Any] = {"name": name, "id": place.id, "region": place.region}
    if secret.kind == "managed":
        yield RotateManagedSecret(**where, version=str(uuid.uuid4()), before=state.current, procedure=secret.procedure)
        return
    generated = value_from == "generate"
    given = None if generated else _given(systems, name, secret, value_from)
    so = state.current if given and place.fingerprint(systems, state.current) == given else None
    version = so or str(uuid.uuid4())
    value: dict[str, Any] = {"key": place.key, "fingerprint": given}
    how: dict[str, Any] = {"generated": generated, "compromised": compromised}
    if secret.kind == "function":
        yield ask(systems, name, secret, given)
    yield StageSecretVersion(**where, **value, version=version, before=state.current, source=value_from, recipe=secret.generate)
    if secret.kind == "function":
        yield from into_variable(systems, name, secret, version, state, fingerprint=given, **how)
    caches: dict[str, Any] = {**cached(secret), "refreshed": refresh_now}
    proof: dict[str, Any] = {"proof": proof_of(secret), "signs": secret.signs}
    yield MoveSecretStage(**where, **value, **proof, **how, **caches, stage=CURRENT, before=state.current, after=version)
    if refresh_now:
        yield from refresh(systems, name, secret, version, generated=generated)
    if state.pending and not so:
        # Left by a rotation of Secrets Manager: on a former version it would bar the next one here.
        yield MoveSecretStage(**where, **how, stage=PENDING, before=state.pending, after=None)
    if compromised:
        old = state.previous if so else state.current
        yield MoveSecretStage(**where, stage=PREVIOUS, before=old, after=None, generated=generated, compromised=True)


def _given(systems: Systems, name: str, secret: SecretSettings, value_from: str) -> str:
    """The fingerprint of a given value, which was proven before anything is staged."""
    from opsctl.changes.proofs import prove
    from opsctl.changes.rotation import proof_of

    value = systems.values.read(value_from)
    prove(systems, name, value, proof=proof_of(secret))
    return systems.fingerprint(value.raw())


def refuse_kind(name: str, secret: SecretSettings, value_from: str) -> None:
    """Raise Refused for a secret whose rotation here would break what it opens."""
    if secret.kind in ("database", "redis"):
        raise Refused(
            f"{name} opens the {secret.kind}: a new value here alone would lock the application out.",
            secret.procedure or "Rotate both.",
        )
    if value_from == "generate" and secret.generate == "none":
        raise Refused(
            f"The value of {name} is issued elsewhere: one that is made up here opens nothing.",
            secret.procedure or "Have it issued, then --value-from -",
        )
    if secret.kind == "managed" and value_from != "generate":
        raise Refused(f"{name} is rotated by Secrets Manager, which chooses the value.", "--value-from generate")


@secrets.command()
@requires("secretsmanager:DescribeSecret secretsmanager:ListSecretVersionIds", changes="move-secret-stage")
@click.argument("name", shell_complete=completion.SECRETS)
@click.option("--to", "version", metavar="VERSION", help="The version's id; by default the version before opsctl's last rotation.")
@mutating
def rollback(planning: Planning, name: str, version: str | None) -> Iterator[Change]:
    """Make a former version of a secret current again.

    Examples:
        opsctl secrets rollback jwt -n
        opsctl secrets rollback jwt --to 6f1c9e52
    """
    from opsctl.changes.rotation import ask, cached, described, into_variable, place_of
    from opsctl.changes.secrets import CURRENT, MoveSecretStage, compromised_versions, last_rotation

    systems = planning.systems
    secret = systems.environment.secret(name)
    place, state = place_of(name, secret), described(systems, name, secret)
    rotated = last_rotation(systems.history, name)
    wanted = version or (rotated[0] if rotated else None)
    if wanted is None or wanted not in state.versions:
        known = ", ".join(sorted(state.versions))
        told = f"{name} has no version {wanted}" if wanted else f"This ledger has no rotation of {name}"
        raise Refused(f"{told}; its versions: {known}.", f"opsctl secrets rollback {name} --to VERSION")
    if wanted in compromised_versions(systems.history, name):
        others = "Rotate it once more: opsctl secrets rotate " + name + " --value-from SOURCE"
        raise Refused(f"Version {wanted} of {name} was rotated away as compromised; it never comes back.", others)
    if secret.kind == "function":
        given = place.fingerprint(systems, wanted)
        yield ask(systems, name, secret, given)
        yield from into_variable(systems, name, secret, wanted, state, fingerprint=given)
    yield MoveSecretStage(
        name=name,
        id=place.id,
        region=place.region,
        stage=CURRENT,
        before=state.current,
        after=wanted,
        key=place.key,
        signs=secret.signs,
        **cached(secret),
    )


@secrets.command()
@requires(
    "ghcr hubspot:portal lambda:GetFunctionConfiguration lease logs:FilterLogEvents secretsmanager:DescribeSecret "
    "secretsmanager:GetSecretValue secretsmanager:ListSecretVersionIds",
)
@click.argument("name", shell_complete=completion.SECRETS)
@gives_verdict(probes="it uses the secret, as whoever has it would")
@read_only
def verify(systems: Systems, name: str) -> Verdict:
    """Verify that a secret's current value exists, can be read and works, and that no consumer has failed since it changed.

    Examples:
        opsctl secrets verify jwt
    """
    from opsctl.changes.rotation import described, place_of

    secret = systems.environment.secret(name)
    place, state = place_of(name, secret), described(systems, name, secret)
    checks = [Check("a version is current", state.current is not None, state.current or "")]
    staged = f"version {state.rotating} is staged" if state.rotating else ""
    checks.append(Check("no rotation is half done", not staged, staged))
    behind = [region for region, status in state.replicas if status != "InSync"]
    checks.append(Check("replicas are in step", not behind, ", ".join(behind)))
    checks.append(_proof(systems, name, secret, place))
    if secret.kind == "function":
        checks += _at_function(systems, name, secret, place)
    checks += [_no_failures(systems, function, state.changed) for function in secret.caches]
    return Verdict(checks, f"opsctl secrets rotate {name} --value-from SOURCE, or opsctl secrets rollback {name}")


def _proof(systems: Systems, name: str, secret: SecretSettings, place: Place) -> Check:
    from opsctl.changes.proofs import prove
    from opsctl.changes.rotation import proof_of

    word = "its value does its work" if proof_of(secret) != "none" else "its value can be read"
    try:
        value = systems.secrets.value(place.id, key=place.key, region=place.region)
        told = prove(systems, name, value, proof=proof_of(secret))
    except (ExternalError, Refused) as cause:
        return Check(word, False, cause.what)
    return Check(word, True, f"fingerprint {systems.fingerprint(value.raw())}; {told}")


def _at_function(systems: Systems, name: str, secret: SecretSettings, place: Place) -> Iterator[Check]:
    """Whether the callers of a function meet the value that is kept for everybody else."""
    from opsctl.changes.rotation import function_of

    settings, variable, state = function_of(systems, name, secret)
    value = systems.secrets.value(place.id, key=place.key, region=place.region)
    yield Check("the function's last update succeeded", state.status == "Successful", state.reason or state.status)
    served = systems.functions.alias(settings.name, settings.alias, settings.region).version if settings.alias else None
    for word, at in {"$LATEST": state, settings.alias: served and systems.functions.state(settings.name, settings.region, served)}.items():
        if at:
            same = at.variables.get(variable) == value
            yield Check(f"{variable} of {secret.function}, {word}, is what is kept", same, "" if same else f"another than in {place.id}")
    lease = systems.config.lease
    if lease and lease.authorizer == secret.function:
        takes = systems.lease.authorized(value)
        yield Check("the lease endpoint takes it", takes, "" if takes else "401")


def _no_failures(systems: Systems, function: str, since: datetime) -> Check:
    """Whether a function that reads the secret has logged an error since it changed; asked for a day after that."""
    word = f"{function} has logged no failure since it changed"
    if systems.now() - since > LOOK_BACK:
        return Check(
            word, None, f"it changed {since:%Y-%m-%d %H:%M} UTC, more than a day ago: opsctl logs query lease-errors", applies=False
        )
    settings = systems.environment.function(function)
    lines = systems.logs.recent(settings.log_group, since, 1, FAILURES, settings.region)
    return Check(word, not lines, f"the last at {lines[0].at:%H:%M:%S} UTC: {lines[0].words[:200]}" if lines else "")
