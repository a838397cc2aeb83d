"""AWS Lambda: a function's configuration, its variables, its versions and aliases.

Every write is conditional on the revision that was read and raises DriftError when somebody else changed it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct

from opsctl.adapters.aws.sent import SentAnswer, refuse_loss
from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import Denied, DriftError, ExternalError, Refused, Retry
from opsctl.redaction import HIDDEN, Secret

SERVICE = "lambda"
LATEST = "$LATEST"

VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+")
RESERVED = re.compile(
    r"AWS_(REGION|DEFAULT_REGION|EXECUTION_ENV|ACCESS_KEY(_ID)?|SECRET_ACCESS_KEY|SESSION_TOKEN|LAMBDA_\w+)|LAMBDA_(TASK_ROOT|RUNTIME_DIR)"
)
ENVIRONMENT_BYTES = 4096
"""Maximum size of all names and values of variables."""

Status = Literal["Successful", "InProgress", "Failed", "untold"]

OWN = frozenset(
    {
        "FunctionName",
        "FunctionArn",
        "MasterArn",
        "Version",
        "RevisionId",
        "LastModified",
        "State",
        "StateReason",
        "StateReasonCode",
        "LastUpdateStatus",
        "LastUpdateStatusReason",
        "LastUpdateStatusReasonCode",
        "ConfigSha256",
    }
)
"""Members that differ between $LATEST and a version; all others are copied into a published version."""
APART = frozenset({"Environment", "Description", "CodeSha256", "CodeSize"})
"""Members that are compared separately."""


class Variables(Mapping[str, Secret]):
    """A function's environment variables. Any of them may be a secret, so none is printed; each value is a `Secret`."""

    def __init__(self, raw: Mapping[str, str]) -> None:
        self._raw = dict(raw)

    def __getitem__(self, name: str) -> Secret:
        return Secret(self._raw[name])

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        return HIDDEN

    def differ(self, other: Variables, apart_from: str | None = None) -> list[str]:
        """The names of the variables that differ, except one."""
        return sorted(name for name in {*self, *other} - {apart_from} if self._raw.get(name) != other._raw.get(name))

    def merged(self, name: str, value: Secret) -> dict[str, str]:
        """All variables in plain text for the call to AWS, with a new value for `name`; raises Refused for what Lambda rejects."""
        if RESERVED.fullmatch(name) or not VARIABLE.fullmatch(name):
            raise Refused(f"{name} is not a valid variable name, or Lambda reserves it.", "Correct `variable`.")
        merged = {**self._raw, name: value.reveal()}
        size = sum(len(each.encode()) for pair in merged.items() for each in pair)
        if size > ENVIRONMENT_BYTES:
            raise Refused(
                f"With the new {name} the variables have {size:,} bytes; Lambda allows {ENVIRONMENT_BYTES:,}.",
                "Use a shorter value, or remove another variable.",
            )
        return merged


class FunctionState(Struct, frozen=True):
    """A function's $LATEST or one of its versions, and the state of its last update; `modified` is UTC, `code` the digest of its code.

    `settings` are all other members of a version, as AWS sent them.
    """

    name: str
    version: str
    revision: str
    status: Status
    reason: str
    modified: datetime
    description: str
    code: str
    variables: Variables
    settings: dict[str, Any] = {}

    def same(self, other: FunctionState) -> bool:
        """Whether both run the same code with the same variables."""
        return self.code == other.code and not self.variables.differ(other.variables)

    def differ(self, other: FunctionState, apart_from: str | None = None) -> list[str]:
        """The differences as text: code, variables except one, and other settings of a version."""
        return [*self.code_and_settings(other), *(f"the variable {name}" for name in self.variables.differ(other.variables, apart_from))]

    def code_and_settings(self, other: FunctionState) -> list[str]:
        """The differences other than variables."""
        names = sorted(name for name in {*self.settings, *other.settings} if self.settings.get(name) != other.settings.get(name))
        return ["the code"] * (self.code != other.code) + names


class Alias(Struct, frozen=True):
    """An alias and the version that it serves; `split`: it serves a second version to some callers."""

    name: str
    version: str
    revision: str
    split: bool


class Functions(Adapter):
    """Functions by name; every method raises NotFound for one that doesn't exist. `region` is the session's unless given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def state(self, name: str, region: str | None = None, version: str = LATEST) -> FunctionState:
        """The configuration of $LATEST or `version`; raises Denied when its variables can't be decrypted."""
        return self._state(name, region, version)[0]

    def _state(self, name: str, region: str | None, version: str = LATEST) -> tuple[FunctionState, SentAnswer]:
        found, sent = self._aws.call_complete(SERVICE, "get_function_configuration", region=region, FunctionName=name, Qualifier=version)
        environment = found.get("Environment", {})
        if error := environment.get("Error"):
            raise Denied(
                f"The variables of {name} can't be read ({error.get('ErrorCode', 'no reason given')}); none was changed.",
                "Ask for kms:Decrypt on the function's key.",
            )
        if "CodeSha256" not in found:
            raise ExternalError(f"Lambda returned no CodeSha256 for {name}, {version}: its code can't be compared.", Retry())
        state = FunctionState(
            name=found["FunctionName"],
            version=found.get("Version", version),
            revision=found.get("RevisionId", ""),
            status=found.get("LastUpdateStatus", "untold" if version == LATEST else "Successful"),
            reason=found.get("LastUpdateStatusReason", ""),
            modified=datetime.fromisoformat(found["LastModified"]).astimezone(UTC),
            description=found.get("Description", ""),
            code=found["CodeSha256"],
            variables=Variables(environment.get("Variables", {})),
            settings=_settings(sent.raw),
        )
        return state, sent

    def alias(self, name: str, alias: str, region: str | None = None) -> Alias:
        """The version of an alias."""
        found = self._aws.call(SERVICE, "get_alias", region=region, FunctionName=name, Name=alias)
        weights = (found.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
        return Alias(found["Name"], found["FunctionVersion"], found.get("RevisionId", ""), bool(weights))

    @writes
    def set_variable(self, name: str, variable: str, value: Secret, revision: str, region: str | None = None) -> None:
        """Set a variable of $LATEST and keep the others, since AWS replaces all of them.

        Raises DriftError when the function is no longer at `revision`, Refused for a reserved name or too much of it all.
        """
        now, sent = self._state(name, region)
        if now.revision != revision:
            raise _moved(name)
        refuse_loss(tuple(path for path in sent.unknown if path.startswith("Environment.")), f"the variables of {name}")
        self._configure(name, region, revision, Environment={"Variables": now.variables.merged(variable, value)})

    @writes
    def describe_as(self, name: str, description: str, revision: str, region: str | None = None) -> None:
        """Change $LATEST's description, which makes Lambda restart it; raises DriftError unless it is at `revision`."""
        self._configure(name, region, revision, Description=description)

    @writes
    def publish(self, name: str, description: str, revision: str, region: str | None = None) -> str:
        """Publish $LATEST and return the version, the latest one if nothing has changed since; raises DriftError."""
        with _comparing(name):
            answer = self._aws.call(
                SERVICE, "publish_version", region=region, FunctionName=name, Description=description, RevisionId=revision
            )
        return str(answer["Version"])

    @writes
    def move_alias(self, name: str, alias: str, version: str, revision: str, region: str | None = None) -> None:
        """Point an alias to `version`; raises DriftError unless the alias is at `revision`."""
        with _comparing(f"{name}:{alias}"):
            self._aws.call(
                SERVICE, "update_alias", region=region, FunctionName=name, Name=alias, FunctionVersion=version, RevisionId=revision
            )

    def _configure(self, name: str, region: str | None, revision: str, **settings: Any) -> None:
        with _comparing(name):
            self._aws.call(SERVICE, "update_function_configuration", region=region, FunctionName=name, RevisionId=revision, **settings)


def _settings(raw: dict[str, Any]) -> dict[str, Any]:
    """The members of a configuration that a version keeps, without empty ones and SnapStart's progress."""
    kept = {name: value for name, value in raw.items() if name not in OWN | APART}
    if isinstance(snap := kept.get("SnapStart"), dict):
        kept["SnapStart"] = {name: value for name, value in snap.items() if name != "OptimizationStatus"}
    return {name: value for name, value in kept.items() if value not in (None, "", [], {})}


@contextmanager
def _comparing(name: str) -> Iterator[None]:
    """Translate Lambda's two errors for a concurrent update."""
    try:
        yield
    except ExternalError as no:
        code = getattr(no.__cause__, "response", {}).get("Error", {}).get("Code")
        if code == "PreconditionFailedException":
            raise _moved(name) from no
        if code == "ResourceConflictException":
            raise ExternalError(f"Lambda is still applying an earlier update of {name}.", Retry("Wait a minute")) from no
        raise


def _moved(name: str) -> DriftError:
    return DriftError(f"Somebody else changed {name} at the same time.", "Check it, then make a new plan.")
