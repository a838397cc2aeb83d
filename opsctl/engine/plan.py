"""Plans: what a command would change, found with read-only systems, and saved so that exactly the reviewed changes are applied."""

from __future__ import annotations

import errno
import hmac
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

import opsctl
from opsctl import files
from opsctl.contract import Change, Done, Drifted, Failed, Finding, InProgress, Pending, Planning, Skipped
from opsctl.engine.ledger.codec import Codec, UnreadableError, builtins
from opsctl.engine.ledger.keys import Keyring, RootKey
from opsctl.engine.ledger.rows import Step, encode
from opsctl.errors import CheckFailed, ConfigurationError, ExternalError, OpsctlError, PlanStale, ReadOnly, Refused, WrongPlace
from opsctl.redaction import redact_record

if TYPE_CHECKING:
    from opsctl.engine.history import CompletedRun
    from opsctl.systems import Systems

LIFETIME = timedelta(hours=24)
KINDS_AT_ONCE = 8


class Plan(Struct, kw_only=True):
    """Changes in order, and the conditions that must still be true when they are applied.

    `position` is the number of the log's last entry when the plan was made; None if the run history was not asked.
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
    changes: list[Step]
    digest: str = ""

    @property
    def pending(self) -> list[Step]:
        """The changes that would be applied."""
        return [p for p in self.changes if p.pending]

    @property
    def impact(self) -> dict[str, int]:
        """How many of each unit the pending changes affect.

        A change that is planned twice counts once, because it affects the same objects.
        """
        total: dict[str, int] = {}
        counted: dict[tuple[Any, ...], list[Step]] = {}
        for planned in self.pending:
            alike = counted.setdefault((type(planned.change), planned.change.target, planned.unit), [])
            before = max((each.count for each in alike if each.change.identity == planned.change.identity), default=0)
            alike.append(planned)
            total[planned.unit] = total.get(planned.unit, 0) + max(planned.count - before, 0)
        return total


def make(command: str, changes: Iterable[Change], planning: Planning) -> Plan:
    """The plan of the changes, each of them checked."""
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
        changes=list(_look(changes, read)),
    )


def _look(changes: Iterable[Change], read: Systems) -> Iterator[Step]:
    ahead: dict[str, int] = {}
    checked = list(_checked(changes, read))
    errors = [found for _, found in checked if isinstance(found, OpsctlError)]
    if errors and len(errors) == len(checked):
        raise errors[0]
    for seq, (change, found) in enumerate(checked, 1):
        after = min((ahead[t] for t in change.depends_on if t in ahead), default=None)
        planned = _planned(seq, change, found)
        planned.why = redact_record(planned.why)
        if after is not None and not planned.pending:
            planned = Step(seq=seq, change=change, state="pending")
        if planned.pending:
            planned.after = after
            for target in (change.target, *change.extra_locks):
                ahead.setdefault(target, seq)
        yield planned


def _checked(changes: Iterable[Change], read: Systems) -> Iterator[tuple[Change, Finding | OpsctlError]]:
    """Check kinds in parallel, and consecutive changes of one kind as far as the kind allows."""
    groups = [list(group) for _, group in groupby(changes, key=type)]
    if not groups:
        return
    with ThreadPoolExecutor(min(len(groups), KINDS_AT_ONCE), thread_name_prefix="check") as pool:
        for neighbours, found in zip(groups, pool.map(lambda group: _findings(group, read), groups), strict=True):
            yield from zip(neighbours, found, strict=True)


def _findings(neighbours: list[Change], read: Systems) -> list[Finding | OpsctlError]:
    if len(neighbours) == 1 or neighbours[0].max_parallel == 1:
        return [_find(change, read) for change in neighbours]
    with ThreadPoolExecutor(neighbours[0].max_parallel, thread_name_prefix="check") as pool:
        return list(pool.map(lambda change: _find(change, read), neighbours))


def _find(change: Change, read: Systems) -> Finding | OpsctlError:
    """Check a change. The error of an independent change is returned, so that the other changes can still be planned."""
    try:
        return change.check(read)
    except (ExternalError, CheckFailed, Refused) as error:
        if not change.independent or error.bars or isinstance(error, WrongPlace | ReadOnly):
            raise
        return error


def _planned(seq: int, change: Change, found: Finding | OpsctlError) -> Step:
    match found:
        case Pending(count, unit, note, unguarded, next):
            why = "; ".join(filter(None, (note, unguarded and f"refused: {unguarded.rstrip('.')}")))
            return Step(seq=seq, change=change, state="pending", why=why, count=count, unit=unit, unguarded=unguarded, next=next)
        case Done(why, at):
            return Step(seq=seq, change=change, state="done", why=why, at=at)
        case InProgress(note):
            return Step(seq=seq, change=change, state="pending", why=note)
        case Skipped(why):
            return Step(seq=seq, change=change, state="skipped", why=why)
        case Failed(why, count, unit):
            return Step(seq=seq, change=change, state="pending", why=f"an earlier attempt failed: {why}", count=count, unit=unit)
        case Drifted(why):
            return Step(seq=seq, change=change, state="moved", why=why)
        case OpsctlError():
            return Step(seq=seq, change=change, state="pending", why=f"could not be checked: {found.what}")


def mark_recently_done(planned: list[Step], completed: CompletedRun) -> list[Step]:
    """The steps of a plan; if a recent run applied every pending one, they are replaced by that run's, marked as done.

    The plan then shows the changes of that run, with the version or cutoff that was applied.
    """
    same = {p.seq: completed.same_change(p.change) for p in planned if p.pending}
    why, at = completed.why, completed.run.closed
    then = {seq: Step(seq=seq, change=made, state="done", why=why, at=at) for seq, made in same.items() if made}
    return [then.get(p.seq, p) for p in planned] if len(then) == len(same) else planned


def _content(plan: Plan) -> dict[str, Any]:
    """The content of a plan's file, without the digest."""
    found: dict[str, Any] = msgspec.json.decode(encode(msgspec.structs.replace(plan, changes=[])))
    planned = [{**msgspec.json.decode(encode(each)), "change": builtins(each.change)} for each in plan.changes]
    del found["digest"]
    return {**found, "changes": planned}


def _digest(content: dict[str, Any], key: RootKey) -> str:
    """The keyed digest of a saved plan. Making it needs the ledger's key."""
    return f"{key.id}:{hmac.new(key.derive('plan'), encode(content), 'sha256').hexdigest()}"


def save(plan: Plan, path: Path, keyring: Keyring, *, force: bool = False) -> None:
    """Save a plan for `opsctl apply` in a new file with mode 0600; with `force`, replace an older plan.

    Values of secrets are not saved: they are asked for again when the plan is applied.
    """
    content = _content(plan)
    plan.digest = _digest(content, keyring.current)
    try:
        files.write(path, encode({**content, "digest": plan.digest}), replaces=_is_plan if force else None)
    except OSError as cause:
        force_it = ", or add --force to replace an older plan" if cause.errno == errno.EEXIST and not force else ""
        raise ConfigurationError(f"The plan can't be saved in {path}: {cause.strerror}.", f"Choose another file{force_it}.") from cause


class _Heading(Struct):
    """The fields by which a saved plan is recognised."""

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


def load(path: Path, codec: Codec, keyring: Keyring) -> Plan:
    """Read a saved plan. Raises ConfigurationError for any other file, PlanStale for a plan that was edited or has an unknown key."""
    make = "To make a plan: opsctl ... -n --save FILE"
    try:
        raw: dict[str, Any] = msgspec.json.decode(files.read(path, files.LARGEST_LIST))
        msgspec.convert(raw, _Heading)
        _genuine(path, raw, keyring)
        changes = [_read_back(planned, codec) for planned in raw.pop("changes")]
        plan = msgspec.convert({**raw, "changes": []}, Plan)
        plan.changes = changes
    except OSError as cause:
        raise ConfigurationError(f"The plan {path} can't be read: {cause.strerror}.", "Check the path.") from cause
    except RecursionError as cause:
        raise ConfigurationError(f"{path} is not a plan: it is nested too deeply.", make) from cause
    except UnreadableError as cause:
        raise PlanStale(f"A change of the plan {path} can't be used: {cause}.", "Make a new plan: -n --save FILE") from cause
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as cause:
        raise ConfigurationError(f"{path} is not a plan of this version of opsctl: {cause}.", make) from cause
    return plan


def _genuine(path: Path, raw: dict[str, Any], keyring: Keyring) -> None:
    """Raise PlanStale unless the plan's digest was made with a key of this ledger for exactly this content."""
    again, digest = "Make a new plan here: -n --save FILE", raw["digest"]
    id, colon, _ = digest.partition(":")
    if not colon:
        raise PlanStale(f"{path} is not signed: it was made by an older version of opsctl, or by somebody else.", again)
    key = keyring.find(id)
    if key is None:
        what = f"{path} was signed with the key {id}, which is not in {keyring.folder}: it was made by another machine or user."
        raise PlanStale(what, again)
    if not hmac.compare_digest(digest.encode(), _digest({k: v for k, v in raw.items() if k != "digest"}, key).encode()):
        raise PlanStale(f"{path} was edited after it was saved.", again)


def _read_back(raw: dict[str, Any], codec: Codec) -> Step:
    change = codec.decode(msgspec.json.encode(raw.pop("change")))
    at = datetime.fromisoformat(raw["at"]) if raw["at"] else None
    return Step(**{**raw, "change": change, "at": at})


def fresh(plan: Plan, read: Systems) -> None:
    """Raise PlanStale unless environment, account, configuration, version and time still match the plan."""
    again, now = f"Make a new plan: opsctl {plan.command} -n --save FILE", read.now()
    ahead = f"it was made at {plan.created:%Y-%m-%d %H:%M:%S} UTC, but this machine's clock says {now:%Y-%m-%d %H:%M:%S} UTC"
    reasons = {
        f"it was made for environment {plan.environment}": plan.environment != read.environment.name,
        f"it was made for account {plan.account}": plan.account != read.caller.account,
        "the configuration has changed since then": plan.config_digest != read.environment.digest,
        f"it was made by opsctl {plan.version}": plan.version != opsctl.__version__,
        ahead: now < plan.created,
        f"it expired at {plan.expires:%Y-%m-%d %H:%M} UTC": now >= plan.expires,
    }
    for reason, stale in reasons.items():
        if stale:
            raise PlanStale(f"The plan is stale: {reason}.", again)
