"""Changes to Lambda functions: a restart, and the version that an alias serves; and what all such changes share."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from opsctl.changes import raw
from opsctl.changes.states import FUNCTION_UPDATE
from opsctl.contract import Change, Done, Drifted, Evidence, Failed, Finding, InProgress, Irreversible, Pending
from opsctl.errors import NotFound, Refused
from opsctl.permissions import Permissions, needs
from opsctl.shell import Variable, joined, run

if TYPE_CHECKING:
    from opsctl.adapters.aws.functions import Alias, FunctionState
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.redaction import Secret
    from opsctl.shell import Command, Statement, Word
    from opsctl.systems import Systems

REVISION = joined("--revision-id=", Variable("revision"))


class Stored(Struct, frozen=True, kw_only=True):
    """The secret that stores a function's value for its other readers; its version is `version`, and was `former`."""

    id: str
    key: str | None = None
    region: str | None = None
    version: str
    former: str | None = None

    def value(self, systems: Systems, version: str | None) -> Secret | None:
        """The value of a version; None if there is no such version (yet)."""
        if version is None:
            return None
        try:
            return systems.secrets.value(self.id, key=self.key, version=version, region=self.region)
        except NotFound:
            return None

    def back(self, former: str) -> Stored:
        """The same, with the former version as the wanted one."""
        return Stored(id=self.id, key=self.key, region=self.region, version=former, former=self.version)


class FunctionChange(Change, frozen=True, kw_only=True):
    """A change to one Lambda function, which configuration calls `name` and AWS `function`."""

    poll: ClassVar[float] = 1
    target_template: ClassVar[str] = "function/{name}"

    name: str
    function: str
    region: str | None = None

    def latest(self, read: Systems) -> FunctionState:
        """The configuration of $LATEST."""
        return read.functions.state(self.function, self.region)

    def updated(self, state: FunctionState) -> InProgress | Failed | None:
        """A finding while AWS processes an update, or after it failed; None when it is done."""
        if state.status == "InProgress":
            return InProgress(f"Lambda is updating {self.name}")
        if state.status == "Failed":
            return Failed(f"Lambda couldn't update {self.name}: {state.reason}", 1, "functions")
        return FUNCTION_UPDATE.waited(f"the update of {self.name}", state.status, "functions")

    def all_served(self, read: Systems, latest: FunctionState, alias: str | None, apart_from: str | None = None) -> None:
        """Raises Refused if publishing would serve somebody else's unpublished changes to the alias's callers."""
        if alias is None:
            return
        served = read.functions.state(self.function, self.region, self.served_alone(read, alias).version)
        self.refuse_unpublished(latest.differ(served, apart_from), alias, served.version)

    def served_alone(self, read: Systems, alias: str) -> Alias:
        """The alias. Raises Refused while it also serves a second version."""
        serves = read.functions.alias(self.function, alias, self.region)
        if serves.split:
            raise Refused(f"{alias} of {self.name} serves two versions: a release is in progress.", "Wait until the release has finished.")
        return serves

    def refuse_unpublished(self, differ: list[str], alias: str, version: str) -> None:
        """Raises Refused if $LATEST differs from the version that an alias serves in anything that isn't ours."""
        if differ:
            raise Refused(
                f"$LATEST of {self.name} has settings that {alias} (version {version}) doesn't have ({', '.join(differ)}): publishing would"
                " make them live.",
                f"Publish or revert those settings first: aws lambda get-function-configuration --function-name {self.function}",
            )

    def aws(self, environment: Environment, operation: str, *more: Word, **how: Any) -> Command:
        """A Lambda command."""
        return raw.aws(environment, "lambda", operation, *more, region=self.region, FunctionName=self.function, **how)

    def wait(self, environment: Environment) -> Command:
        """The Lambda command that waits for an update."""
        return self.aws(environment, "wait function-updated-v2")

    def revision(self, environment: Environment) -> Statement:
        """Captures the revision of $LATEST in the variable `revision`, for a conditional write."""
        return raw.learn("revision", self.aws(environment, "get-function-configuration"), "RevisionId")


class RefreshFunction(FunctionChange, frozen=True, kw_only=True):
    """The description of $LATEST is `after`, so that Lambda has restarted it and it has read its secrets again."""

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"before", "after"})
    permissions: ClassVar[Permissions] = needs(
        check="lambda:GetAlias lambda:GetFunctionConfiguration",
        apply="lambda:GetFunctionConfiguration lambda:UpdateFunctionConfiguration",
    )
    summary_template: ClassVar[str] = "restart {name}, so that it reads {secret}"

    alias: str | None = None
    secret: str
    before: str
    after: str
    generated: bool = False

    @property
    def depends_on(self) -> frozenset[str]:
        """The secret that it reads."""
        return frozenset({f"secret/{self.secret}/AWSCURRENT"})

    @property
    def proven_by_history(self) -> bool:
        """Whether the value is generated: its version differs in each plan."""
        return self.generated

    def difference(self) -> tuple[Any, Any]:
        """Both descriptions."""
        return self.before, self.after

    def check(self, read: Systems) -> Finding:
        """Compares the description, then waits for Lambda."""
        state = self.latest(read)
        if state.description == self.after:
            return self.updated(state) or Done(f"{self.name} was restarted for it", state.modified)
        if state.description != self.before:
            return Drifted(f"its description is {state.description!r}; it was {self.before!r} in the plan")
        self.all_served(read, state, self.alias)
        return Pending(1, "functions")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """UpdateFunctionConfiguration with another description; publishing unchanged code would have no effect."""
        write.functions.describe_as(self.function, self.after, self.latest(write).revision, self.region)
        return {}

    def inverse(self) -> RefreshFunction:
        """Restores the former description."""
        return RefreshFunction(
            name=self.name,
            function=self.function,
            region=self.region,
            alias=self.alias,
            secret=self.secret,
            before=self.after,
            after=self.before,
        )

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Lambda command, with its wait."""
        look = self.aws(environment, "get-function-configuration")
        return [
            self.revision(environment),
            *raw.as_reviewed(look, "Description", self.before, f"The description of {self.name}"),
            self.aws(environment, "update-function-configuration", REVISION, Description=self.after),
            self.wait(environment),
        ]


class ServeLatest(FunctionChange, frozen=True, kw_only=True):
    """The alias serves $LATEST as a published version, or the version `after`. It served `before`.

    Publishing and moving the alias are two calls and one effect: publishing again creates no further version.
    """

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"before", "after", "stored"})
    permissions: ClassVar[Permissions] = needs(
        check="lambda:GetAlias lambda:GetFunctionConfiguration",
        apply="lambda:GetAlias lambda:GetFunctionConfiguration lambda:PublishVersion lambda:UpdateAlias",
    )
    target_template: ClassVar[str] = "function/{name}/{alias}"

    alias: str
    before: str | None
    after: str | None = None
    rests_on: str
    stored: Stored | None = None
    cache: float = 0.0
    generated: bool = False
    compromised: bool = False

    @property
    def depends_on(self) -> frozenset[str]:
        """The change of $LATEST that the alias then serves."""
        return frozenset({self.rests_on})

    @property
    def proven_by_history(self) -> bool:
        """Like the change that it depends on."""
        return self.generated

    @property
    def summary(self) -> str:
        """What callers get."""
        what = f"version {self.after}" if self.after else "$LATEST, published"
        return f"point the alias {self.alias} of {self.name} to {what}"

    def difference(self) -> tuple[Any, Any]:
        """The versions; one that is not published yet has no number."""
        return self.before, self.after

    def check(self, read: Systems) -> Finding:
        """Compares the version that the alias serves with the wanted one, then waits for the authorizer."""
        serves = self.served_alone(read, self.alias)
        latest = self.latest(read)
        served = read.functions.state(self.function, self.region, serves.version)
        as_latest = latest.same(served) and latest.description == served.description
        if serves.version == self.after or (self.after is None and as_latest):
            so = f"{self.alias} serves version {serves.version}"
            return await_authorizer(read, self, self.stored, self.cache, served.modified, so) if self.stored else Done(so, served.modified)
        if (self.before is not None and serves.version != self.before) or (self.before is None and not as_latest):
            return Drifted(f"{self.alias} serves version {serves.version}, not {self.before or 'the published version'} as in the plan")
        if self.after is None:
            self.refuse_unpublished(latest.code_and_settings(served), self.alias, served.version)
        return Pending(1, "functions")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """PublishVersion if a version is needed, then UpdateAlias; both are conditional on the revision."""
        version = self.after
        if version is None:
            latest = self.latest(write)
            version = write.functions.publish(self.function, latest.description, latest.revision, self.region)
        revision = write.functions.alias(self.function, self.alias, self.region).revision
        write.functions.move_alias(self.function, self.alias, version, revision, self.region)
        return {"version": version}

    def inverse(self) -> ServeLatest | Irreversible:
        """Restores the version that it served."""
        if self.compromised:
            return Irreversible("the old value is compromised")
        back = self.stored.back(self.stored.former) if self.stored and self.stored.former else None
        return ServeLatest(
            name=self.name,
            function=self.function,
            region=self.region,
            alias=self.alias,
            before=self.after,
            after=self.before,
            rests_on=self.rests_on,
            stored=back,
            cache=self.cache,
        )

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Lambda commands, and a wait for the authorizer's cache."""
        alias = self.aws(environment, "get-alias", Name=self.alias)
        version: Word = self.after or Variable("version")
        publish: list[Statement] = [
            self.revision(environment),
            raw.learn("description", self.aws(environment, "get-function-configuration"), "Description"),
            raw.learn(
                "version", self.aws(environment, "publish-version", REVISION, joined("--description=", Variable("description"))), "Version"
            ),
        ]
        return [
            *(
                raw.as_reviewed(alias, "FunctionVersion", self.before, f"The version that {self.alias} of {self.name} serves")
                if self.before
                else []
            ),
            *([] if self.after else publish),
            raw.learn("revision", alias, "RevisionId"),
            self.aws(environment, "update-alias", REVISION, "--function-version", version, Name=self.alias),
            *([run("sleep", str(math.ceil(self.cache)))] if self.stored and self.cache else []),
        ]


def fingerprint(systems: Systems, value: Secret | None) -> str | None:
    """The keyed fingerprint of a value; None for None."""
    return None if value is None else systems.fingerprint(value.raw())


def await_authorizer(read: Systems, change: FunctionChange, stored: Stored, cache: float, since: datetime, so: str) -> Done | InProgress:
    """A finding until callers get the new value: the authorizer caches its answers for `cache` seconds; None when they do.

    If the function is the lease endpoint's authorizer and both values are known, the endpoint is queried; otherwise the time is waited.
    """
    lease = read.config.lease
    asked = lease is not None and lease.authorizer == change.name
    new, former = stored.value(read, stored.version), stored.value(read, stored.former)
    if asked and new is not None and not read.lease.authorized(new):
        return InProgress("the lease endpoint doesn't accept the new value yet")
    if asked and new is not None and former is not None and former != new:
        if read.lease.authorized(former):
            return InProgress(f"the lease endpoint's authorizer still accepts the former value, for at most {cache:.0f} s")
        return Done(f"{so}; the lease endpoint accepts it and no longer the former one", since)
    if (left := (since + timedelta(seconds=cache) - read.now()).total_seconds()) > 0:
        return InProgress(f"answers cached with the former value expire within {left:.0f} s")
    return Done(so, since)
