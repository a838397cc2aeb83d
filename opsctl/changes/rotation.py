"""The parts of a rotation: where a secret's versions are stored, and the changes that bring a new one to a function's callers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from opsctl.changes.functions import RefreshFunction, ServeLatest, Stored, fingerprint
from opsctl.changes.variables import AskFirst, SetFunctionVariable
from opsctl.contract import Change
from opsctl.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from opsctl.adapters.aws.functions import FunctionState
    from opsctl.adapters.aws.secrets import SecretState
    from opsctl.settings import FunctionSettings, SecretSettings
    from opsctl.systems import Systems


class Place(Struct, frozen=True, kw_only=True):
    """Where Secrets Manager stores the versions of a secret."""

    id: str
    key: str | None
    region: str | None

    def fingerprint(self, systems: Systems, version: str | None) -> str | None:
        """The fingerprint of a version's value; None if there is none."""
        return fingerprint(systems, Stored(id=self.id, key=self.key, region=self.region, version="").value(systems, version))


def place_of(name: str, secret: SecretSettings) -> Place:
    """Where a function's versions are stored: `store-in`. Raises ConfigurationError without one: nobody could read the value."""
    if secret.kind != "function":
        return Place(id=secret.id, key=secret.key, region=secret.region)
    if secret.store_in is None or secret.store_in.aws is None:
        raise ConfigurationError(
            f"{name} is stored in a function's variable, and the configuration doesn't say where the installer reads it.",
            f'Add store-in = {{ aws = "SECRET", key = "KEY" }} to [secrets.{name}].',
        )
    return Place(id=secret.store_in.aws, key=secret.store_in.key, region=secret.store_in.region)


def described(systems: Systems, name: str, secret: SecretSettings) -> SecretState:
    """The secret's versions. NotFound explains how to create a function's first one."""
    place = place_of(name, secret)
    try:
        return systems.secrets.describe(place.id, place.region)
    except NotFound as cause:
        if secret.kind != "function":
            raise
        where = f"--name {place.id} --region {place.region or systems.environment.aws.region}"
        content = f'{{"{place.key}": "none-yet"}}' if place.key else "none-yet"
        make = f"aws secretsmanager create-secret {where} --secret-string '{content}'"
        raise NotFound(f"The secret {place.id}, which stores the value of {name}, doesn't exist.", f"Create it once: {make}") from cause


def function_of(systems: Systems, name: str, secret: SecretSettings) -> tuple[FunctionSettings, str, FunctionState]:
    """The function that has a secret, the variable and $LATEST. Raises ConfigurationError if the configuration names none."""
    if secret.function is None or secret.variable is None:
        raise ConfigurationError(
            f"{name} is stored in a function's variable, and the configuration doesn't say in which.",
            "Add `function` and `variable` to its configuration.",
        )
    settings = systems.environment.function(secret.function)
    return settings, secret.variable, systems.functions.state(settings.name, settings.region)


def proof_of(secret: SecretSettings) -> str:
    """The name of the check. A function's secret travels in a header, so that it is at least checked to be one word."""
    return "shape" if secret.kind == "function" and secret.proof == "none" else secret.proof


def cached(secret: SecretSettings) -> dict[str, Any]:
    """Who caches the value and for how long, as a change's fields."""
    return {"cached_by": tuple(secret.caches), "cache": secret.cache.total_seconds()}


def ask(systems: Systems, name: str, secret: SecretSettings, given: str | None) -> AskFirst:
    """The question before a function's secret changes: the old value stops working at that moment."""
    settings, variable, state = function_of(systems, name, secret)
    before = fingerprint(systems, state.variables.get(variable))
    question = f"Is the installer ready to be released with the new default of {variable}? {secret.note}".strip()
    where: dict[str, Any] = {"name": secret.function, "function": settings.name, "region": settings.region}
    return AskFirst(**where, variable=variable, question=question, before=before, fingerprint=given)


def into_variable(systems: Systems, name: str, secret: SecretSettings, version: str, known: SecretState, **how: Any) -> Iterator[Change]:
    """Changes that bring a stored version to a function's callers; the present value may be the current version or the previous one."""
    settings, variable, state = function_of(systems, name, secret)
    place = place_of(name, secret)
    before = fingerprint(systems, state.variables.get(variable))
    formers = (v for v in (known.current, known.previous) if v != version)
    former = next((v for v in formers if before is not None and place.fingerprint(systems, v) == before), None)
    change = SetFunctionVariable(
        name=secret.function or "",
        function=settings.name,
        region=settings.region,
        alias=settings.alias,
        secret=name,
        variable=variable,
        stored=Stored(id=place.id, key=place.key, region=place.region, version=version, former=former),
        before=before,
        cache=secret.cache.total_seconds(),
        note=f"{secret.note} opsctl can't count them.".strip(),
        afterwards=secret.procedure,
        **how,
    )
    yield change
    if settings.alias:
        how.pop("fingerprint")
        yield _serve(systems, settings, change.name, change.target, stored=change.stored, cache=change.cache, **how)


def refresh(systems: Systems, name: str, secret: SecretSettings, version: str, *, generated: bool) -> Iterator[Change]:
    """Changes that restart each function that caches a secret; its description then names the secret's version."""
    mark = re.compile(rf" ?\[{re.escape(name)} [0-9a-f]{{8}}\]")
    for function in secret.caches:
        settings = systems.environment.function(function)
        before = systems.functions.state(settings.name, settings.region).description
        change = RefreshFunction(
            name=function,
            function=settings.name,
            region=settings.region,
            alias=settings.alias,
            secret=name,
            before=before,
            after=f"{mark.sub('', before)} [{name} {version[:8]}]".strip(),
            generated=generated,
        )
        yield change
        if settings.alias:
            yield _serve(systems, settings, function, change.target, generated=generated)


def _serve(systems: Systems, settings: FunctionSettings, name: str, rests_on: str, **how: Any) -> ServeLatest:
    alias = settings.alias or ""
    before = systems.functions.alias(settings.name, alias, settings.region).version
    return ServeLatest(name=name, function=settings.name, region=settings.region, alias=alias, before=before, rests_on=rests_on, **how)
