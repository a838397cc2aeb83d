"""Changes that end sessions: no session that matches began before the cutoff, in the database, the cache and the API."""

from __future__ import annotations

import json
import shlex
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from psycopg import sql

from opsctl.changes.base import Change, Done, Evidence, Finding, Never, Pending, Skipped, Telling

if TYPE_CHECKING:
    from opsctl.config import Environment, SessionSettings
    from opsctl.systems import Systems

PAGES = 200
SMALL = 2_000
LOCK_TRIES = 20
LOCKED_FOR = timedelta(milliseconds=8)


class SessionChange(Change, frozen=True, kw_only=True):
    """Sessions of `users` (ids; None for everybody's) that began before `cutoff`, on the database's clock."""

    users: tuple[str, ...] | None
    cutoff: datetime

    @property
    def target(self) -> str:
        """`sessions`, or `sessions/ID` for one user; several users' count as all, for the lock's sake."""
        return f"sessions/{self.users[0]}" if self.users and len(self.users) == 1 else "sessions"

    @property
    def whose(self) -> str:
        """In words."""
        if self.users is None:
            return "all users"
        return f"user {self.users[0]}" if len(self.users) == 1 else f"{len(self.users):,} users"

    def inverse(self) -> Never:
        """None."""
        return Never("users log in again")


class EndDatabaseSessions(SessionChange, frozen=True, kw_only=True):
    """No row of the sessions' table that matches began before the cutoff."""

    permissions: ClassVar[frozenset[str]] = frozenset({"secretsmanager:GetSecretValue", "rds:DescribeDBClusters"})
    repeats: ClassVar[bool] = True
    poll: ClassVar[float] = 0

    @property
    def summary(self) -> str:
        """Says whose, and which."""
        return f"delete refresh sessions of {self.whose} begun before {self.cutoff:%Y-%m-%d %H:%M:%S} UTC"

    def check(self, read: Systems) -> Finding:
        """Count the rows that match."""
        settings: SessionSettings = read.environment.need("sessions")
        query = sql.SQL("SELECT count(*) AS n FROM {} WHERE {}").format(sql.Identifier(settings.table), self._where(settings))
        found = int(read.database.query(query, **self._values(settings))[0]["n"])
        if not found:
            return Done("no such session is in the database", self.cutoff)
        ttl = int(settings.access_ttl.total_seconds() // 60)
        return Pending(
            found,
            "sessions",
            f"access tokens live up to {ttl} min longer, unless {settings.signing_secret or 'the key'} is rotated",
        )

    def _where(self, settings: SessionSettings) -> sql.Composed:
        if settings.created_column:
            began = sql.SQL("{} < %(cutoff)s").format(sql.Identifier(settings.created_column))
        else:
            began = sql.SQL("{} < %(expiry)s").format(sql.Identifier(settings.expires_column))
        if self.users is None:
            return sql.Composed([began])
        user, table = sql.Identifier(settings.user_column), sql.Identifier(settings.table)
        typed = sql.SQL("{} IN (SELECT {} FROM jsonb_populate_recordset(NULL::{}, %(users)s::jsonb)) AND {}")
        return typed.format(user, user, table, began)

    def _values(self, settings: SessionSettings) -> dict[str, Any]:
        """The bound parameters; users travel as JSON, so that the table's own types cast them and both drivers can carry them."""
        values: dict[str, Any] = {"cutoff": self.cutoff} if settings.created_column else {"expiry": self.cutoff + settings.lifetime}
        if self.users is not None:
            values["users"] = json.dumps([{settings.user_column: user} for user in self.users])
        return values

    def apply(self, write: Systems, token: str) -> Evidence:
        """Delete in batches that keep nobody waiting, then once more under a lock, so that a refresh can't slip through."""
        settings: SessionSettings = write.environment.need("sessions")
        pages = self._pages(write, settings)
        deleted = self._in_batches(write, settings, pages) if self.users is None else 0
        first = 0 if self.users is not None or pages < SMALL else max(pages - PAGES, 0)
        locked = self._under_lock(write, settings, first)
        return {"deleted": deleted + (locked or 0), "locked_pass": locked is not None}

    def _pages(self, write: Systems, settings: SessionSettings) -> int:
        query = "SELECT pg_relation_size(%(table)s::regclass) / current_setting('block_size')::bigint AS pages"
        return int(write.database.query(query, table=settings.table)[0]["pages"])

    def _delete(self, settings: SessionSettings, pages: bool) -> sql.Composed:
        within = sql.SQL("ctid >= %(first)s::tid AND ctid < %(last)s::tid AND ") if pages else sql.SQL("")
        return sql.SQL("DELETE FROM {} WHERE {}{}").format(sql.Identifier(settings.table), within, self._where(settings))

    def _in_batches(self, write: Systems, settings: SessionSettings, pages: int) -> int:
        statement, values, deleted = self._delete(settings, pages=True), self._values(settings), 0
        for first in range(0, pages + 1, PAGES):
            deleted += write.database.execute(statement, first=f"({first},0)", last=f"({first + PAGES},0)", **values)
            write.beat(deleted, None, "sessions deleted")
        return deleted

    def _under_lock(self, write: Systems, settings: SessionSettings, first: int) -> int | None:
        """Delete what came behind the batches while no refresh can commit; None when no lock was to be had in time."""
        from opsctl.adapters.database import Busy

        table = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(settings.table))
        limit = f"{int(LOCKED_FOR.total_seconds() * 1000)}ms"
        for _ in range(LOCK_TRIES):
            try:
                with write.database.transaction():
                    settle = "SELECT set_config('lock_timeout', %(limit)s, true), set_config('statement_timeout', %(limit)s, true)"
                    write.database.execute(settle, limit=limit)
                    write.database.execute(table)
                    values = self._values(settings)
                    if not first:
                        return write.database.execute(self._delete(settings, pages=False), **values)
                    return write.database.execute(self._delete(settings, pages=True), first=f"({first},0)", last="(4294967295,0)", **values)
            except Busy:
                write.beat(0, None, "waiting for a quiet moment")
        return None

    def as_shell(self, environment: Environment) -> list[str]:
        """The runbook's line (Safawinet 1.2, 2.2, 2.3), bounded by the cutoff."""
        settings: SessionSettings = environment.need("sessions")
        where = f"{settings.created_column} < '{self.cutoff:%Y-%m-%d %H:%M:%S+00}'"
        if not settings.created_column:
            where = f"{settings.expires_column} < '{self.cutoff + settings.lifetime:%Y-%m-%d %H:%M:%S+00}'"
        who = f"{settings.user_column} IN ({', '.join(shlex.quote(u) for u in self.users)}) AND " if self.users is not None else ""
        return [f"psql -c {shlex.quote(f'DELETE FROM {settings.table} WHERE {who}{where}')}"]


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
        return f"unlink cached sessions of {self.whose} begun before {self.cutoff:%Y-%m-%d %H:%M:%S} UTC"

    def check(self, read: Systems) -> Finding:
        """Count the keys that match."""
        found = read.redis.count(**self._which(read))
        return Pending(found, "cached sessions") if found else Done("no such session is in Redis", self.cutoff)

    def _which(self, systems: Systems) -> dict[str, Any]:
        settings: SessionSettings = systems.environment.need("sessions")
        return {
            "patterns": settings.redis_patterns,
            "keep": settings.keep,
            "before_ms": int(self.cutoff.timestamp() * 1000),
            "lifetime_ms": int(settings.redis_lifetime.total_seconds() * 1000),
            "users": self.users,
            "user_pattern": settings.redis_user_pattern,
        }

    def apply(self, write: Systems, token: str) -> Evidence:
        """SCAN and UNLINK in short steps."""
        return {"unlinked": write.redis.unlink(**self._which(write), beat=write.beat)}

    def as_shell(self, environment: Environment) -> list[str]:
        """Instead of the runbook's FLUSHALL (Safawinet 1.2), which takes every other key too."""
        settings: SessionSettings = environment.need("sessions")
        patterns = settings.redis_patterns
        if self.users is not None:
            patterns = [settings.redis_user_pattern.format(user=user) for user in self.users]
        cli = 'redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT"'
        export = 'export REDISCLI_AUTH="$REDIS_PASSWORD"'
        return [export, *(f"{cli} --scan --pattern {shlex.quote(p)} | xargs -r {cli} unlink" for p in patterns)]


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
        marks = [read.api.revoked_since(who) for who in self._marks()]
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
        for number, user in enumerate(self.users, 1):
            revoked += write.api.force_logout(user, f"{token}-{user}").revoked
            write.beat(number, len(self.users), "users")
        return {"revoked": revoked}

    def as_shell(self, environment: Environment) -> list[str]:
        """The runbook's lines (Safawinet 1.2 and 2.1), the token from the environment by way of a header file."""
        base = environment.need("api").base
        auth = "-H @<(echo \"Authorization: Bearer $ADMIN_TOKEN\") -H 'Content-Type: application/json'"
        if self.users is None:
            return [f"curl -fsS -X POST {base}/v1/auth/force-logout-all {auth}"]
        bodies = [shlex.quote(json.dumps({"userId": user})) for user in self.users]
        return [f"curl -fsS -X POST {base}/v1/auth/force-logout {auth} -d {body}" for body in bodies]
