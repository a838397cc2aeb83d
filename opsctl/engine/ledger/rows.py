"""The rows of the ledger. All times are UTC."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from opsctl.contract import Change, Irreversible
from opsctl.redaction import escape_surrogates

State = Literal["pending", "begun", "made", "done", "applied", "moved", "failed", "unknown", "skipped"]
"""`begun`: the intent is recorded, the effect may or may not have happened. `made`: the call was accepted, not yet verified."""

LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"

ENDED = frozenset(("done", "applied", "skipped"))

Result = Literal["unchanged", "would-change", "changed", "partial", "refused", "failed", "unknown", "waiting"]


def run_id(opened: datetime) -> str:
    """A new run's id: the time and 40 random bits, in letters that are hard to confuse."""
    return f"{opened:%y%m%d-%H%M%S}-{''.join(secrets.choice(LETTERS) for _ in range(8))}"


class Run(Struct, kw_only=True):
    """One run of a command, a playbook or an undo."""

    id: str
    environment: str
    account: str
    caller: str
    operator: str
    command: str
    kind: Literal["command", "playbook", "undo"] = "command"
    parent: str | None = None
    item: int | None = None
    reason: str = ""
    incident: str = ""
    opened: datetime
    closed: datetime | None = None
    result: Result | None = None
    version: str
    config_digest: str
    details: dict[str, Any] = {}
    wish: Literal["pause", "cancel"] | None = None
    head: str = ""
    events: int = 0


class Step(Struct, kw_only=True):
    """One change of a plan or a run, and its state. `count` of `unit` is the approved impact.

    Only steps of a plan have `after` (the earlier step that must be applied first), and `unguarded` (what a safety check could not check)
    with its hint in `next`.
    """

    seq: int
    change: Change
    state: State = "pending"
    why: str = ""
    at: datetime | None = None
    count: int = 0
    unit: str = ""
    begun: datetime | None = None
    evidence: dict[str, Any] | None = None
    after: int | None = None
    unguarded: str = ""
    next: str = ""

    @property
    def pending(self) -> bool:
        """Whether the change has not been applied yet."""
        return self.state == "pending"

    @property
    def reversible(self) -> bool:
        """Whether the change can be undone."""
        return not isinstance(self.change.inverse(), Irreversible)

    @property
    def undo(self) -> str:
        """How the change is undone, in one line, or why it can't be."""
        inverse = self.change.inverse()
        return f"can't be undone: {inverse.why}" if isinstance(inverse, Irreversible) else inverse.summary

    @property
    def partial_effects(self) -> list[str]:
        """The effects of attempts that failed midway, each described or named by its id."""
        return list((self.evidence or {}).get("parts", ()))

    @property
    def is_partial(self) -> bool:
        """Whether only a part of the change was applied."""
        return bool(self.partial_effects) and self.state not in ("applied", "done")

    @property
    def undo_change(self) -> Change | Irreversible:
        """The change that undoes what was applied, or why there is none."""
        return (self.change.restricted_to(self.partial_effects) if self.is_partial else self.change).inverse()

    @property
    def may_have_effect(self) -> bool:
        """Whether the change was applied, wholly or in part, or may have been. Later changes by others don't matter."""
        later = self.begun is not None and self.state in ("moved", "skipped")
        return later or self.is_partial or self.state in ("applied", "made", "begun", "unknown")


class Event(Struct, kw_only=True):
    """One event of a run, chained to the one before by `hash`."""

    run: str
    number: int
    at: datetime
    what: str
    seq: int | None
    detail: dict[str, Any]
    hash: str = ""


class Lease(Struct, frozen=True):
    """A lock that this process holds. `fence` is a new random number for each lock, so a former holder can be recognised."""

    target: str
    run: str
    fence: int


_encode = msgspec.json.Encoder(order="sorted").encode


def encode(value: Any) -> bytes:
    """`value` as JSON. Lone surrogates, which UTF-8 can't encode, are escaped, so foreign text never prevents a record."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(escape_surrogates(msgspec.to_builtins(value)))
