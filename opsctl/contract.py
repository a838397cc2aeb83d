"""The contract between changes and the engine: the class Change, and the six findings of its check.

A change is one effecting call (or one effect made in batches). `check` alone makes the engine idempotent, and lets it notice a stale plan,
wait, verify and resume.
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
    """The target is in the wanted state; `at` is since when, by the system's own clock, if known."""

    why: str
    at: datetime | None = None


class Pending(Struct, frozen=True):
    """The target is as reviewed and the change can be applied. It affects `count` of `unit`.

    `unguarded` names a required safety check that could not be made; the plan is then shown and refused. `next` says how to make the check
    possible, or how to continue without it.
    """

    count: int
    unit: str
    note: str = ""
    unguarded: str = ""
    next: str = ""


class InProgress(Struct, frozen=True):
    """The change was applied and has not completed: wait, never apply it again."""

    note: str


class Drifted(Struct, frozen=True):
    """The target is neither as reviewed nor as wanted: somebody else changed it."""

    why: str


class Failed(Struct, frozen=True):
    """The change was applied and then failed or was rolled back. A new plan may try again, affecting `count` of `unit`."""

    why: str
    count: int = 0
    unit: str = ""


class Skipped(Struct, frozen=True):
    """The change can't be applied here. The other changes continue; this one never counts as done."""

    why: str


class Irreversible(Struct, frozen=True):
    """The change can't be undone; `why` is shown before approval."""

    why: str


class Planning(Struct, frozen=True):
    """The argument of a changing command: the read-only systems, and how the command was called.

    `now` is when planning began. `follows` is when the playbook step that it follows ended. `again` asks to repeat what is already done.
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
    """The attributes of a change by name, for `str.format_map`."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def __getitem__(self, name: str) -> Any:
        return getattr(self._change, name)


class Change(Struct, frozen=True, kw_only=True, tag_field="kind", tag=kebab):
    """A wanted state of one target, and how to reach it.

    Fields are set when the plan is made; none comes from evidence. Class variables tell the engine how to treat the kind:

    - `target_template`, `summary_template`: the target and the summary, with the change's attributes in braces (`service/{name}`). A kind
      whose target or summary needs more than a template overrides the property.
    - `irreversible`: why no change of this kind can be undone.
    - `outcome_known_by`: how the engine finds out whether a begun change happened: `state` (by its check), `idempotency_key` (the call
      carries a token bound to run and step, so that repeating it has no second effect) or `nothing` (no system knows; never sent twice).
    - `converging`: the change is applied in passes until nothing is left; each pass takes what the one before missed. The evidence of a
      pass counts what it changed; repeated passes that change nothing fail.
    - `volatile_fields`: fields that every planning sets anew; they are not part of the change's identity.
    - `max_parallel`: how many consecutive changes of this kind may run in parallel.
    - `independent`: whether later steps continue when a step of this kind fails, except those that depend on its target. The run then
      ends partly done.
    - `read_lag`, `poll`, `timeout`: seconds in which a read may not show the write, between two checks, and until waiting ends.
    - `under_way`: seconds for which a call may still take effect after it was sent, where no answer came: at least its client's own
      time-out. Zero where a call that arrives late changes nothing more than the one that is sent again.
    - `permissions`: what `check` and `apply` need in the outside systems.
    - `kind_version`: increased whenever the stored fields of the kind change. `upcasters[N]` turns the stored fields of version N into
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
        """The path of what it changes (`service/api`): shown, locked, and typed to confirm."""
        return self._filled(self.target_template)

    @property
    def extra_locks(self) -> frozenset[str]:
        """The targets that are locked in addition to `target` while the change is applied."""
        return frozenset()

    @property
    def depends_on(self) -> frozenset[str]:
        """The targets of earlier changes that this one depends on."""
        return frozenset()

    @property
    def identity(self) -> tuple[Any, ...]:
        """The kind, the target and all fields except the volatile ones: equal for the same change in different plans."""
        return (type(self), self.target, *(getattr(self, name) for name in self.__struct_fields__ if name not in self.volatile_fields))

    @property
    def proven_by_history(self) -> bool:
        """Whether the run history decides that the change is done, because no state can be checked."""
        return False

    @property
    def needs_typed_confirmation(self) -> bool:
        """Whether its target must be typed in a protected environment even if the change is small and reversible."""
        return False

    @property
    def summary(self) -> str:
        """What it does, in one line that begins with a verb."""
        return self._filled(self.summary_template)

    def _filled(self, template: str) -> str:
        if not template:
            raise NotImplementedError
        return template.format_map(_Attributes(self))

    def difference(self) -> tuple[Any, Any]:
        """The values before and after, for display."""
        return None, None

    def check(self, read: Systems) -> Finding:
        """Return the state of the target. Only reads."""
        raise NotImplementedError

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Apply the change by one effecting call. Returns the system's answer, without secrets and personal data.

        A change made in batches calls `progress` after each batch.
        """
        raise NotImplementedError

    def inverse(self) -> Change | Irreversible:
        """Return the change that undoes this one, or why it can't be undone."""
        if not self.irreversible:
            raise NotImplementedError
        return Irreversible(self.irreversible)

    def restricted_to(self, parts: Sequence[str]) -> Change:
        """The part of this change that failed attempts have applied, as named by `parts`. By default the whole change."""
        return self

    def as_shell(self, environment: Environment) -> list[Statement]:
        """Return the statements of a script that does the same without opsctl, for when opsctl itself is broken.

        They contain no secret. For what a script can't do, the statement is `shell.Stop`, so that no change is half applied.
        """
        raise NotImplementedError


def kinds(base: type[Change] = Change) -> Iterator[type[Change]]:
    """Every concrete kind of change that has been imported."""
    for kind in base.__subclasses__():
        yield from kinds(kind)
        if not kind.__subclasses__():
            yield kind
