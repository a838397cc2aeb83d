"""Changes that end sessions: no matching session began before the cutoff, in the database, the cache and the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.changes import raw
from opsctl.contract import Change, Done, Evidence, Finding, OutcomeKnownBy, Pending, Skipped
from opsctl.errors import (
    CheckFailed,
    CredentialsInvalid,
    Denied,
    ExternalError,
    PartialFailure,
    Refused,
    Retry,
    Throttled,
    Unreachable,
    Untrusted,
)
from opsctl.permissions import Permissions, needs
from opsctl.shell import Each, File, Put, Variable
from opsctl.statements import sessions as statements
from opsctl.statements.redis_keys import searches

if TYPE_CHECKING:
    from concurrent.futures import Future

    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.settings import SessionSettings
    from opsctl.shell import Statement
    from opsctl.systems import Systems

SOME = 500
MANY = 5_000
"""How many users one call to Redis names."""
AT_ONCE = 8
"""How many users the API is asked to log out at a time."""
NAMED = 5
OF_ALL_USERS = (CredentialsInvalid, Denied, Throttled, Unreachable)
"""What the API says that is about no single user."""


class SessionChange(Change, frozen=True, kw_only=True):
    """Sessions of `users` (ids; None: everybody, (): nobody) that began before `cutoff`, by the database's clock.

    `unproven` of the users match only because nothing shows when they last logged in.
    """

    under_way: ClassVar[float] = 0
    volatile_fields: ClassVar[frozenset[str]] = frozenset({"cutoff", "unproven"})
    independent: ClassVar[bool] = True
    irreversible: ClassVar[str] = "users have to log in again"

    users: tuple[str, ...] | None
    cutoff: datetime
    unproven: int = 0

    @property
    def target(self) -> str:
        """`sessions`, or `sessions/ID` for one user; several users share the lock of all."""
        return f"sessions/{self.users[0]}" if self.users and len(self.users) == 1 else "sessions"

    @property
    def whose(self) -> str:
        """Whose sessions, in words."""
        if not self.users:
            return "all users" if self.users is None else "nobody"
        if len(self.users) == 1:
            return f"user {self.users[0]}"
        return f"{len(self.users):,} users{f' ({self.unproven:,} of them with an unknown last login)' if self.unproven else ''}"

    def check(self, read: Systems) -> Finding:
        """Done if there are no users; otherwise counts the sessions."""
        return self._count_sessions(read) if self.users != () else _nobody(read)

    def _count_sessions(self, read: Systems) -> Finding:
        raise NotImplementedError


class EndDatabaseSessions(SessionChange, frozen=True, kw_only=True):
    """No matching row of the sessions' table began before the cutoff.

    Later sessions are ended too: a session that was just refreshed looks like a new one.
    """

    permissions: ClassVar[Permissions] = needs(check="postgres:sessions.count postgres:stats", apply="postgres:sessions.delete")
    converging: ClassVar[bool] = True
    poll: ClassVar[float] = 0
    summary_template: ClassVar[str] = "delete refresh sessions of {whose} that began before {cutoff:%Y-%m-%d %H:%M:%S} UTC"

    def _count_sessions(self, read: Systems) -> Finding:
        """Counts the rows from before the cutoff, and all rows that would be deleted with them."""
        settings = read.environment.sessions
        rows = read.session_rows
        rows.require_all()
        found = rows.count(self.users, self.cutoff)
        if found.old:
            ttl = int(settings.access_ttl.total_seconds() // 60)
            note = f"access tokens stay valid up to {ttl} min longer, unless {settings.signing_secret or 'the signing key'} is rotated"
            return Pending(found.live, "sessions", "; ".join(filter(None, [_unproven(settings, found.unproven), note])))
        if writers := rows.writers(self.cutoff):
            open_since = f"a transaction that began before that time may still add sessions: {'; '.join(writers[:NAMED])}"
            return Pending(0, "sessions", open_since)
        rows.require_same()
        if found.live:
            return Done(f"0 of {found.live:,} sessions of {self.whose} in the database began before that time", self.cutoff)
        return Done(self._none(read, settings), self.cutoff)

    def _none(self, read: Systems, settings: SessionSettings) -> str:
        """Done: the table has no such row. First checks that this is the right table."""
        total = read.session_rows.total()
        if total != "0":
            return f"none of the {total} sessions in the database belongs to {self.whose}"
        if others := read.session_rows.same_named_tables():
            raise Refused(
                f"{settings.table} is empty, and other tables have the same name: {', '.join(others)}.",
                "Make the roles of [database] use the right table: ALTER ROLE ... SET search_path",
            )
        return f"{settings.table} in the database is empty: no user has a session"

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Deletes in short batches, then deletes newer rows under a lock, so that no refresh escapes."""
        deleted = write.session_rows.delete(self.users, write.reader.session_rows.holders, progress)
        return {"deleted": deleted}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 1.2, 2.2, 2.3)."""
        names = statements.names(environment.sessions)
        delete = raw.sql(environment, statements.DELETE_ALL, names)
        if self.users is not None:
            delete = raw.sql(environment, statements.DELETE, names, users=statements.users_json(environment.sessions, self.users))
        return [*raw.database(environment), delete]


class EndCachedSessions(SessionChange, frozen=True, kw_only=True):
    """No matching session key in Redis began before the cutoff; other keys, and the API's own marks, stay."""

    permissions: ClassVar[Permissions] = needs(check="redis:sessions.count", apply="redis:sessions.unlink")
    converging: ClassVar[bool] = True
    poll: ClassVar[float] = 0
    summary_template: ClassVar[str] = "delete cached sessions of {whose} that began before {cutoff:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def target(self) -> str:
        """The lock target of the cache."""
        return super().target.replace("sessions", "cached-sessions", 1)

    def _count_sessions(self, read: Systems) -> Finding:
        """Counts the keys from before the cutoff, and all keys that would be deleted with them."""
        settings = read.environment.sessions
        if not settings.redis_patterns:
            return Skipped("[sessions] sets no redis-patterns: Redis was not searched")
        before = int(self.cutoff.timestamp() * 1000)
        found = _summed([read.redis.count(**self._which(read, before, users)) for users in self._user_groups()])
        if found.old:
            return Pending(found.live, "cached sessions", _doubts(settings, found))
        if found.live:
            return Done(f"0 of {found.live:,} session keys of {self.whose} in Redis began before that time", self.cutoff)
        if found.met:
            kept = f"all {found.met:,} session keys in Redis match a pattern of redis-keep"
            other = f"none of the {found.met:,} session keys in Redis belongs to {self.whose}"
            return Done(kept if self.users is None else other, self.cutoff)
        if not found.keys and not found.elsewhere:
            return Done("Redis is empty: it contains no key", self.cutoff)
        if self._met_before(read):
            return Done(f"none of the {found.keys:,} keys in Redis is a session key; earlier runs found some", self.cutoff)
        raise _blind(read, settings, found, settings.redis_patterns if self.users is None else [settings.redis_user_pattern])

    def _met_before(self, read: Systems) -> bool:
        """Whether an earlier run found keys with the same patterns; for one user also if everybody's were found, and are gone."""
        met = {past.change.users is None for past in read.history.past_impacts(type(self)) if past.impact or past.evidence.get("unlinked")}
        if (self.users is None) in met:
            return True
        return True in met and not read.redis.count(**self._which(read, None, None)).met

    def _user_groups(self) -> Iterator[tuple[str, ...] | None]:
        if self.users is None:
            yield None
        else:
            yield from (self.users[i : i + MANY] for i in range(0, len(self.users), MANY))

    def _which(self, systems: Systems, before_ms: int | None, users: tuple[str, ...] | None) -> dict[str, Any]:
        settings = systems.environment.sessions
        return {
            "patterns": settings.redis_patterns,
            "keep": settings.keep,
            "before_ms": before_ms,
            "lifetime_ms": int(settings.redis_lifetime.total_seconds() * 1000),
            "users": users,
            "user_pattern": settings.redis_user_pattern,
        }

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """SCAN and UNLINK in short steps."""
        return {"unlinked": sum(write.redis.unlink(**self._which(write, None, users), progress=progress) for users in self._user_groups())}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """Short SCAN steps like `apply`, instead of the runbook's FLUSHALL (Safawinet 1.2), which deletes all other keys too."""
        settings = environment.sessions
        some = [None] if self.users is None else [self.users[i : i + SOME] for i in range(0, len(self.users), SOME)]
        found = (searches(settings.redis_patterns, settings.keep, users, settings.redis_user_pattern) for users in some)
        return raw.unlink(environment, chain.from_iterable(found))


class RevokeTokens(SessionChange, frozen=True, kw_only=True):
    """The API refuses every token issued before the cutoff. This comes last, so that its own marks are not deleted again."""

    permissions: ClassVar[Permissions] = needs(check="redis:revocations", apply="api:revoke")
    outcome_known_by: ClassVar[OutcomeKnownBy] = "idempotency_key"
    proven_by_history: ClassVar[bool] = True
    summary_template: ClassVar[str] = "make the API refuse the tokens of {whose}"

    @property
    def target(self) -> str:
        """The lock target of the API."""
        return super().target.replace("sessions", "tokens", 1)

    def _count_sessions(self, read: Systems) -> Finding:
        """Reads the API's own marks, if the configuration names them."""
        note = ""
        try:
            marks = read.api.revoked_since(self._marks())
        except (Unreachable, Untrusted, CredentialsInvalid, Denied) as failed:
            # The marks are in Redis. If they can't be read, the API can still be called once more.
            marks, note = [None], f"whether the API already refuses them is unknown: {failed.what.rstrip('.')}"
        if all(mark is not None and mark >= self.cutoff for mark in marks):
            return Done("the API has refused them since", min(mark for mark in marks if mark))
        if not read.api.can_authorise():
            return Skipped("the key that signed the API's administrator token has been rotated, and nobody is here to enter a new token")
        return Pending(len(self.users or ()), "users", note)

    def _marks(self) -> list[str]:
        return ["all"] if self.users is None else [f"user:{user}" for user in self.users]

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """POST force-logout-all, or force-logout for each user, with an idempotency key."""
        if self.users is None:
            done = write.api.force_logout_all(token)
            return {"revoked": done.revoked, "at": done.at.isoformat()}
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="revoke") as pool:
            answers = {user: pool.submit(write.api.force_logout, user, f"{token}-{user}") for user in self.users}
            try:
                return {"revoked": _each(answers, progress)}
            finally:
                # On a stop request, or if the API fails for all users, calls that haven't started are skipped.
                for answer in answers.values():
                    answer.cancel()

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's commands (Safawinet 1.2 and 2.1), with the token in a header file."""
        base, header, bodies = environment.api.base, File("admin-header"), File("users")
        if self.users is None:
            everybody = raw.curl("POST", f"{base}/v1/auth/force-logout-all", headers=[header], body="{}")
            return raw.administrator(environment, header, everybody)
        each = raw.curl("POST", f"{base}/v1/auth/force-logout", headers=[header], body=Variable("body"))
        return raw.administrator(
            environment,
            header,
            Put(file=bodies, words=tuple(json.dumps({"userId": user}) for user in self.users), end="\n"),
            Each(variable="body", file=bodies, statements=(each,)),
        )


def _nobody(read: Systems) -> Done:
    """Done: none of so many users matches. Raises CheckFailed if there are no users at all."""
    settings = read.environment.sessions
    total = read.users.total()
    if not total:
        raise CheckFailed(
            f"The table {settings.users_table} is empty, so no user can meet the criteria.", "Check users-table in [sessions]."
        )
    return Done(f"no user meets the criteria, of {total:,}")


def _unproven(settings: SessionSettings, count: int) -> str:
    """A note on sessions that count as old because nothing shows when they began."""
    if not count:
        return ""
    if settings.created_column:
        return f"{count:,} have no {settings.created_column} or one in the future; they count as old"
    what = f"{settings.expires_column} and lifetime in [sessions]"
    return f"{count:,} have no {settings.expires_column}, or began in the future by {what} (is lifetime too short?); they count as old"


def _summed(found: list[Any]) -> Any:
    """The sum of the counts of several groups of users, each over all keys."""
    first = found[0]
    return first._replace(
        old=any(each.old for each in found),
        live=sum(each.live for each in found),
        future=any(each.future for each in found),
        silent=tuple(dict.fromkeys(what for each in found for what in each.silent)),
    )


def _doubts(settings: SessionSettings, found: Any) -> str:
    ahead = (
        "keys expire later than redis-lifetime in [sessions] allows, so that setting is too short; they count as old"
        if found.future
        else ""
    )
    return "; ".join(filter(None, [ahead, *found.silent]))


def _blind(read: Systems, settings: SessionSettings, found: Any, patterns: list[str]) -> CheckFailed:
    """The error if no key shows that opsctl looks for sessions in the right place."""
    db = read.environment.redis.db
    what = f"No key of {found.keys:,} in Redis' database {db} matches {' or '.join(patterns)}, so the pattern may be wrong."
    if found.elsewhere:
        return CheckFailed(
            f"{what} Other databases of this Redis contain keys: {', '.join(found.elsewhere)}.",
            f"If sessions are there, set it in [redis]: db = {found.elsewhere[0]}",
        )
    return CheckFailed(
        what, "Compare redis-patterns and redis-user-pattern in [sessions] with the application; without Redis: --only database"
    )


def _each(answers: dict[str, Future[Any]], progress: ProgressCallback) -> int:
    """How many sessions the API ended. A refused user doesn't stop the others; PartialFailure names the refused ones."""
    revoked, done, refused = 0, 0, dict[str, ExternalError]()
    for user, answer in answers.items():
        try:
            revoked += answer.result().revoked
        except OF_ALL_USERS:
            raise
        except ExternalError as no:
            refused[user] = no
            continue
        done += 1
        progress(done, len(answers), "users")
    if refused:
        reasons = " ".join(f"{user}: {no.what}" for user, no in list(refused.items())[:NAMED])
        raise PartialFailure(
            f"The API still accepts the tokens of {len(refused):,} of {len(answers):,} users. {reasons}", Retry(), parts=()
        )
    return revoked
