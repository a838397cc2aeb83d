"""Changes that end sessions: no session that matches began before the cutoff, in the database, the cache and the API."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from psycopg import sql

from opsctl.adapters.redis_keys import searches
from opsctl.changes import raw
from opsctl.changes.base import Change, Done, Evidence, Finding, Never, Pending, Skipped, Telling
from opsctl.changes.deletion import Emptying, begin
from opsctl.shell import Each, File, Put, Variable

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.settings import SessionSettings
    from opsctl.shell import Statement
    from opsctl.systems import Systems

THEIRS = "{user} IN (SELECT {user} FROM jsonb_populate_recordset(NULL::{table}, %(users)s::jsonb))"
SOME = 500
AT_ONCE = 8
"""How many users the API is asked to log out at a time."""


class SessionChange(Change, frozen=True, kw_only=True):
    """Sessions of `users` (ids; None for everybody's, () for nobody's) that began before `cutoff`, on the database's clock."""

    under_way: ClassVar[float] = 0
    pinned: ClassVar[frozenset[str]] = frozenset({"cutoff"})

    users: tuple[str, ...] | None
    cutoff: datetime

    @property
    def target(self) -> str:
        """`sessions`, or `sessions/ID` for one user; several users' count as all, for the lock's sake."""
        return f"sessions/{self.users[0]}" if self.users and len(self.users) == 1 else "sessions"

    @property
    def whose(self) -> str:
        """In words."""
        if not self.users:
            return "all users" if self.users is None else "nobody"
        return f"user {self.users[0]}" if len(self.users) == 1 else f"{len(self.users):,} users"

    def inverse(self) -> Never:
        """None."""
        return Never("users log in again")


class EndDatabaseSessions(SessionChange, frozen=True, kw_only=True):
    """No row of the sessions' table that matches began before the cutoff.

    What began since is ended too: a session that was refreshed a moment ago can't be told from a new one.
    """

    permissions: ClassVar[frozenset[str]] = frozenset({"secretsmanager:GetSecretValue", "rds:DescribeDBClusters"})
    repeats: ClassVar[bool] = True
    poll: ClassVar[float] = 0

    @property
    def summary(self) -> str:
        """Says whose, and which."""
        return f"delete refresh sessions of {self.whose}, until none is left that began before {self.cutoff:%Y-%m-%d %H:%M:%S} UTC"

    def check(self, read: Systems) -> Finding:
        """Count the rows that began before the cutoff, and all that would be ended with them."""
        if self.users == ():
            return Done("no user meets the criteria")
        settings: SessionSettings = read.environment.need("sessions")
        whose, users = _whose(settings, self.users)
        query = sql.SQL("SELECT count(*) FILTER (WHERE {}) AS old, count(*) AS live FROM {} WHERE {}").format(
            self._old(settings), sql.Identifier(settings.table), whose
        )
        found = read.database.query(query, **self._cutoff(settings), **users)[0]
        if not found["old"]:
            return Done("no such session is in the database", self.cutoff)
        ttl = int(settings.access_ttl.total_seconds() // 60)
        note = f"access tokens live up to {ttl} min longer, unless {settings.signing_secret or 'the key'} is rotated"
        return Pending(int(found["live"]), "sessions", note)

    def _old(self, settings: SessionSettings) -> sql.Composed:
        if settings.created_column:
            return sql.SQL("{} < %(cutoff)s").format(sql.Identifier(settings.created_column))
        return sql.SQL("{} < %(cutoff)s").format(sql.Identifier(settings.expires_column))

    def _cutoff(self, settings: SessionSettings) -> dict[str, Any]:
        return {"cutoff": self.cutoff if settings.created_column else self.cutoff + settings.lifetime}

    def apply(self, write: Systems, token: str) -> Evidence:
        """Delete in batches that keep nobody waiting, then what came since under a lock, so that no refresh slips through."""
        settings: SessionSettings = write.environment.need("sessions")
        start = begin(write, settings)
        since, bounds = start.since(settings)
        emptying = Emptying(write, settings)
        for users in self._some():
            whose, values = _whose(settings, users)
            if users is None:
                emptying.pages(start.pages)
            else:
                emptying.rows(whose, values)
            emptying.alone(sql.SQL("{} AND {}").format(whose, since), values | bounds)
        return {"deleted": emptying.deleted}

    def _some(self) -> list[tuple[str, ...] | None]:
        """So few users at a time that finding theirs takes no longer than the lock may be held; everybody is found at once."""
        if self.users is None:
            return [None]
        return [self.users[i : i + SOME] for i in range(0, len(self.users), SOME)]

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's line (Safawinet 1.2, 2.2, 2.3)."""
        settings: SessionSettings = environment.need("sessions")
        names = {"table": settings.table, "user": settings.user_column}
        delete = raw.psql("DELETE FROM {table}", names)
        if self.users is not None:
            delete = raw.psql(f"DELETE FROM {{table}} WHERE {THEIRS}", names, users=_as_rows(settings, self.users))
        return [*raw.database(environment), delete]


class EndCachedSessions(SessionChange, frozen=True, kw_only=True):
    """No session key in Redis that matches began before the cutoff; other keys, and the API's own marks, stay."""

    permissions: ClassVar[frozenset[str]] = frozenset({"elasticache:DescribeCacheClusters"})
    repeats: ClassVar[bool] = True
    poll: ClassVar[float] = 0

    @property
    def target(self) -> str:
        """Beside the database's, in the cache."""
        return super().target.replace("sessions", "cached-sessions", 1)

    @property
    def summary(self) -> str:
        """Says whose, and which."""
        return f"unlink cached sessions of {self.whose}, until none is left that began before {self.cutoff:%Y-%m-%d %H:%M:%S} UTC"

    def check(self, read: Systems) -> Finding:
        """Count the keys that began before the cutoff, and all that would be ended with them."""
        counted = read.redis.count(**self._which(read, int(self.cutoff.timestamp() * 1000)))
        return Pending(counted.live, "cached sessions") if counted.old else Done("no such session is in Redis", self.cutoff)

    def _which(self, systems: Systems, before_ms: int | None) -> dict[str, Any]:
        settings: SessionSettings = systems.environment.need("sessions")
        return {
            "patterns": settings.redis_patterns,
            "keep": settings.keep,
            "before_ms": before_ms,
            "lifetime_ms": int(settings.redis_lifetime.total_seconds() * 1000),
            "users": self.users,
            "user_pattern": settings.redis_user_pattern,
        }

    def apply(self, write: Systems, token: str) -> Evidence:
        """SCAN and UNLINK in short steps."""
        return {"unlinked": write.redis.unlink(**self._which(write, None), beat=write.beat)}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """Instead of the runbook's FLUSHALL (Safawinet 1.2), which takes every other key too: the short steps that `apply` takes."""
        settings: SessionSettings = environment.need("sessions")
        some = [None] if self.users is None else [self.users[i : i + SOME] for i in range(0, len(self.users), SOME)]
        found = (searches(settings.redis_patterns, settings.keep, users, settings.redis_user_pattern) for users in some)
        return raw.unlink(environment, chain.from_iterable(found))


class RevokeTokens(SessionChange, frozen=True, kw_only=True):
    """The API refuses every token issued before the cutoff; last, so that its own marks are not deleted again."""

    telling: ClassVar[Telling] = "token"

    @property
    def target(self) -> str:
        """Beside the database's, in the API."""
        return super().target.replace("sessions", "tokens", 1)

    @property
    def remembered(self) -> bool:
        """An API without marks that can be read leaves no state."""
        return True

    @property
    def summary(self) -> str:
        """Says whose."""
        return f"have the API refuse the tokens of {self.whose}"

    def check(self, read: Systems) -> Finding:
        """Read the API's own marks, where configuration says where they are."""
        marks = read.api.revoked_since(self._marks())
        if all(mark is not None and mark >= self.cutoff for mark in marks):
            return Done("the API has refused them since", min(mark for mark in marks if mark))
        if not read.api.can_authorise():
            return Skipped("the API's administrator token was signed with a key since rotated, and nobody is here to give a new one")
        return Pending(len(self.users or ()), "users")

    def _marks(self) -> list[str]:
        return ["all"] if self.users is None else [f"user:{user}" for user in self.users]

    def apply(self, write: Systems, token: str) -> Evidence:
        """POST force-logout-all, or force-logout for each user, with an idempotency key."""
        if self.users is None:
            done = write.api.force_logout_all(token)
            return {"revoked": done.revoked, "at": done.at.isoformat()}
        revoked = 0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="revoke") as pool:
            answers = [pool.submit(write.api.force_logout, user, f"{token}-{user}") for user in self.users]
            try:
                for number, answer in enumerate(answers, 1):
                    revoked += answer.result().revoked
                    write.beat(number, len(answers), "users")
            finally:
                # Where somebody wants a stop, or one failed: what hasn't begun by then doesn't.
                for answer in answers:
                    answer.cancel()
        return {"revoked": revoked}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's lines (Safawinet 1.2 and 2.1), the token by way of a header file."""
        base, header, bodies = environment.need("api").base, File("admin-header"), File("users")
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


def _whose(settings: SessionSettings, users: tuple[str, ...] | None) -> tuple[sql.Composable, dict[str, Any]]:
    """The condition and its parameters; users travel as JSON, so that the table's own types cast them and both drivers can carry them."""
    if users is None:
        return sql.SQL("true"), {}
    user, table = sql.Identifier(settings.user_column), sql.Identifier(settings.table)
    typed = sql.SQL("{} IN (SELECT {} FROM jsonb_populate_recordset(NULL::{}, %(users)s::jsonb))").format(user, user, table)
    return typed, {"users": _as_rows(settings, users)}


def _as_rows(settings: SessionSettings, users: tuple[str, ...]) -> str:
    return json.dumps([{settings.user_column: each} for each in users])
