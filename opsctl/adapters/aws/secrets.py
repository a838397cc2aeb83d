"""AWS Secrets Manager: versions, stages and values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import ExternalError
from opsctl.redaction import Secret

SERVICE = "secretsmanager"
CURRENT, PREVIOUS, PENDING = "AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"


class VersionState(Struct, frozen=True):
    """One version of a secret, with the stages that it carries; `created` is UTC."""

    id: str
    stages: frozenset[str]
    created: datetime


class SecretState(Struct, frozen=True):
    """A secret without its value; `changed` is the time of its last change (UTC), including labels.

    `replicas` are pairs of region and status; `deleted` is the time of its scheduled deletion.
    """

    id: str
    arn: str
    versions: dict[str, VersionState]
    replicas: list[tuple[str, str]]
    rotation_enabled: bool
    deleted: datetime | None
    changed: datetime

    def staged(self, stage: str) -> str | None:
        """The id of the version that carries `stage`."""
        return next((v.id for v in self.versions.values() if stage in v.stages), None)

    @property
    def current(self) -> str | None:
        """The id of the version that is read by default."""
        return self.staged(CURRENT)

    @property
    def previous(self) -> str | None:
        """The id of the version that was current before."""
        return self.staged(PREVIOUS)

    @property
    def pending(self) -> str | None:
        """The id of the version with AWSPENDING, of a rotation in progress or finished."""
        return self.staged(PENDING)

    @property
    def rotating(self) -> str | None:
        """The id of the version that a rotation in progress has staged.

        A finished rotation leaves AWSPENDING on its version (AWS, "Rotation by Lambda function"). Such a version has another label too,
        or is older than the current one.
        """
        pending, current = self.versions.get(self.pending or ""), self.versions.get(self.current or "")
        if pending is None or pending.stages & {CURRENT, PREVIOUS} or (current and pending.created < current.created):
            return None
        return pending.id


class Secrets(Adapter):
    """Secrets by name or ARN; every method raises NotFound for one that doesn't exist. `region` is the session's unless given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def describe(self, id: str, region: str | None = None) -> SecretState:
        """Return its versions (those without a stage too) and its replicas."""
        found = self._aws.call(SERVICE, "describe_secret", region=region, SecretId=id)
        return SecretState(
            id=found["Name"],
            arn=found["ARN"],
            versions={v.id: v for v in self._versions(id, region)},
            replicas=[(r["Region"], r["Status"]) for r in found.get("ReplicationStatus", [])],
            rotation_enabled=found.get("RotationEnabled", False),
            deleted=utc(found["DeletedDate"]) if found.get("DeletedDate") else None,
            changed=utc(found.get("LastChangedDate") or found["CreatedDate"]),
        )

    def _versions(self, id: str, region: str | None) -> Iterator[VersionState]:
        # botocore has no paginator for this one.
        more: dict[str, Any] = {}
        while True:
            page = self._aws.call(SERVICE, "list_secret_version_ids", region=region, SecretId=id, IncludeDeprecated=True, **more)
            for raw in page["Versions"]:
                yield VersionState(raw["VersionId"], frozenset(raw.get("VersionStages", [])), utc(raw["CreatedDate"]))
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}

    def value(self, id: str, key: str | None = None, version: str | None = None, region: str | None = None) -> Secret:
        """Return the value of the current version or of `version`; with `key`, that member of its JSON object.

        Raises ExternalError when `key` is given and the value isn't a JSON object that has it.
        """
        which = {"VersionId": version} if version else {}
        found = self._aws.call(SERVICE, "get_secret_value", region=region, SecretId=id, **which)
        raw: str | bytes = found["SecretString"] if "SecretString" in found else found["SecretBinary"]
        return Secret(raw) if key is None else Secret(_member(raw, id, key))

    def text(self, id: str, key: str | None = None, version: str | None = None, region: str | None = None) -> str:
        """The value as text, for a library that needs it; raises Refused when it is binary."""
        return self.value(id, key, version, region).reveal()

    @writes
    def stage(self, id: str, version: str, value: Secret, label: str, region: str | None = None) -> str:
        """Store `value` as version `version`, with the label `label`, and keep the current version; returns the id (32 to 64 characters).

        Idempotent for the same id and value; AWS refuses another value (ExternalError).
        """
        content = {"SecretString": value.reveal()} if value.is_text else {"SecretBinary": value.raw()}
        answer = self._aws.call(
            SERVICE,
            "put_secret_value",
            region=region,
            SecretId=id,
            ClientRequestToken=version,
            VersionStages=[label],
            **content,
        )
        return str(answer["VersionId"])

    @writes
    def move(self, id: str, stage: str, to: str | None, remove_from: str | None, region: str | None = None) -> None:
        """Move `stage` to version `to` from version `remove_from`, which must have it; without `to` it is only removed.

        AWS itself moves AWSPREVIOUS to the version that loses AWSCURRENT.
        """
        moves = {"MoveToVersionId": to, "RemoveFromVersionId": remove_from}
        self._aws.call(
            SERVICE,
            "update_secret_version_stage",
            region=region,
            SecretId=id,
            VersionStage=stage,
            **{name: version for name, version in moves.items() if version},
        )

    @writes
    def rotate_managed(self, id: str, token: str, region: str | None = None) -> str:
        """Start the rotation that the secret itself is configured with; returns the new version's id, which is `token`."""
        answer = self._aws.call(SERVICE, "rotate_secret", region=region, SecretId=id, ClientRequestToken=token)
        return str(answer["VersionId"])


def _member(raw: str | bytes, id: str, key: str) -> str:
    try:
        members = json.loads(raw)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        # No cause: a JSON error may quote the value.
        raise ExternalError(f"Secret {id} is not a JSON object, so it has no key {key!r}.", "Remove `key` from the configuration.")
    if key not in members:
        raise ExternalError(f"Secret {id} has no key {key!r}; it has: {', '.join(sorted(members))}.", "Correct `key` in the configuration.")
    member = members[key]
    return member if isinstance(member, str) else json.dumps(member)
