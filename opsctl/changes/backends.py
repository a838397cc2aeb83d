"""Changes that end queries which block the database. Each query is pinned, so that no other one can be hit."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from opsctl.changes import raw
from opsctl.contract import Change, Done, Evidence, Finding, Pending, Skipped
from opsctl.errors import Interrupted
from opsctl.permissions import Permissions, needs
from opsctl.shell import Equal, Forever, Variable, When, capture, run
from opsctl.statements import activity as statements

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

AGAIN = "opsctl database kill-long-running"
LOOK = 0.1
"""Seconds between two looks at whether the queries have ended."""


class LongQuery(Struct, frozen=True, kw_only=True):
    """One query, by backend and start (microseconds since 1970), with its user and its text without literals."""

    pid: int
    backend_start: int
    query_start: int
    told: str


class EndingBackends(Change, frozen=True, kw_only=True):
    """A change that ends backends on one instance; several instances run in parallel."""

    independent: ClassVar[bool] = True
    max_parallel: ClassVar[int] = 4
    poll: ClassVar[float] = 0.5
    timeout: ClassVar[float] = 60

    instance: str

    @property
    def backends(self) -> tuple[LongQuery, ...]:
        """The backends to end."""
        raise NotImplementedError

    def difference(self) -> tuple[Any, Any]:
        """The backends, by pid."""
        return {str(each.pid): each.told for each in self.backends} or None, None


class EndQueries(EndingBackends, frozen=True, kw_only=True):
    """None of `queries` runs on the instance any more. Connections are terminated `grace` seconds after the cancel.

    `older_than` says in words how the queries were selected; `unasked` why this instance wasn't queried, `unseen` why it never can be.
    """

    under_way: ClassVar[float] = 0
    permissions: ClassVar[Permissions] = needs(check="postgres:activity", apply="postgres:activity.end")
    target_template: ClassVar[str] = "database/{instance}/queries"
    summary_template: ClassVar[str] = (
        "end queries on {instance} that have run longer than {older_than}: cancel, then terminate after {grace} s"
    )
    irreversible: ClassVar[str] = "their work is rolled back; the application can run them again"

    queries: tuple[LongQuery, ...] = ()
    older_than: str
    grace: int
    spared: tuple[str, ...] = ()
    unasked: str = ""
    unseen: str = ""

    @property
    def backends(self) -> tuple[LongQuery, ...]:
        """The queries."""
        return self.queries

    def check(self, read: Systems) -> Finding:
        """Reads which queries still run. Raises ExternalError if the instance couldn't be queried."""
        if self.unseen:
            return Skipped(self.unseen)
        if self.unasked:
            read.backends.still_running(self.instance, ())
            return Skipped(f"the instance answers again; look for queries on it: {AGAIN}")
        spared = f"; not ended: {'; '.join(self.spared)}" if self.spared else ""
        if not self.queries:
            return Done(f"no query has run longer than {self.older_than}{spared}")
        left = read.backends.still_running(self.instance, self.queries)
        if left:
            return Pending(len(left), "queries", f"their work is rolled back{spared}")
        return Done(f"none of these queries is running now{spared}")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Cancels the queries, then terminates those that still run after the grace period, also when the run is interrupted meanwhile."""
        cancelled = write.backends.cancel(self.instance, self.queries)
        deadline = time.monotonic() + self.grace
        while left := write.backends.still_running(self.instance, self.queries):
            if time.monotonic() >= deadline:
                return {"cancelled": cancelled, "terminated": write.backends.terminate(self.instance, left)}
            with suppress(Interrupted):
                progress(len(self.queries) - len(left), len(self.queries), "queries ended")
            time.sleep(LOOK)
        return {"cancelled": cancelled, "terminated": 0}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 5.1) for these queries only, on this instance's own endpoint, with the rescue role."""
        pinned = statements.backends_json(self.queries)
        left = raw.sql(environment, statements.COUNT_LEFT, backends=pinned)
        return [
            *raw.database(environment, environment.database.rescue, self.instance),
            raw.sql(environment, statements.CANCEL, backends=pinned),
            capture("left", left),
            When(test=Equal(one=Variable("left"), other="0", differ=True), then=(run("sleep", str(self.grace)),)),
            raw.sql(environment, statements.TERMINATE, backends=pinned),
            Forever(
                statements=(capture("left", left),),
                until=Equal(one=Variable("left"), other="0"),
                seconds=int(self.timeout),
                otherwise=f"Some of the queries on {self.instance} are still running.",
            ),
        ]


class EndBlockers(EndingBackends, frozen=True, kw_only=True):
    """None of `sessions`, which are idle in transaction, blocks others on the instance any more.

    Without `asked` they are only listed, because ending them rolls back their work. `kept` says why other sessions are not ended.
    """

    permissions: ClassVar[Permissions] = needs(check="postgres:activity", apply="postgres:activity.end")
    target_template: ClassVar[str] = "database/{instance}/blockers"
    summary_template: ClassVar[str] = "terminate sessions on {instance} that are idle in a transaction and block others"
    irreversible: ClassVar[str] = "their transactions are rolled back; the application can start them again"

    sessions: tuple[LongQuery, ...] = ()
    kept: tuple[str, ...] = ()
    asked: bool = False

    @property
    def backends(self) -> tuple[LongQuery, ...]:
        """The sessions."""
        return self.sessions

    def check(self, read: Systems) -> Finding:
        """Reads which sessions still block others."""
        left = read.backends.idle_left(self.instance, self.sessions) if self.sessions else []
        blockers = "; ".join([*(f"{each.pid} ({each.told})" for each in left), *self.kept])
        if left and self.asked:
            return Pending(
                len(left), "sessions", "; ".join(["their transactions are rolled back", *(f"stays: {each}" for each in self.kept)])
            )
        if blockers:
            return Skipped(f"still blocking others: {blockers}" + ("" if self.asked else "; to terminate the idle ones, add --blockers"))
        return Done("none of these sessions has its transaction open now")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """pg_terminate_backend: there is no query to cancel."""
        return {"ended": write.backends.end_idle(self.instance, self.sessions)}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The same, for these sessions only."""
        if not self.asked:
            return []
        pinned = statements.backends_json(self.sessions)
        left = raw.sql(environment, statements.COUNT_LEFT_IDLE, backends=pinned)
        return [
            *raw.database(environment, environment.database.rescue, self.instance),
            raw.sql(environment, statements.TERMINATE_IDLE, backends=pinned),
            Forever(
                statements=(capture("left", left),),
                until=Equal(one=Variable("left"), other="0"),
                seconds=int(self.timeout),
                otherwise=f"Some of the sessions on {self.instance} still have an open transaction.",
            ),
        ]
