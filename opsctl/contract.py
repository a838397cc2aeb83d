"""The contract between changes and the engine: what a change knows, and the six things its check can find.

A change is one effecting call (or one effect made in batches). The engine needs nothing else than `check` to be idempotent,
to notice a stale plan, to watch, to verify and to resume.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from msgspec import Struct

from opsctl.permissions import Permissions

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

Evidence = dict[str, Any]


class Done(Struct, frozen=True):
    """It is already so; `at` is since when, on the system's own clock, where the system tells."""

    why: str
    at: datetime | None = None


class Pending(Struct, frozen=True):
    """The world is as reviewed and the change may be made; it affects `count` of `unit`.

    `unguarded` says what a guard couldn't look at, where the change isn't made without that; `next` how to have it look, or go on all the
    same. The plan is shown, and refused.
    """

    count: int
    unit: str
    note: str = ""
    unguarded: str = ""
    next: str = ""


class InProgress(Struct, frozen=True):
    """The change was made and the world is on its way: watch, never make it again."""

    note: str


class Drifted(Struct, frozen=True):
    """The world is neither as reviewed nor as wanted: someone else changed it."""

    why: str


class Failed(Struct, frozen=True):
    """The change was made and the world took it back or broke over it; a plan may try again, affecting `count` of `unit`."""

    why: str
    count: int = 0
    unit: str = ""


class Skipped(Struct, frozen=True):
    """It can't be made here and the rest goes on without it: said plainly, never counted as done."""

    why: str


class Irreversible(Struct, frozen=True):
    """There is no way back, and why; shown before approval."""

    why: str


class Planning(Struct, frozen=True):
    """What a changing command is handed: the systems that it may read, and how it was asked.

    `follows` is when the step that it follows ended; `again` asks to repeat what is done; `now` is when planning began.
    """

    systems: Systems
    now: datetime
    follows: datetime | None = None
    again: bool = False


Finding = Done | Pending | InProgress | Drifted | Failed | Skipped

OutcomeKnownBy = Literal["state", "idempotency_key", "nothing"]


def kebab(name: str) -> str:
    """`SetDesiredCount` -> `set-desired-count`: how a kind of change is written in plans, JSON and the ledger."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


class _Attributes:
    """The attributes of a change by name, as a template asks for them."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def __getitem__(self, name: str) -> Any:
        return getattr(self._change, name)


class Change(Struct, frozen=True, kw_only=True, tag_field="kind", tag=kebab):
    """One thing that should be true, and how to make it so.

    Fields are pinned when the plan is made; none comes from evidence. Class variables tell the engine how to treat the kind:

    - `target_template`, `summary_template`: the target and the summary, with the change's attributes in braces (`service/{name}`). A kind
      whose target or summary is no plain template overrides the property.
    - `irreversible`: why no change of this kind can be undone.
    - `outcome_known_by`: what tells whether a begun change happened: `state` (check says), `idempotency_key` (the call carries a token
      bound to run and step, so that sending it again has no second effect) or `nothing` (nobody can tell: never sent twice).
    - `converging`: the change is made in passes until nothing is left, each taking what slipped through the one before. The evidence of
      a pass counts what it made; passes that count nothing fail.
    - `volatile_fields`: the fields that every planning sets anew, so that they are no part of what the change is.
    - `max_parallel`: how many neighbours of this kind may run side by side.
    - `independent`: whether the later steps go on when a step of this kind fails, except those that name its target. The run then ends
      partly done.
    - `read_lag`, `poll`, `timeout`: seconds in which a read may not show the write, between two checks, and until waiting ends.
    - `under_way`: seconds for which a call may still take effect after it was sent, where no answer came: at least its client's own
      time-out. Zero where a call that arrives late changes nothing more than the one that is sent again.
    - `permissions`: what `check` and `apply` need of the outside systems.
    - `kind_version`: counted up whenever the stored fields of the kind change. `upcasters[N]` turns the stored fields of version N into
      those of N + 1. `former_kinds`: the tags that the kind had in earlier releases.
    """

    target_template: ClassVar[str] = ""
    summary_template: ClassVar[str] = ""
    irreversible: ClassVar[str] = ""
    outcome_known_by: ClassVar[OutcomeKnownBy] = "state"
    converging: ClassVar[bool] = False
    volatile_fields: ClassVar[frozenset[str]] = frozenset()
    max_parallel: ClassVar[int] = 1
    independent: ClassVar[bool] = False
    read_lag: ClassVar[float] = 0
    under_way: ClassVar[float] = 60
    kind_version: ClassVar[int] = 1
    upcasters: ClassVar[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
    former_kinds: ClassVar[frozenset[str]] = frozenset()
    poll: ClassVar[float] = 2
    timeout: ClassVar[float] = 900
    permissions: ClassVar[Permissions] = Permissions()

    @property
    def target(self) -> str:
        """What it changes, as a path (`service/api`): shown, locked and typed to confirm."""
        return self._filled(self.target_template)

    @property
    def extra_locks(self) -> frozenset[str]:
        """What is locked beside the target while it is made: where the target names several, each of them."""
        return frozenset()

    @property
    def depends_on(self) -> frozenset[str]:
        """The targets that this one rests on."""
        return frozenset()

    @property
    def identity(self) -> tuple[Any, ...]:
        """What it is, whenever it is planned: its kind, its target, and its fields but those that are pinned anew."""
        return (type(self), self.target, *(getattr(self, name) for name in self.__struct_fields__ if name not in self.volatile_fields))

    @property
    def proven_by_history(self) -> bool:
        """Whether no state can tell that it is so already, so that the ledger's memory of the very same change within `recently` does."""
        return False

    @property
    def needs_typed_confirmation(self) -> bool:
        """Whether its target has to be typed in a protected environment, though it may be small and reversible."""
        return False

    @property
    def summary(self) -> str:
        """What it does, in a line that begins with a verb."""
        return self._filled(self.summary_template)

    def _filled(self, template: str) -> str:
        if not template:
            raise NotImplementedError
        return template.format_map(_Attributes(self))

    def difference(self) -> tuple[Any, Any]:
        """The value before and after, as far as they may be shown."""
        return None, None

    def check(self, read: Systems) -> Finding:
        """Find out where the world stands; reads only."""
        raise NotImplementedError

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Make it so, by one effecting call; return what the system answered, free of secrets and of personal data.

        A change made in batches calls `progress` after each.
        """
        raise NotImplementedError

    def inverse(self) -> Change | Irreversible:
        """Return the change that takes this one back, or why there is none."""
        if not self.irreversible:
            raise NotImplementedError
        return Irreversible(self.irreversible)

    def restricted_to(self, parts: Sequence[str]) -> Change:
        """What of this change was made where attempts that failed tell their `parts`; by default all that the world shows as ours."""
        return self

    def as_shell(self, environment: Environment) -> list[Statement]:
        """Return the statements of a script that ends in the same state, for the day when opsctl itself is broken.

        No secret is in them. What can't be done by a script ends it (`shell.Stop`), so that it never makes half a change.
        """
        raise NotImplementedError


def kinds(base: type[Change] = Change) -> Iterator[type[Change]]:
    """Every concrete kind of change that has been imported."""
    for kind in base.__subclasses__():
        yield from kinds(kind)
        if not kind.__subclasses__():
            yield kind
