"""Changes to what Shield Advanced protects. None of them subscribes: a subscription lasts a year."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.changes import raw
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, Pending, Skipped
from opsctl.errors import DriftError, Refused
from opsctl.permissions import Permissions, needs
from opsctl.shell import Variable, joined

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

API = "us-east-1"
"""Where all of Shield's API is."""


class ProtectionChange(Change, frozen=True, kw_only=True):
    """A change to the protection of one resource (an ARN). `name` is our own protection's name, which nobody else uses."""

    resource: str
    name: str

    @property
    def target(self) -> str:
        """`shield/` and the resource's own name."""
        return f"shield/{short(self.resource)}"


class Protect(ProtectionChange, frozen=True, kw_only=True):
    """Shield Advanced protects the resource, whoever created the protection."""

    permissions: ClassVar[Permissions] = needs(
        check="shield:DescribeProtection shield:GetSubscriptionState",
        apply="shield:CreateProtection",
    )

    @property
    def summary(self) -> str:
        """What is protected."""
        return f"protect {short(self.resource)} with Shield Advanced"

    def difference(self) -> tuple[Any, Any]:
        """The protection's name."""
        return None, self.name

    def check(self, read: Systems) -> Finding:
        """Checks for a subscription, which is required, then for any protection."""
        if not read.shield.subscribed():
            raise Refused(
                "This account has no subscription to Shield Advanced, and opsctl never subscribes: it is a commitment of a year at"
                " 3,000 USD a month.",
                "Have somebody who may spend that subscribe (console: WAF & Shield, Shield Advanced, Subscribe), then run this again."
                " Meanwhile: opsctl protection rate-limit LIMIT",
            )
        found = read.shield.protection(self.resource)
        return Done(f"it is protected, as {found.name}") if found else Pending(1, "resources")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """CreateProtection."""
        return {"protection": write.shield.protect(self.name, self.resource)}

    def inverse(self) -> Unprotect:
        """Deletes our protection."""
        return Unprotect(resource=self.resource, name=self.name)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Shield command, which never subscribes."""
        return [raw.aws(environment, "shield", "create-protection", region=API, Name=self.name, ResourceArn=self.resource)]


class Unprotect(ProtectionChange, frozen=True, kw_only=True):
    """Our protection is deleted."""

    permissions: ClassVar[Permissions] = needs(
        check="shield:DescribeProtection shield:GetSubscriptionState",
        apply="shield:DeleteProtection shield:DescribeProtection",
    )

    @property
    def summary(self) -> str:
        """What is no longer protected."""
        return f"end Shield Advanced protection of {short(self.resource)}"

    def difference(self) -> tuple[Any, Any]:
        """The protection's name."""
        return self.name, None

    def check(self, read: Systems) -> Finding:
        """Finds the protection by its name."""
        found = read.shield.protection(self.resource)
        if found is None and not read.shield.subscribed():
            return Skipped("without a subscription Shield Advanced doesn't list what it protects")
        if found is None:
            return Done("it isn't protected")
        return Pending(1, "resources") if found.name == self.name else Drifted(self._of_others(found.name))

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """DeleteProtection, by name only."""
        found = write.shield.protection(self.resource)
        if found and found.name != self.name:
            raise DriftError(f"{self.target}: {self._of_others(found.name)}.", "Make a new plan: run the command again.")
        if found:
            write.shield.unprotect(found.id)
        return {}

    def _of_others(self, name: str) -> str:
        return f"it is protected as {name}, not as {self.name}: somebody else protected it"

    def inverse(self) -> Protect:
        """Protects the resource again."""
        return Protect(resource=self.resource, name=self.name)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Shield commands, for a protection with that name only."""
        find = raw.aws(environment, "shield", "describe-protection", region=API, ResourceArn=self.resource)
        return [
            *raw.as_reviewed(find, "Protection.Name", self.name, "The protection's name"),
            raw.learn("protection", find, "Protection.Id"),
            raw.aws(environment, "shield", "delete-protection", joined("--protection-id=", Variable("protection")), region=API),
        ]


def short(arn: str) -> str:
    """A resource's own name in its ARN: `loadbalancer/app/NAME/ID` -> `NAME`, `distribution/ID` -> `ID`."""
    parts = arn.rpartition(":")[2].split("/")
    return parts[2] if parts[0] == "loadbalancer" and len(parts) > 3 else parts[-1]
