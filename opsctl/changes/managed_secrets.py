"""The change that rotates a secret by Secrets Manager's own rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from opsctl.changes import raw
from opsctl.changes.secrets import CURRENT, SecretChange
from opsctl.contract import Done, Drifted, Evidence, Failed, Finding, InProgress, Pending
from opsctl.errors import ExternalError, Refused
from opsctl.permissions import Permissions, needs

if TYPE_CHECKING:
    from opsctl.adapters.aws.secrets import SecretState
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems


class RotateManagedSecret(SecretChange, frozen=True, kw_only=True):
    """Secrets Manager's own rotation has made `version` current."""

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"version", "before"})
    permissions: ClassVar[Permissions] = needs(
        check="cloudtrail:LookupEvents secretsmanager:DescribeSecret secretsmanager:ListSecretVersionIds",
        apply="secretsmanager:RotateSecret",
    )
    poll: ClassVar[float] = 5
    proven_by_history: ClassVar[bool] = True
    summary_template: ClassVar[str] = "rotate {name} in Secrets Manager"
    irreversible: ClassVar[str] = "the rotation changes the credential at its source too"

    version: str
    before: str | None
    procedure: str = ""

    @property
    def target(self) -> str:
        """`secret/NAME/AWSCURRENT`."""
        return f"secret/{self.name}/{CURRENT}"

    def check(self, read: Systems) -> Finding:
        """Reads the version that the rotation was asked to create."""
        state = self._state(read)
        if state.current == self.version:
            return Done(f"version {self.version} is current", state.versions[self.version].created)
        if not state.rotation_enabled:
            raise Refused(
                f"{self.name} has no rotation configured in Secrets Manager.", self.procedure or "Configure a rotation there first."
            )
        if self.version in state.versions:
            return self._under_way(read, state)
        if state.current != self.before:
            return Drifted(f"the current version is {state.current}; it was {self.before} in the plan")
        return Pending(1, "secrets")

    def _under_way(self, read: Systems, state: SecretState) -> InProgress | Failed:
        """The rotation's progress. Secrets Manager reports a failure only as a CloudTrail event."""
        version = state.versions[self.version]
        again = f"read the log of its rotation function, then: aws secretsmanager rotate-secret --secret-id {self.id}"
        if not version.stages:
            return Failed(f"Secrets Manager cancelled the rotation: version {self.version} has no label; {again}", 1, "secrets")
        try:
            ended = read.cloudtrail.rotation_failure(state.arn, version.created, read.now(), self.region)
        except ExternalError as cause:
            return InProgress(f"the rotation is in progress; whether it failed is unknown: {cause.what}")
        if ended:
            return Failed(f"the rotation failed: {ended}; version {self.version} stays AWSPENDING; {again}", 1, "secrets")
        return InProgress("the rotation is in progress")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """RotateSecret, with the version's id as its token."""
        write.secrets.rotate_managed(self.id, self.version, self.region)
        return {"version": self.version}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Secrets Manager command, until the version is current."""
        look = self._aws(environment, "list-secret-version-ids")
        query = f"Versions[?contains(VersionStages || `[]`, '{CURRENT}')] | [0].VersionId"
        return [
            *self._staged(environment, CURRENT, self.before),
            self._aws(environment, "rotate-secret", ClientRequestToken=self.version),
            *raw.wait_until(
                look, query, self.version, seconds=int(self.timeout), every=int(self.poll), what=f"The rotation of {self.name}"
            ),
        ]
