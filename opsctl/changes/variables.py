"""Changes to a secret in a Lambda function's variable: ask a person first, then set the variable to a stored version's value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from opsctl import fingerprints
from opsctl.changes import raw
from opsctl.changes.functions import REVISION, FunctionChange, Stored, await_authorizer, fingerprint
from opsctl.contract import Done, Drifted, Evidence, Finding, Irreversible, OutcomeKnownBy, Pending
from opsctl.errors import DriftError, Refused, Retry
from opsctl.permissions import Permissions, needs
from opsctl.shell import File, Message, Program, Question, joined, piped, run

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

READY, NOT_READY = "ready", "not ready"

VARIABLES = Program(
    "with_variable",
    """
import json, sys
held, name, value = sys.argv[1:]
with open(held) as file:
    variables = json.load(file) or {}
with open(value, newline="") as file:
    variables[name] = file.read()
json.dump({"Variables": variables}, sys.stdout)
""",
)
"""Writes a function's environment: the variables of a file, one of them with the text of another file."""


class AskFirst(FunctionChange, frozen=True, kw_only=True):
    """Somebody has confirmed that people are ready before `variable` changes. Not asked if it already has the given value."""

    permissions: ClassVar[Permissions] = needs(check="lambda:GetFunctionConfiguration")
    outcome_known_by: ClassVar[OutcomeKnownBy] = "idempotency_key"
    volatile_fields: ClassVar[frozenset[str]] = frozenset({"before"})
    target_template: ClassVar[str] = "function/{name}/{variable}/question"
    proven_by_history: ClassVar[bool] = True
    summary_template: ClassVar[str] = "ask: {question}"
    irreversible: ClassVar[str] = "the question was answered"

    variable: str
    question: str
    before: str | None
    fingerprint: str | None = None

    def check(self, read: Systems) -> Finding:
        """Checks whether there is anything to ask about."""
        now = fingerprint(read, self.latest(read).variables.get(self.variable))
        if now and fingerprints.same(now, self.fingerprint):
            return Done(f"{self.variable} is already the given value, so there is nothing to ask")
        if not fingerprints.same(now, self.before):
            return Drifted(f"{self.variable} has changed since the plan (it was {self.before})")
        return Pending(0, "people", "asked before anything is changed")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Asks on the terminal. Raises InputRequired without one, Refused if the answer is no."""
        answer = write.person.choose(self.question, (READY, NOT_READY), Retry("Run it in a terminal, to answer"))
        if answer != READY:
            raise Refused("Not ready.", Retry("Run it again when it is ready"))
        return {"answer": answer, "assumed": write.person.assume}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The same question; any other answer ends the script."""
        return [Question(line=self.question, choices=(READY, NOT_READY), accepted=(READY,))]


class SetFunctionVariable(FunctionChange, frozen=True, kw_only=True):
    """The `variable` of $LATEST has the value of the stored version; all other variables stay.

    `before` and `fingerprint` identify the reviewed value and the given one; a generated value is identified by its version.
    """

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"before", "stored"})
    permissions: ClassVar[Permissions] = needs(
        check="lambda:GetFunctionConfiguration lease secretsmanager:GetSecretValue",
        apply="lambda:GetFunctionConfiguration lambda:UpdateFunctionConfiguration secretsmanager:GetSecretValue",
    )
    target_template: ClassVar[str] = "function/{name}/{variable}"
    needs_typed_confirmation: ClassVar[bool] = True

    alias: str | None = None
    secret: str
    variable: str
    stored: Stored
    before: str | None
    fingerprint: str | None = None
    generated: bool = False
    cache: float = 0.0
    note: str = ""
    afterwards: str = ""
    compromised: bool = False

    @property
    def depends_on(self) -> frozenset[str]:
        """The staged version."""
        return frozenset({f"secret/{self.secret}/OPSCTL"})

    @property
    def proven_by_history(self) -> bool:
        """Whether the value is generated: it can't be compared before it exists."""
        return self.generated

    @property
    def summary(self) -> str:
        """Where the value comes from; never the value."""
        return f"set {self.variable} of {self.name} to version {self.stored.version[:8]} of {self.stored.id}; keep its other variables"

    def difference(self) -> tuple[Any, Any]:
        """Version ids."""
        return self.stored.former, self.stored.version

    def check(self, read: Systems) -> Finding:
        """Compares the variable with the stored version, then waits for Lambda, and for the authorizer if there is no alias."""
        state = self.latest(read)
        now = fingerprint(read, state.variables.get(self.variable))
        wanted = self.fingerprint or fingerprint(read, self.stored.value(read, self.stored.version))
        if now is not None and fingerprints.same(now, wanted):
            if waiting := self.updated(state):
                return waiting
            so = f"{self.variable} is version {self.stored.version} of {self.stored.id}"
            found = Done(so, state.modified) if self.alias else await_authorizer(read, self, self.stored, self.cache, state.modified, so)
            return Done(f"{found.why}; next: {self.afterwards}", found.at) if self.afterwards and isinstance(found, Done) else found
        if not fingerprints.same(now, self._expected(read)):
            return Drifted(f"{self.variable} has changed since the plan (it was {self._expected(read)})")
        self.all_served(read, state, self.alias, apart_from=self.variable)
        return Pending(1, "functions", self.note)

    def _expected(self, read: Systems) -> str | None:
        return self.before or fingerprint(read, self.stored.value(read, self.stored.former))

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """UpdateFunctionConfiguration with every variable, at the revision at which this variable was as reviewed."""
        value = self.stored.value(write, self.stored.version)
        if value is None:
            raise Refused(f"{self.stored.id} has no version {self.stored.version}.", "Make a new plan: run the command again.")
        state = self.latest(write)
        if not fingerprints.same(fingerprint(write, state.variables.get(self.variable)), self._expected(write)):
            raise DriftError(f"{self.target} was changed by somebody else at this moment.", "Make a new plan: run the command again.")
        write.functions.set_variable(self.function, self.variable, value, state.revision, self.region)
        return {"version": self.stored.version}

    def inverse(self) -> SetFunctionVariable | Irreversible:
        """Restores the former version's value, unless it is compromised or wasn't stored."""
        if self.compromised:
            return Irreversible("the old value is compromised")
        if self.stored.former is None:
            return Irreversible(f"the former value isn't stored in {self.stored.id}, so it can't be restored")
        return SetFunctionVariable(
            name=self.name,
            function=self.function,
            region=self.region,
            alias=self.alias,
            secret=self.secret,
            variable=self.variable,
            stored=self.stored.back(self.stored.former),
            before=self.fingerprint,
            fingerprint=self.before,
            cache=self.cache,
            note=self.note,
            afterwards=self.afterwards,
        )

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (HH, Rotate EDGE_SHARED_SECRET), corrected: the original deletes every other variable."""
        value, held, whole, stored = File("value"), File("variables"), File("environment"), self.stored
        where = {"SecretId": stored.id, "VersionId": stored.version}
        get = raw.aws(environment, "secretsmanager", "get-secret-value", region=stored.region, **where)
        text = run(get.program, *get.words, "--query", "SecretString", "--output", "json")
        look = self.aws(environment, "get-function-configuration")
        update = self.aws(environment, "update-function-configuration", REVISION)
        return [
            piped(text, run(raw.MEMBER, *filter(None, [stored.key])), output=value),
            self.revision(environment),
            run(look.program, *look.words, "--query", "Environment.Variables", output=held),
            run(VARIABLES, held, self.variable, value, output=whole),
            run(update.program, *update.words, "--environment", joined("file://", whole)),
            self.wait(environment),
            *([run("sleep", str(math.ceil(self.cache)))] if self.cache and not self.alias else []),
            *([Message(line=f"Now: {self.afterwards}")] if self.afterwards else []),
        ]
