"""Changes to secrets in Secrets Manager: stage a value under a pinned version id, then move a label to it."""

from __future__ import annotations

import math
import shlex
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from opsctl import fingerprints
from opsctl.adapters.host.secret_sources import generate
from opsctl.changes import raw
from opsctl.changes.proofs import UnprovenVersion, prove, prove_by_shell
from opsctl.changes.states import REPLICA
from opsctl.contract import Change, Done, Drifted, Evidence, Failed, Finding, InProgress, Irreversible, Pending
from opsctl.errors import ExternalError, LockHeld, Refused
from opsctl.formats import json_edit
from opsctl.permissions import Permissions, needs
from opsctl.redaction import Secret
from opsctl.shell import File, Program, joined, piped, run

if TYPE_CHECKING:
    from opsctl.adapters.aws.secrets import SecretState
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback, RunHistory
    from opsctl.settings import SecretSettings
    from opsctl.shell import Command, Statement
    from opsctl.systems import Systems

Stage = Literal["AWSCURRENT", "AWSPREVIOUS", "AWSPENDING", "OPSCTL"]
CURRENT: Stage = "AWSCURRENT"
PREVIOUS: Stage = "AWSPREVIOUS"
PENDING: Stage = "AWSPENDING"
STAGED: Stage = "OPSCTL"
"""The label of what opsctl staged last; AWSPENDING belongs to Secrets Manager's own rotations."""

GENERATE = Program(
    "generated",
    """
import base64, secrets, sys
kind, _, size = sys.argv[1].partition(":")
raw = secrets.token_bytes(int(size))
sys.stdout.write({"hex": raw.hex(), "base64": base64.b64encode(raw).decode()}[kind])
""",
)
"""Writes a new value by a recipe, `hex:BYTES` or `base64:BYTES`."""


class SecretChange(Change, frozen=True, kw_only=True):
    """A change to one secret, which configuration calls `name`."""

    under_way: ClassVar[float] = 0

    name: str
    id: str
    region: str | None = None

    def _aws(self, environment: Environment, operation: str, **how: Any) -> Command:
        return raw.aws(environment, "secretsmanager", operation, region=self.region, SecretId=self.id, **how)

    def _staged(self, environment: Environment, stage: str, version: str | None) -> list[Statement]:
        """Statements that check that the label is still on the reviewed version."""
        look = self._aws(environment, "list-secret-version-ids")
        query = f"Versions[?contains(VersionStages || `[]`, '{stage}')] | [0].VersionId"
        return raw.as_reviewed(look, query, version or "None", f"The version of {self.name} that is {stage}")

    def _state(self, read: Systems) -> SecretState:
        state = read.secrets.describe(self.id, self.region)
        if state.deleted:
            raise Refused(f"The secret {self.name} is scheduled for deletion.", f"aws secretsmanager restore-secret --secret-id {self.id}")
        return state


class StageSecretVersion(SecretChange, frozen=True, kw_only=True):
    """Version `version` has the new value, with other JSON keys kept, and isn't current yet.

    `fingerprint` is that of a given value; None for a generated one. The version's id is its idempotency token.
    """

    outcome_known_by: ClassVar[Any] = "state"
    volatile_fields: ClassVar[frozenset[str]] = frozenset({"version", "before"})
    permissions: ClassVar[Permissions] = needs(
        check="secretsmanager:DescribeSecret secretsmanager:GetSecretValue secretsmanager:ListSecretVersionIds",
        apply="secretsmanager:GetSecretValue secretsmanager:PutSecretValue",
    )

    key: str | None
    version: str
    before: str | None
    source: str
    fingerprint: str | None = None
    recipe: str = "hex:32"

    @property
    def target(self) -> str:
        """`secret/NAME/OPSCTL`."""
        return f"secret/{self.name}/{STAGED}"

    @property
    def proven_by_history(self) -> bool:
        """Whether the value is generated, so that it can't be compared with the current one."""
        return self.fingerprint is None

    @property
    def summary(self) -> str:
        """Where the value comes from; never the value."""
        given = f" ({self.fingerprint})" if self.fingerprint else ""
        return f"stage a new version of {self.name}, value from {self.source}{given}"

    def difference(self) -> tuple[Any, Any]:
        """Version ids."""
        return None, self.version

    def check(self, read: Systems) -> Finding:
        """Reads the version, then the value, then whether another rotation is in progress."""
        state = self._state(read)
        if self.version in state.versions:
            return Done(f"version {self.version} exists", state.versions[self.version].created)
        if self.fingerprint and state.current and fingerprints.same(fingerprint(read, self, self.key), self.fingerprint):
            return Done("the current value is already the given one", state.versions[state.current].created)
        self._alone(read, state)
        if state.rotating:
            region = self.region or read.environment.aws.region
            off = f"--version-stage {PENDING} --remove-from-version-id {state.rotating}"
            raise Refused(
                f"{self.name} has a version in AWSPENDING ({state.rotating}): Secrets Manager is rotating it.",
                f"Wait for its end, or remove the label: aws secretsmanager update-secret-version-stage --secret-id {shlex.quote(self.id)}"
                f" --region {region} {off}",
            )
        if state.rotation_enabled:
            raise Refused(f"Secrets Manager rotates {self.name} by itself.", 'Set kind = "managed" for this secret in the configuration.')
        if state.current != self.before:
            return Drifted(f"the current version is {state.current}; it was {self.before} in the plan")
        return Pending(1, "versions")

    def _alone(self, read: Systems, state: SecretState) -> None:
        """Raises LockHeld while another run is between staging a version and making it current: its version would be left unused."""
        staged = state.staged(STAGED)
        driven = read.history.past_active(type(self), self.target) if staged not in (None, state.current) else ()
        if run := next((past.run for past in driven if past.change.version == staged), None):
            busy = f"Run {run} is rotating {self.name}: it has staged version {staged}. This run staged nothing."
            raise LockHeld(busy, f"Show that run: opsctl runs show {run}")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """PutSecretValue under the pinned version id."""
        value = generate(self.recipe) if self.source == "generate" else write.values.read(self.source)
        if self.fingerprint and not fingerprints.same(write.fingerprint(value.raw()), self.fingerprint):
            raise Refused(
                f"The value from {self.source} isn't the one in the plan.",
                "Give the value that the plan was made with, or make a new plan.",
            )
        write.secrets.stage(self.id, self.version, self._merged(write, value), STAGED, self.region)
        return {"version": self.version}

    def _merged(self, write: Systems, value: Secret) -> Secret:
        if self.before is None and self.key is None:
            return value
        held = write.secrets.value(self.id, region=self.region)
        if not held.is_text:
            raise Refused(
                f"{self.name} contains a binary value; its readers would fail on a text value.",
                f"Create the new value, then: aws secretsmanager put-secret-value --secret-id {self.id} --secret-binary fileb://FILE",
            )
        return value if self.key is None else self._replaced(held, self.key, value)

    def _replaced(self, held: Secret, key: str, value: Secret) -> Secret:
        """The secret's text with one member replaced, so that numbers and everything else stay as they were written."""
        try:
            json_edit.members(held.reveal())
        except ValueError:
            # Without the cause: it may quote the value.
            raise Refused(
                f"The value of {self.name} is not a JSON object, so it has no key {key!r}.",
                "Remove `key` from its configuration, or make the value a JSON object.",
            ) from None
        try:
            return Secret(json_edit.set_member(held.reveal(), key, value.reveal()))
        except ValueError:
            raise Refused(
                f"The value of {self.name} has the key {key!r} twice; which one counts is unknown.", "Correct the value by hand."
            ) from None

    def inverse(self) -> MoveSecretStage:
        """Removes the label; a version without labels is unused."""
        return MoveSecretStage(name=self.name, id=self.id, region=self.region, stage=STAGED, before=self.version, after=None)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (HH, Rotate secrets), with the value from a file instead of the command line."""
        value, held, whole = File("value"), File("held"), File("whole")
        find = [run(GENERATE, self.recipe, output=value)] if self.source == "generate" else raw.value_of(self.source, self.name, value)
        merge: list[Statement] = [run("cat", stdin=value, output=whole)]
        if self.key is not None:
            get = self._aws(environment, "get-secret-value")
            text = run(get.program, *get.words, "--query", "SecretString", "--output", "json")
            merge = [piped(text, run(raw.MEMBER), output=held), run(raw.SET_MEMBER, held, self.key, value, output=whole)]
        put = self._aws(environment, "put-secret-value", ClientRequestToken=self.version, VersionStages=[STAGED])
        return [
            *find,
            *self._staged(environment, CURRENT, self.before),
            *merge,
            run(put.program, *put.words, "--secret-string", joined("file://", whole)),
        ]


class MoveSecretStage(SecretChange, frozen=True, kw_only=True):
    """The label `stage` is on version `after` (null: on none); it was on `before`.

    The functions in `cached_by` cache a value for `cache` seconds, which are waited, unless a later change restarts them (`refreshed`).
    On undo they restart first and read the value that is about to be replaced, so that the wait is needed then.
    """

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"before", "after"})
    permissions: ClassVar[Permissions] = needs(
        check="redis:sessions.count secretsmanager:DescribeSecret secretsmanager:GetSecretValue secretsmanager:ListSecretVersionIds",
        apply="ghcr hubspot:portal secretsmanager:GetSecretValue secretsmanager:UpdateSecretVersionStage",
    )
    poll: ClassVar[float] = 1
    target_template: ClassVar[str] = "secret/{name}/{stage}"

    stage: Stage
    before: str | None
    after: str | None
    key: str | None = None
    fingerprint: str | None = None
    generated: bool = False
    proof: str = "none"
    signs: str = ""
    cached_by: tuple[str, ...] = ()
    cache: float = 0.0
    refreshed: bool = False
    compromised: bool = False

    @property
    def depends_on(self) -> frozenset[str]:
        """The staged version for AWSCURRENT; AWSCURRENT too for the labels of the former version."""
        before: dict[Stage, tuple[Stage, ...]] = {STAGED: (), CURRENT: (STAGED,)}
        return frozenset(f"secret/{self.name}/{stage}" for stage in before.get(self.stage, (STAGED, CURRENT)))

    @property
    def proven_by_history(self) -> bool:
        """Whether the value is generated, so that it can't be compared with the current one."""
        return self.generated

    @property
    def summary(self) -> str:
        """What happens to the label."""
        if self.after is None:
            return f"remove the label {self.stage} from version {(self.before or '')[:8]} of {self.name}"
        version = f"version {self.after[:8]} of {self.name}"
        return f"make {version} current" if self.stage == CURRENT else f"move the label {self.stage} to {version}"

    def difference(self) -> tuple[Any, Any]:
        """Version ids."""
        return self.before, self.after

    def check(self, read: Systems) -> Finding:
        """Compares the label's version; done once every replica has it and no cache has the former value."""
        state = self._state(read)
        now = next((v.id for v in state.versions.values() if self.stage in v.stages), None)
        if now == self.after:
            if not state.versions:
                raise ExternalError(
                    f"Secrets Manager lists no version of {self.name}, but {self.stage} was on {self.before}.",
                    f"aws secretsmanager list-secret-version-ids --include-deprecated --secret-id {shlex.quote(self.id)}",
                )
            if behind := self._behind(state):
                return behind
            left = (state.changed + timedelta(seconds=self.cache) - read.now()).total_seconds()
            if self.cached_by and not self.refreshed and left > 0:
                return InProgress(f"{', '.join(self.cached_by)} may use the former value for {left:.0f} s more")
            return Done(self._done_reason(), state.versions[now].created if now else None)
        if self.stage == CURRENT and self.fingerprint and now and fingerprints.same(fingerprint(read, self, self.key), self.fingerprint):
            return Done("the current value is already the given one", state.versions[now].created)
        if now != self.before:
            return Drifted(f"{self.stage} is on {now or 'no version'}, not on {self.before} as in the plan")
        if self.stage == CURRENT and self.after in compromised_versions(read.history, self.name):
            raise Refused(
                f"Version {self.after} of {self.name} was replaced because it is compromised; opsctl doesn't make it current again.",
                f"Rotate it again: opsctl secrets rotate {self.name} --value-from SOURCE",
            )
        return self._impact(read) if self.stage == CURRENT else Pending(1, "labels")

    def _behind(self, state: SecretState) -> InProgress | Failed | None:
        """A finding for the secret's replicas while one is not up to date, or failed; None when all are."""
        waited = [REPLICA.waited(f"its replica in {region}", status, "replicas") for region, status in state.replicas]
        failed = next((each for each in waited if isinstance(each, Failed)), None)
        return failed or next((each for each in waited if each), None)

    def _done_reason(self) -> str:
        return f"{self.stage} is on {self.after}" if self.after else f"no version is {self.stage}"

    def _impact(self, read: Systems) -> Pending:
        """What the rotation of a signing key ends: all valid tokens, as counted in the cache."""
        settings = read.config.sessions
        if not self.signs or settings is None or read.config.redis is None:
            return Pending(1, "secrets")
        try:
            found = read.redis.count(settings.redis_patterns, settings.keep, None, 0)
        except ExternalError as cause:
            return Pending(1, self.signs, f"the number of valid {self.signs} is unknown: {cause.what}")
        if found.keys and not found.met:
            # As after a logout of all users. The unit stays the same, so that the approved impact still covers this.
            return Pending(
                1, self.signs, f"the number of valid {self.signs} is unknown: none of {found.keys:,} keys in Redis matches redis-patterns"
            )
        return Pending(
            found.live, self.signs, f"all {self.signs} signed with the old key become invalid when the services that use the key restart"
        )

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Verifies the staged value, then UpdateSecretVersionStage, which is conditional."""
        if self.proof != "none" and self.after:
            value = write.secrets.value(self.id, key=self.key, version=self.after, region=self.region)
            prove(write, self.name, value, self.after, self.proof)
        write.secrets.move(self.id, self.stage, self.after, self.before, self.region)
        return {"version": self.after}

    def inverse(self) -> MoveSecretStage | Irreversible:
        """Moves it back, unless the old value is compromised."""
        if self.compromised:
            return Irreversible("the old value is compromised")
        return MoveSecretStage(
            name=self.name,
            id=self.id,
            region=self.region,
            stage=self.stage,
            before=self.after,
            after=self.before,
            key=self.key,
            signs=self.signs,
            cached_by=self.cached_by,
            cache=self.cache,
        )

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Secrets Manager command, after the verification of the value; then waits until caches have expired."""
        moves = {"MoveToVersionId": self.after, "RemoveFromVersionId": self.before}
        given = {name: version for name, version in moves.items() if version}
        waits = self.stage == CURRENT and self.cached_by and not self.refreshed and self.cache
        unproven = UnprovenVersion(self.name, self.id, self.after, self.region, self.key, self.proof)
        return [
            *(prove_by_shell(environment, unproven) if self.after else []),
            *self._staged(environment, self.stage, self.before),
            self._aws(environment, "update-secret-version-stage", VersionStage=self.stage, **given),
            *([run("sleep", str(math.ceil(self.cache)))] if waits else []),
        ]


def fingerprint(read: Systems, secret: SecretChange | SecretSettings, key: str | None, version: str | None = None) -> str:
    """The keyed fingerprint of a secret's value: the current one, or that of `version`."""
    return read.fingerprint(read.secrets.value(secret.id, key=key, version=version, region=secret.region).raw())


def last_rotation(history: RunHistory, secret: str) -> tuple[str, str] | None:
    """The versions before and after our last verified rotation of a secret; None if the ledger has none."""
    for past in history.past(MoveSecretStage, f"secret/{secret}/{CURRENT}"):
        if past.state == "applied" and past.command.startswith("secrets rotate "):
            return str(past.change.before), str(past.change.after)
    return None


def compromised_versions(history: RunHistory, secret: str) -> set[str]:
    """The versions of a secret that our rotations replaced, or may have replaced, because they are compromised.

    A step that found its work already done replaced nothing.
    """
    moves = [past.change for past in history.past_below(MoveSecretStage, f"secret/{secret}") if past.may_have_effect]
    return {str(move.before) for move in moves if move.compromised and move.before != move.after}
