"""A plan: what a command would change, found out over systems that can only read, and kept so that it is exactly what runs."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

import opsctl
from opsctl import files
from opsctl.contract import Change, Done, Failed, Finding, Moved, Never, Pending, Planning, Settling, Skipped
from opsctl.engine.ledger.rows import State, Step, encode
from opsctl.errors import CheckFailed, ConfigurationError, OpsctlError, PlanStale, ReadOnly, Refused, SystemFailed, WrongPlace
from opsctl.redaction import kept

if TYPE_CHECKING:
    from opsctl.engine.history import Remembered
    from opsctl.systems import Systems

LIFETIME = timedelta(hours=24)
KINDS_AT_ONCE = 8


class Planned(Struct, kw_only=True):
    """One change of a plan and what was found; `after` is the earlier change that it rests on, which has yet to be made.

    `unguarded` is what a guard couldn't look at, and `next` how to go on.
    """

    seq: int
    change: Change
    state: State
    why: str = ""
    at: datetime | None = None
    count: int = 0
    unit: str = ""
    after: int | None = None
    unguarded: str = ""
    next: str = ""

    @property
    def pending(self) -> bool:
        """Whether applying the plan would make this change."""
        return self.state == "pending"

    @property
    def reversible(self) -> bool:
        """Whether `runs undo` could put the value back."""
        return not isinstance(self.change.inverse(), Never)

    @property
    def undo(self) -> str:
        """How it is taken back, in a line; or why it is not."""
        back = self.change.inverse()
        return f"no way back: {back.why}" if isinstance(back, Never) else back.summary

    def shown(self, evidence: dict[str, Any] | None = None) -> dict[str, Any]:
        """As JSON output shows it."""
        before, after = self.change.difference()
        return {
            "seq": self.seq,
            "kind": self.change.__struct_config__.tag,
            "target": self.change.target,
            "summary": self.change.summary,
            "state": self.state,
            "why": self.why,
            "before": before,
            "after": after,
            "impact": {"count": self.count, "unit": self.unit},
            "reversible": self.reversible,
            "undo": self.undo,
            "evidence": evidence or {},
        }

    def step(self) -> Step:
        """As the ledger holds it before anything was done."""
        state: State = self.state if self.state != "moved" else "pending"
        return Step(seq=self.seq, change=self.change, state=state, why=self.why, at=self.at, count=self.count, unit=self.unit)


class Plan(Struct, kw_only=True):
    """Changes in order, and everything that must still hold when they are applied.

    `position` is how far the ledger's log had come when it was planned, where memory may say that a change is done.
    """

    command: str
    environment: str
    file: str = ""
    account: str
    caller: str
    config_digest: str
    version: str = opsctl.__version__
    created: datetime
    expires: datetime
    follows: datetime | None = None
    position: int | None = None
    changes: list[Planned]
    digest: str = ""

    @property
    def pending(self) -> list[Planned]:
        """The changes that applying would make."""
        return [p for p in self.changes if p.pending]

    @property
    def impact(self) -> dict[str, int]:
        """How many of each unit the pending changes affect.

        The same change planned twice, as of two steps of which one is bound to the other's outcome, counts once: it meets the same things.
        """
        total: dict[str, int] = {}
        counted: dict[tuple[Any, ...], list[Planned]] = {}
        for planned in self.pending:
            alike = counted.setdefault((type(planned.change), planned.change.target, planned.unit), [])
            before = max((each.count for each in alike if each.change.identity == planned.change.identity), default=0)
            alike.append(planned)
            total[planned.unit] = total.get(planned.unit, 0) + max(planned.count - before, 0)
        return total


def make(command: str, changes: Iterable[Change], planning: Planning, remembered: Remembered | None = None) -> Plan:
    """Check every change and say what would happen. `remembered` is our own recent run of the same command, if there is one.

    Raises Moved when the world is neither as the command expects nor as it should be.
    """
    read, now = planning.systems, planning.now
    caller = read.caller
    return Plan(
        command=command,
        environment=read.environment.name,
        file=str(read.environment.path),
        account=caller.account,
        caller=caller.arn,
        config_digest=read.environment.digest,
        created=now,
        expires=now + LIFETIME,
        follows=planning.follows,
        changes=_recalled(list(_look(changes, read)), remembered),
    )


def _look(changes: Iterable[Change], read: Systems) -> Iterator[Planned]:
    ahead: dict[str, int] = {}
    checked = list(_checked(changes, read))
    errors = [found for _, found in checked if isinstance(found, OpsctlError)]
    if errors and len(errors) == len(checked):
        raise errors[0]
    for seq, (change, found) in enumerate(checked, 1):
        after = min((ahead[t] for t in change.uses if t in ahead), default=None)
        planned = _planned(seq, change, found)
        planned.why = kept(planned.why)
        if after is not None and not planned.pending:
            planned = Planned(seq=seq, change=change, state="pending")
        if planned.pending:
            planned.after = after
            for target in (change.target, *change.holds):
                ahead.setdefault(target, seq)
        yield planned


def _checked(changes: Iterable[Change], read: Systems) -> Iterator[tuple[Change, Finding | OpsctlError]]:
    """Check kinds side by side, and neighbours of one kind as far as it allows."""
    groups = [list(group) for _, group in groupby(changes, key=type)]
    if not groups:
        return
    with ThreadPoolExecutor(min(len(groups), KINDS_AT_ONCE), thread_name_prefix="check") as pool:
        for neighbours, found in zip(groups, pool.map(lambda group: _findings(group, read), groups), strict=True):
            yield from zip(neighbours, found, strict=True)


def _findings(neighbours: list[Change], read: Systems) -> list[Finding | OpsctlError]:
    if len(neighbours) == 1 or neighbours[0].width == 1:
        return [_find(change, read) for change in neighbours]
    with ThreadPoolExecutor(neighbours[0].width, thread_name_prefix="check") as pool:
        return list(pool.map(lambda change: _find(change, read), neighbours))


def _find(change: Change, read: Systems) -> Finding | OpsctlError:
    """Check a change; of an independent one an error is returned, so that it keeps no other change from being planned."""
    try:
        return change.check(read)
    except (SystemFailed, CheckFailed, Refused) as error:
        if not change.independent or error.bars or isinstance(error, WrongPlace | ReadOnly):
            raise
        return error


def _planned(seq: int, change: Change, found: Finding | OpsctlError) -> Planned:
    match found:
        case Pending(count, unit, note, unguarded, next):
            why = "; ".join(filter(None, (note, unguarded and f"refused: {unguarded.rstrip('.')}")))
            return Planned(seq=seq, change=change, state="pending", why=why, count=count, unit=unit, unguarded=unguarded, next=next)
        case Done(why, at):
            return Planned(seq=seq, change=change, state="done", why=why, at=at)
        case Settling(note):
            return Planned(seq=seq, change=change, state="pending", why=note)
        case Skipped(why):
            return Planned(seq=seq, change=change, state="skipped", why=why)
        case Failed(why, count, unit):
            return Planned(seq=seq, change=change, state="pending", why=f"tried before: {why}", count=count, unit=unit)
        case Moved(why):
            return Planned(seq=seq, change=change, state="moved", why=why)
        case OpsctlError():
            return Planned(seq=seq, change=change, state="pending", why=f"can't be looked at: {found.what}")


def _recalled(planned: list[Planned], remembered: Remembered | None) -> list[Planned]:
    """Let our own memory speak for what no state can tell, unless something else is to be changed too.

    It says what was done then: the same change as pinned now, with another version or cutoff, was never made.
    """
    if remembered is None:
        return planned
    same = {p.seq: remembered.same(p.change) if p.change.remembered else None for p in planned if p.pending}
    why, at = remembered.why, remembered.run.closed
    then = {seq: Planned(seq=seq, change=made, state="done", why=why, at=at) for seq, made in same.items() if made}
    return [then.get(p.seq, p) for p in planned] if len(then) == len(same) else planned


def digest(plan: Plan) -> str:
    """What names this plan's content: any edit of a saved plan shows."""
    bare = msgspec.structs.replace(plan, digest="")
    return hashlib.sha256(encode(bare)).hexdigest()


def save(plan: Plan, path: Path, *, force: bool = False) -> None:
    """Keep a plan for `opsctl apply` in a new file, mode 0600, or with `force` in the place of an older plan.

    Values of secrets are asked for again when it is applied.
    """
    plan.digest = digest(plan)
    try:
        files.write(path, encode(plan), replaces=_is_plan if force else None)
    except OSError as cause:
        force_it = ", or replace an older plan with --force" if cause.errno == errno.EEXIST and not force else ""
        raise ConfigurationError(f"The plan can't be kept in {path}: {cause.strerror}.", f"Choose another file{force_it}.") from cause


class _Heading(Struct):
    """What tells a saved plan from any other JSON."""

    command: str
    environment: str
    config_digest: str
    digest: str


def _is_plan(content: bytes) -> bool:
    try:
        msgspec.json.decode(content, type=_Heading)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def load(path: Path, decode: Callable[[bytes], Change]) -> Plan:
    """Read a saved plan back; raises ConfigurationError for what is no plan, PlanStale for one that was edited."""
    try:
        raw: dict[str, Any] = msgspec.json.decode(files.read(path, files.LARGEST_LIST))
        changes = [_read_back(planned, decode) for planned in raw.pop("changes")]
        plan = msgspec.convert({**raw, "changes": []}, Plan)
        plan.changes = changes
    except OSError as cause:
        raise ConfigurationError(f"The plan {path} can't be read: {cause.strerror}.", "Check the path.") from cause
    except RecursionError as cause:
        raise ConfigurationError(f"{path} is no plan: it is nested too deeply.", "Make one: opsctl ... -n --save FILE") from cause
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as cause:
        raise ConfigurationError(f"{path} is no plan of this opsctl: {cause}.", "Make one: opsctl ... -n --save FILE") from cause
    if plan.digest != digest(plan):
        raise PlanStale(f"{path} was edited after it was made.", "Make it again: -n --save FILE")
    return plan


def _read_back(raw: dict[str, Any], decode: Callable[[bytes], Change]) -> Planned:
    change = decode(msgspec.json.encode(raw.pop("change")))
    at = datetime.fromisoformat(raw["at"]) if raw["at"] else None
    return Planned(**{**raw, "change": change, "at": at})


def fresh(plan: Plan, read: Systems) -> None:
    """Raise PlanStale unless environment, account, configuration, version and time are still the plan's."""
    again, now = f"Make it again: opsctl {plan.command} -n --save FILE", read.now()
    ahead = f"it was made at {plan.created:%Y-%m-%d %H:%M:%S} UTC, and by this machine's clock it is {now:%H:%M:%S} on {now:%Y-%m-%d}"
    reasons = {
        f"it was made for environment {plan.environment}": plan.environment != read.environment.name,
        f"it was made for account {plan.account}": plan.account != read.caller.account,
        "the configuration has changed since": plan.config_digest != read.environment.digest,
        f"it was made by opsctl {plan.version}": plan.version != opsctl.__version__,
        ahead: now < plan.created,
        f"it expired at {plan.expires:%Y-%m-%d %H:%M} UTC": now >= plan.expires,
    }
    for reason, stale in reasons.items():
        if stale:
            raise PlanStale(f"The plan is stale: {reason}.", again)
