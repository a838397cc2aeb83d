"""What the ledger holds, as rows; every moment is UTC."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from opsctl.contract import Change, Irreversible
from opsctl.redaction import escape_surrogates

State = Literal["pending", "begun", "made", "done", "applied", "moved", "failed", "unknown", "skipped"]
"""`begun`: intent is written, the effect may or may not have happened. `made`: accepted, not yet proven."""

LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"

ENDED = frozenset(("done", "applied", "skipped"))

Result = Literal["unchanged", "would-change", "changed", "partial", "refused", "failed", "unknown", "waiting"]


def run_id(opened: datetime) -> str:
    """A new run's id: when it was opened, and 40 random bits in letters that aren't taken for others."""
    return f"{opened:%y%m%d-%H%M%S}-{''.join(secrets.choice(LETTERS) for _ in range(8))}"


class Run(Struct, kw_only=True):
    """One command, playbook or undo, from its opening to its closing."""

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
    """One change of a plan or a run, and how far it came; `count` of `unit` is the impact that was approved.

    Only a plan has `after`, the earlier step that must be made first, and `unguarded`, what a guard couldn't look at, with the way on in
    `next`.
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
        """Whether the change is yet to be made."""
        return self.state == "pending"

    @property
    def reversible(self) -> bool:
        """Whether `runs undo` could put the value back."""
        return not isinstance(self.change.inverse(), Irreversible)

    @property
    def undo(self) -> str:
        """How the change is undone, in a line, or why it can't be."""
        back = self.change.inverse()
        return f"no way back: {back.why}" if isinstance(back, Irreversible) else back.summary

    @property
    def partial_effects(self) -> list[str]:
        """What attempts that didn't come to their end have made of it, each in words or by its id."""
        return list((self.evidence or {}).get("parts", ()))

    @property
    def is_partial(self) -> bool:
        """Whether a part of it was made, and not the whole."""
        return bool(self.partial_effects) and self.state not in ("applied", "done")

    @property
    def undo_change(self) -> Change | Irreversible:
        """The change that takes back what was made of it, or why there is none."""
        return (self.change.restricted_to(self.partial_effects) if self.is_partial else self.change).inverse()

    @property
    def may_have_effect(self) -> bool:
        """Whether it was made, made in part, or may have been; it stays ours when somebody else changes its target later."""
        later = self.begun is not None and self.state in ("moved", "skipped")
        return later or self.is_partial or self.state in ("applied", "made", "begun", "unknown")


class Event(Struct, kw_only=True):
    """One line of a run's history, chained to the one before by `hash`."""

    run: str
    number: int
    at: datetime
    what: str
    seq: int | None
    detail: dict[str, Any]
    hash: str = ""


class Lease(Struct, frozen=True):
    """A lock that is held; `fence` is drawn anew for every lock given, so that a holder who lost it can be told from the next."""

    target: str
    run: str
    fence: int


_encode = msgspec.json.Encoder(order="sorted").encode


def encode(value: Any) -> bytes:
    """`value` as JSON; half characters, which UTF-8 can't hold, are written out: what others answered never prevents a record."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(escape_surrogates(msgspec.to_builtins(value)))
