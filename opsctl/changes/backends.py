"""Ending queries that hold the database up, each pinned so that no other one can be hit."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from opsctl.changes import raw
from opsctl.contract import Change, Done, Evidence, Finding, Pending, Skipped
from opsctl.errors import Interrupted
from opsctl.permissions import Permissions, needs
from opsctl.shell import Equal, Forever, Variable, When, capture, run

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

AGAIN = "opsctl database kill-long-running"
LOOK = 0.1
"""Seconds between two looks at whether the queries have ended."""

_PINNED = (
    " FROM pg_stat_activity AS activity JOIN jsonb_to_recordset(%(pinned)s::jsonb)"
    " AS pinned (pid int, backend_start bigint, query_start bigint) ON pinned.pid = activity.pid"
    " WHERE state IN ({}) AND (extract(epoch FROM activity.backend_start) * 1000000)::bigint = pinned.backend_start"
    " AND (extract(epoch FROM activity.query_start) * 1000000)::bigint = pinned.query_start"
)
PINNED = _PINNED.format("'active'")
PINNED_IDLE = _PINNED.format("'idle in transaction', 'idle in transaction (aborted)'")


class LongQuery(Struct, frozen=True, kw_only=True):
    """One query, by backend and start (microseconds since 1970), and whose it is, without its literals."""

    pid: int
    backend_start: int
    query_start: int
    told: str


class EndQueries(Change, frozen=True, kw_only=True):
    """None of `queries` runs on the instance any more; `grace` seconds after the cancel their connections are ended.

    `older_than` says in words which ones they were found by; `unasked` why this instance couldn't be asked, `unseen` that it never can be.
    """

    independent: ClassVar[bool] = True
    under_way: ClassVar[float] = 0
    permissions: ClassVar[Permissions] = needs(check="postgres:activity", apply="postgres:activity.end")
    width: ClassVar[int] = 4
    poll: ClassVar[float] = 0.5
    timeout: ClassVar[float] = 60
    target_template: ClassVar[str] = "database/{instance}/queries"
    summary_template: ClassVar[str] = "end queries on {instance} that ran longer than {older_than}: cancel, then after {grace} s terminate"
    irreversible: ClassVar[str] = "their work is rolled back; the application may ask again"

    instance: str
    queries: tuple[LongQuery, ...] = ()
    older_than: str
    grace: int
    spared: tuple[str, ...] = ()
    unasked: str = ""
    unseen: str = ""

    def difference(self) -> tuple[Any, Any]:
        """The queries, by pid."""
        return {str(query.pid): query.told for query in self.queries} or None, None

    def check(self, read: Systems) -> Finding:
        """See which of them still run; raises ExternalError where the instance couldn't be asked which ones do."""
        if self.unseen:
            return Skipped(self.unseen)
        if self.unasked:
            read.backends.left(self.instance, ())
            return Skipped(f"it answers again, and nobody has looked for queries on it: {AGAIN}")
        spared = f"; spared: {'; '.join(self.spared)}" if self.spared else ""
        if not self.queries:
            return Done(f"no query runs longer than {self.older_than}{spared}")
        left = read.backends.left(self.instance, self.queries)
        if left:
            return Pending(len(left), "queries", f"what they did is rolled back{spared}")
        return Done(f"none of these queries runs any more{spared}")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Cancel; what still runs after the grace loses its connection, also when the run is interrupted meanwhile: this is one change."""
        cancelled = write.backends.cancel(self.instance, self.queries)
        deadline = time.monotonic() + self.grace
        while left := write.backends.left(self.instance, self.queries):
            if time.monotonic() >= deadline:
                return {"cancelled": cancelled, "terminated": write.backends.terminate(self.instance, left)}
            with suppress(Interrupted):
                progress(len(self.queries) - len(left), len(self.queries), "queries ended")
            time.sleep(LOOK)
        return {"cancelled": cancelled, "terminated": 0}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's line (Safawinet 5.1), for these queries alone; on this instance's own endpoint, as the rescuing role."""
        pinned = json.dumps([{"pid": q.pid, "backend_start": q.backend_start, "query_start": q.query_start} for q in self.queries])
        left = raw.sql(environment, f"SELECT count(*){PINNED}", pinned=pinned)
        return [
            *raw.database(environment, environment.database.rescue, self.instance),
            raw.sql(environment, f"SELECT pg_cancel_backend(activity.pid){PINNED}", pinned=pinned),
            capture("left", left),
            When(test=Equal(one=Variable("left"), other="0", differ=True), then=(run("sleep", str(self.grace)),)),
            raw.sql(environment, f"SELECT pg_terminate_backend(activity.pid){PINNED}", pinned=pinned),
            Forever(
                statements=(capture("left", left),),
                until=Equal(one=Variable("left"), other="0"),
                seconds=int(self.timeout),
                otherwise=f"Some of the queries on {self.instance} still run.",
            ),
        ]


class EndBlockers(Change, frozen=True, kw_only=True):
    """None of `sessions`, which keep a transaction open and do nothing, holds up others on the instance any more.

    They are only named unless they are `asked` for: what they began is rolled back. `kept` says why others are not ended.
    """

    independent: ClassVar[bool] = True
    permissions: ClassVar[Permissions] = needs(check="postgres:activity", apply="postgres:activity.end")
    width: ClassVar[int] = 4
    poll: ClassVar[float] = 0.5
    timeout: ClassVar[float] = 60
    target_template: ClassVar[str] = "database/{instance}/blockers"
    summary_template: ClassVar[str] = "end sessions on {instance} that are idle in a transaction and that others wait for"
    irreversible: ClassVar[str] = "what they began is rolled back; the application may begin anew"

    instance: str
    sessions: tuple[LongQuery, ...] = ()
    kept: tuple[str, ...] = ()
    asked: bool = False

    def difference(self) -> tuple[Any, Any]:
        """The sessions, by pid."""
        return {str(each.pid): each.told for each in self.sessions} or None, None

    def check(self, read: Systems) -> Finding:
        """See which of them are still so."""
        left = read.backends.idle_left(self.instance, self.sessions) if self.sessions else []
        told = "; ".join([*(f"{each.pid} ({each.told})" for each in left), *self.kept])
        if left and self.asked:
            return Pending(len(left), "sessions", "; ".join(["what they began is rolled back", *(f"stays: {each}" for each in self.kept)]))
        if told:
            return Skipped(f"others wait for what stays: {told}" + ("" if self.asked else "; to end the idle ones: --blockers"))
        return Done("none of these sessions holds its transaction open any more")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """pg_terminate_backend: there is no query that could be cancelled."""
        return {"ended": write.backends.end_idle(self.instance, self.sessions)}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The same, for these sessions alone."""
        if not self.asked:
            return []
        pinned = json.dumps([{"pid": q.pid, "backend_start": q.backend_start, "query_start": q.query_start} for q in self.sessions])
        left = raw.sql(environment, f"SELECT count(*){PINNED_IDLE}", pinned=pinned)
        return [
            *raw.database(environment, environment.database.rescue, self.instance),
            raw.sql(environment, f"SELECT pg_terminate_backend(activity.pid){PINNED_IDLE}", pinned=pinned),
            Forever(
                statements=(capture("left", left),),
                until=Equal(one=Variable("left"), other="0"),
                seconds=int(self.timeout),
                otherwise=f"Some of the sessions on {self.instance} still hold their transactions open.",
            ),
        ]
