"""The engine over a world in memory: values that changes set, faults by target, and a real ledger in a temporary folder."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from opsctl.adapters.host.prompt import Person
from opsctl.adapters.host.secret_sources import Values
from opsctl.changes import decode
from opsctl.config import Environment
from opsctl.contract import Change, Done, Evidence, Finding, Never, Pending, Telling
from opsctl.engine.engine import Engine
from opsctl.engine.history import LedgerMemory
from opsctl.engine.ledger.rows import Run, Step
from opsctl.engine.ledger.sqlite import Ledger
from opsctl.engine.options import Options
from opsctl.engine.outcome import Outcome
from opsctl.engine.plan import Plan
from opsctl.engine.reporter import Silent
from opsctl.protocols import ProgressCallback
from opsctl.settings import Duration, Limits, Settings
from opsctl.systems import Systems

START = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Outside:
    """The world: what each target is, and what calls do there.

    `on(call, target, *acts)` scripts the next calls (`check`, `apply`, `after` the effect) of a target: an exception is raised, a function
    is called with this world, None does nothing. `calls` lists every check and effect in order.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.calls: list[str] = []
        self._acts: dict[tuple[str, str], list[Any]] = {}
        self._mutex = threading.Lock()

    def on(self, call: str, target: str, *acts: Any) -> None:
        self._acts.setdefault((call, target), []).extend(acts)

    def meet(self, call: str, target: str) -> Any:
        """Take the next act that was scripted for a call; what a function returns is the call's answer."""
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


class World(Systems):
    """A set of systems that is nothing but the outside world in memory."""

    outside: Outside


class Setting(Change, frozen=True, kw_only=True):
    """The value of `name` is `after`."""

    poll: ClassVar[float] = 0

    name: str
    before: Any = None
    after: Any = 1
    rests: tuple[str, ...] = ()
    count: int = 1

    @property
    def target(self) -> str:
        return self.name

    @property
    def uses(self) -> frozenset[str]:
        return frozenset(self.rests)

    @property
    def summary(self) -> str:
        return f"set {self.name} to {self.after}"

    def check(self, read: World) -> Finding:  # type: ignore[override]
        found = read.outside.meet("check", self.name)
        if found is not None:
            return found  # type: ignore[no-any-return]
        now = read.outside.values.get(self.name)
        return Done(f"it is {now}") if now == self.after else Pending(self.count, "values")

    def apply(self, write: World, token: str, progress: ProgressCallback) -> Evidence:  # type: ignore[override]
        write.outside.meet("apply", self.name)
        write.outside.values[self.name] = self.after
        write.outside.meet("after", self.name)
        return {"value": self.after}

    def inverse(self) -> Change | Never:
        return type(self)(name=self.name, before=self.after, after=self.before)


class Set(Setting, frozen=True, kw_only=True):
    """What comes after it rests on it."""


class SetAlone(Setting, frozen=True, kw_only=True):
    """One of several stores: what comes after it doesn't rest on it."""

    independent: ClassVar[bool] = True


class SetWide(Setting, frozen=True, kw_only=True):
    """Made side by side with its neighbours."""

    width: ClassVar[int] = 3


class SetAloneWide(Setting, frozen=True, kw_only=True):
    """Stores that are changed side by side."""

    independent: ClassVar[bool] = True
    width: ClassVar[int] = 3


class Say(Setting, frozen=True, kw_only=True):
    """Words that nobody can look up afterwards."""

    telling: ClassVar[Telling] = "blind"

    @property
    def remembered(self) -> bool:
        return True

    def check(self, read: World) -> Finding:  # type: ignore[override]
        return read.outside.meet("check", self.name) or Pending(self.count, "messages")

    def inverse(self) -> Never:
        return Never("it was said")


class Rig:
    """An engine over one world and one ledger; another one of the same folder is another process."""

    def __init__(self, folder: Path, outside: Outside | None = None, lock_wait: float = 0) -> None:
        self.outside = outside or Outside()
        self.now = START
        self.ledger = Ledger(folder / "ledger.db", decode, lambda: self.now)
        limits = Limits(lock_wait=Duration(seconds=lock_wait))
        environment = Environment("test", folder, "c0ffee", Settings(title="test", protected=False, limits=limits))
        memory = LedgerMemory(lambda: self.ledger, environment)
        read, write = (self._systems(environment, memory, writing) for writing in (False, True))
        self.engine = Engine(environment, self.ledger, read, write, Silent(), "me", tempo=0)

    def _systems(self, environment: Environment, memory: LedgerMemory, writing: bool) -> World:
        found = World(
            environment, writing=writing, person=Person(), values=Values(), history=memory, fingerprint=repr, now=lambda: self.now
        )
        found.outside = self.outside
        return found

    def run(self, *changes: Change, command: str = "test", again: bool = False, **options: Any) -> Outcome:
        """Plan and perform some changes as one command."""
        return self.engine.perform(self.plan(*changes, command=command, again=again), Options(yes=True, again=again, **options))

    def plan(self, *changes: Change, command: str = "test", again: bool = False) -> Plan:
        return self.engine.plan(command, lambda planning: changes, Options(again=again))

    def resume(self, outcome: Outcome, **options: Any) -> Outcome:
        assert outcome.run is not None
        return self.engine.resume(self.ledger.run(outcome.run), Options(yes=True, **options))

    def undo(self, outcome: Outcome) -> Outcome:
        assert outcome.run is not None
        plan, _ = self.engine.undo_plan(self.ledger.run(outcome.run))
        return self.engine.perform(plan, Options(yes=True))

    def steps(self, outcome: Outcome) -> list[Step]:
        assert outcome.run is not None
        return self.ledger.steps(outcome.run)

    def states(self, outcome: Outcome) -> list[str]:
        return [step.state for step in self.steps(outcome)]

    def newest(self) -> Run:
        return self.ledger.runs(limit=1)[0]
