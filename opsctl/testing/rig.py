"""The engine with systems in memory: values that changes set, calls that fail on request, and a real ledger in a temporary folder.

    rig = Rig(tmp_path)
    rig.world.on("apply", "a", ExternalError("It said no."))
    outcome = rig.run(Set(name="a"), Set(name="b"))
    assert rig.states(outcome) == ["failed", "pending"]
    assert rig.resume(outcome).result == "changed"

Other kinds of change run in the same way: their `check` and `apply` get `MemorySystems`, whose `world` they read and write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from opsctl import fingerprints
from opsctl.adapters.host.prompt import Prompt
from opsctl.adapters.host.secret_sources import SecretSources
from opsctl.changes import find_kind
from opsctl.config import Environment
from opsctl.contract import Change, Done, Evidence, Finding, Irreversible, OutcomeKnownBy, Pending, Planning
from opsctl.engine.engine import Engine
from opsctl.engine.history import LedgerHistory
from opsctl.engine.ledger.ledger import open_ledger
from opsctl.engine.ledger.rows import Run, Step
from opsctl.engine.options import Options
from opsctl.engine.outcome import Outcome
from opsctl.engine.plan import Plan
from opsctl.engine.reporter import Reporter
from opsctl.errors import Hint, InputRequired
from opsctl.protocols import ProgressCallback
from opsctl.settings import Duration, LimitSettings, Settings
from opsctl.systems import Systems

START = datetime(2024, 5, 1, 12, tzinfo=UTC)
"""The time of the rig's clock until a test sets it."""

Act = BaseException | Callable[["World"], Any] | None
"""What a scripted call does: raise the error, return the result of the function, or (None) nothing."""


class World:
    """The state of all targets, and the scripted effects of calls. `calls` lists every check and effect in order."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.calls: list[str] = []
        self._acts: dict[tuple[str, str], list[Act]] = {}
        self._mutex = threading.Lock()

    def on(self, call: str, target: str, *acts: Act) -> None:
        """Script the next calls of a target, one act each. A call is `check`, `apply`, or `after` (once the effect has happened)."""
        self._acts.setdefault((call, target), []).extend(acts)

    def meet(self, call: str, target: str) -> Any:
        """Perform the next act that was scripted for a call, and return its result."""
        with self._mutex:
            if call != "after":
                self.calls.append(f"{call} {target}")
            acts = self._acts.get((call, target), [])
            act = acts.pop(0) if acts else None
        if isinstance(act, BaseException):
            raise act
        return act(self) if callable(act) else act

    @property
    def applied(self) -> list[str]:
        """The targets of the effecting calls, in order."""
        return [call.removeprefix("apply ") for call in self.calls if call.startswith("apply ")]


class MemorySystems(Systems):
    """Systems that consist of the world in memory."""

    world: World


class Setting(Change, frozen=True, kw_only=True):
    """The value of `name` is `after`."""

    target_template: ClassVar[str] = "{name}"
    summary_template: ClassVar[str] = "set {name} to {after}"
    poll: ClassVar[float] = 0

    name: str
    before: Any = None
    after: Any = 1
    rests: tuple[str, ...] = ()
    count: int = 1

    @property
    def depends_on(self) -> frozenset[str]:
        """The targets in `rests`."""
        return frozenset(self.rests)

    def difference(self) -> tuple[Any, Any]:
        """The two values."""
        return self.before, self.after

    def check(self, read: MemorySystems) -> Finding:  # type: ignore[override]
        """Compare the value, unless the test has scripted a finding."""
        found: Finding | None = read.world.meet("check", self.name)
        if found is not None:
            return found
        now = read.world.values.get(self.name)
        return Done(f"it is {now}") if now == self.after else Pending(self.count, "values")

    def apply(self, write: MemorySystems, token: str, progress: ProgressCallback) -> Evidence:  # type: ignore[override]
        """Set the value."""
        write.world.meet("apply", self.name)
        write.world.values[self.name] = self.after
        write.world.meet("after", self.name)
        return {"value": self.after}

    def inverse(self) -> Change | Irreversible:
        """The former value."""
        return type(self)(name=self.name, before=self.after, after=self.before)


class Set(Setting, frozen=True, kw_only=True):
    """A setting on which later changes depend."""


class SetAlone(Setting, frozen=True, kw_only=True):
    """A setting on which later changes don't depend."""

    independent: ClassVar[bool] = True


class SetWide(Setting, frozen=True, kw_only=True):
    """A setting that is applied in parallel with its neighbours."""

    max_parallel: ClassVar[int] = 3


class SetAloneWide(Setting, frozen=True, kw_only=True):
    """An independent setting that is applied in parallel with its neighbours."""

    independent: ClassVar[bool] = True
    max_parallel: ClassVar[int] = 3


class Say(Setting, frozen=True, kw_only=True):
    """A message whose sending can't be checked afterwards."""

    outcome_known_by: ClassVar[OutcomeKnownBy] = "nothing"
    proven_by_history: ClassVar[bool] = True

    def check(self, read: MemorySystems) -> Finding:  # type: ignore[override]
        """Pending, unless the test has scripted a finding."""
        found: Finding | None = read.world.meet("check", self.name)
        return found or Pending(self.count, "messages")

    def inverse(self) -> Irreversible:
        """None."""
        return Irreversible("it was said")


class ScriptedPerson(Prompt):
    """A prompt that gives the next of `answers`, and raises InputRequired if there is none. `asked` lists the questions."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[str] = []
        self.asked: list[str] = []

    def text(self, question: str, otherwise: Hint, *, ahead: str = "") -> str:
        """The next answer."""
        self.asked.append(question)
        if not self.answers:
            raise InputRequired(f"{question}: nobody is here to answer.", otherwise)
        return self.answers.pop(0)


class Rig:
    """An engine with one world and one ledger. Another rig on the same folder acts as another process.

    The ledger's writes reach the disk only where `durable`; a test that kills no machine needs no more. `now` is the clock of both.
    """

    def __init__(
        self,
        folder: Path,
        world: World | None = None,
        *,
        lock_wait: float = 0,
        protected: bool = False,
        max_affected: int | None = None,
        large: int | None = None,
        reporter: Reporter | None = None,
        durable: bool = False,
    ) -> None:
        self.world = world or World()
        self.now = START
        self.ledger = open_ledger(folder / "ledger.db", find_kind, lambda: self.now, durable=durable)
        bounds: dict[str, Any] = {name: value for name, value in (("max_affected", max_affected), ("large", large)) if value is not None}
        limits = LimitSettings(lock_wait=Duration(seconds=lock_wait), **bounds)
        self.environment = Environment("test", folder, "c0ffee", Settings(title="test", protected=protected, limits=limits))
        self.person = ScriptedPerson()
        read, write = self._systems(writing=False), self._systems(writing=True)
        self.engine = Engine(self.environment, self.ledger, read, write, reporter or Reporter(), "me", tempo=0)

    def _systems(self, *, writing: bool) -> MemorySystems:
        made = MemorySystems(
            self.environment,
            writing=writing,
            person=self.person,
            values=SecretSources(),
            history=LedgerHistory(lambda: self.ledger, self.environment),
            fingerprint=lambda value: fingerprints.of(b"a key", value),
            now=lambda: self.now,
        )
        made.world = self.world
        return made

    def plan(self, *changes: Change, command: str = "test", again: bool = False, follows: datetime | None = None) -> Plan:
        """The plan of the changes, as one command."""

        def make(planning: Planning) -> tuple[Change, ...]:
            return changes

        return self.engine.plan(command, make, Options(again=again), follows)

    def run(self, *changes: Change, command: str = "test", again: bool = False, **options: Any) -> Outcome:
        """Plan the changes as one command, and apply them."""
        return self.engine.perform(self.plan(*changes, command=command, again=again), Options(yes=True, again=again, **options))

    def resume(self, outcome: Outcome, **options: Any) -> Outcome:
        """Resume an outcome's run."""
        return self.engine.resume(self._run(outcome), Options(yes=True, **options))

    def undo(self, outcome: Outcome) -> Outcome:
        """Undo an outcome's run, as far as possible."""
        plan, _ = self.engine.undo_plan(self._run(outcome))
        return self.engine.perform(plan, Options(yes=True))

    def steps(self, outcome: Outcome) -> list[Step]:
        """The steps of an outcome's run, from the ledger."""
        return self.ledger.steps(self._run(outcome).id)

    def states(self, outcome: Outcome) -> list[str]:
        """The states of an outcome's steps."""
        return [step.state for step in self.steps(outcome)]

    def newest(self) -> Run:
        """The newest run."""
        return self.ledger.runs(limit=1)[0]

    def _run(self, outcome: Outcome) -> Run:
        assert outcome.run is not None
        return self.ledger.run(outcome.run)
