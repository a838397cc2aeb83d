"""`opsctl secrets`: list, rotate, roll back and verify secrets in Secrets Manager."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from opsctl.adapters.values import check_source
from opsctl.changes.base import Change
from opsctl.changes.secrets import (
    CURRENT,
    PREVIOUS,
    MoveSecretStage,
    RotateManagedSecret,
    StageSecretVersion,
    fingerprint,
    prove,
)
from opsctl.cli import changes, group, views
from opsctl.errors import OpsctlError, Refused, SystemFailed
from opsctl.render.shapes import Check, Verdict

if TYPE_CHECKING:
    from opsctl.settings import SecretSettings
    from opsctl.systems import Systems

secrets = group("secrets")


def source(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Take a source and never a value; the refusal doesn't repeat what was typed."""
    try:
        return check_source(value)
    except ValueError as cause:
        raise click.BadParameter(str(cause)) from None


@secrets.command("list")
@views
def list_(systems: Systems) -> list[dict[str, Any]]:
    """List the secrets that configuration names: their version, age and consumers, never their values."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda item: _row(systems, *item), sorted(systems.config.secrets.items())))


def _row(systems: Systems, name: str, secret: SecretSettings) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "id": secret.id, "kind": secret.kind, "consumers": secret.consumers}
    try:
        state = systems.secrets.describe(secret.id, secret.region)
    except SystemFailed as cause:
        return {**row, "version": None, "changed": None, "state": cause.what}
    current = state.versions.get(state.current or "")
    row |= {"version": state.current, "changed": current.created if current else None}
    pending = state.pending not in (None, state.current)
    return {**row, "state": "deleted" if state.deleted else "a rotation is under way" if pending else "ok"}


@secrets.command()
@click.argument("name")
@click.option("--value-from", required=True, callback=source, metavar="-|env:VAR|file:PATH|generate", help="Where the value is.")
@click.option("--compromised", is_flag=True, help="The old value is known to others: it can't come back.")
@changes
def rotate(systems: Systems, name: str, value_from: str, compromised: bool) -> Iterator[Change]:
    """Give a secret a new value: staged, proven, then made current; other keys of its JSON stay."""
    secret = systems.environment.secret(name)
    refuse_kind(name, secret, value_from)
    before = systems.secrets.describe(secret.id, secret.region).current
    where: dict[str, Any] = {"name": name, "id": secret.id, "region": secret.region}
    version = str(uuid.uuid4())
    if secret.kind == "managed":
        yield RotateManagedSecret(**where, version=version, before=before, procedure=secret.procedure)
        return
    generated = value_from == "generate"
    given = None if generated else systems.memory.fingerprint(systems.values.read(value_from).raw())
    value: dict[str, Any] = {"key": secret.key, "fingerprint": given}
    yield StageSecretVersion(**where, **value, version=version, before=before, source=value_from, recipe=secret.generate)
    proof: dict[str, Any] = {"generated": generated, "proof": secret.proof, "signs": secret.signs, "compromised": compromised}
    yield MoveSecretStage(**where, **value, **proof, stage=CURRENT, before=before, after=version)
    if compromised:
        yield MoveSecretStage(**where, stage=PREVIOUS, before=before, after=None, generated=generated, compromised=True)


def refuse_kind(name: str, secret: SecretSettings, value_from: str) -> None:
    """Raise Refused for a secret whose rotation here would break what it opens."""
    if secret.kind in ("database", "redis"):
        raise Refused(
            f"{name} opens the {secret.kind}: a new value here alone would lock the application out.",
            secret.procedure or "Rotate both.",
        )
    if secret.kind == "managed" and value_from != "generate":
        raise Refused(f"{name} is rotated by Secrets Manager, which chooses the value.", "--value-from generate")


@secrets.command()
@click.argument("name")
@click.option("--to", "version", metavar="VERSION", help="The version id; by default the one before our last rotation.")
@changes
def rollback(systems: Systems, name: str, version: str | None) -> Iterator[Change]:
    """Make a former version of a secret current again."""
    secret = systems.environment.secret(name)
    state = systems.secrets.describe(secret.id, secret.region)
    rotated = systems.memory.last_rotation(name)
    wanted = version or (rotated[0] if rotated else None)
    if wanted is None or wanted not in state.versions:
        known = ", ".join(sorted(state.versions))
        told = f"{name} has no version {wanted}" if wanted else f"This ledger knows no rotation of {name}"
        raise Refused(f"{told}; its versions: {known}.", f"opsctl secrets rollback {name} --to VERSION")
    yield MoveSecretStage(
        name=name,
        id=secret.id,
        region=secret.region,
        stage=CURRENT,
        before=state.current,
        after=wanted,
        key=secret.key,
        signs=secret.signs,
    )


@secrets.command()
@click.argument("name")
@views
def verify(systems: Systems, name: str) -> Verdict:
    """Prove that a secret's current value is there, readable and good for its work."""
    secret = systems.environment.secret(name)
    state = systems.secrets.describe(secret.id, secret.region)
    checks = [Check("a version is current", state.current is not None, state.current or "")]
    pending = state.pending not in (None, state.current)
    checks.append(Check("no rotation is half done", not pending, f"version {state.pending} is staged" if pending else ""))
    behind = [region for region, status in state.replicas if status != "InSync"]
    checks.append(Check("replicas are in step", not behind, ", ".join(behind)))
    checks.append(_proof(systems, name, secret))
    return Verdict(checks, f"opsctl secrets rotate {name} --value-from SOURCE, or opsctl secrets rollback {name}")


def _proof(systems: Systems, name: str, secret: SecretSettings) -> Check:
    word = "its value does its work" if secret.proof != "none" else "its value can be read"
    try:
        value = systems.secrets.value(secret.id, key=secret.key, region=secret.region)
        prove(value, secret.proof, name)
    except OpsctlError as cause:
        return Check(word, False, cause.what)
    return Check(word, True, f"fingerprint {fingerprint(systems, secret, secret.key)}")
