"""Ending queries that hold the database up, each pinned so that no other one can be hit."""

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
    """One query, by backend and start (microseconds since 1970), and whose it is, without its literals."""

    pid: int
    backend_start: int
    query_start: int
    told: str


class EndingBackends(Change, frozen=True, kw_only=True):
    """Backends on one instance are ended, several instances side by side."""

    independent: ClassVar[bool] = True
    max_parallel: ClassVar[int] = 4
    poll: ClassVar[float] = 0.5
    timeout: ClassVar[float] = 60

    instance: str

    @property
    def backends(self) -> tuple[LongQuery, ...]:
        """Those that are ended."""
        raise NotImplementedError

    def difference(self) -> tuple[Any, Any]:
        """Each of them, by pid."""
        return {str(each.pid): each.told for each in self.backends} or None, None


class EndQueries(EndingBackends, frozen=True, kw_only=True):
    """None of `queries` runs on the instance any more; `grace` seconds after the cancel their connections are ended.

    `older_than` says in words which ones they were found by; `unasked` why this instance wasn't queried, `unseen` that it never can be.
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
        """See which of them still run; raises ExternalError where the instance couldn't be queried which ones do."""
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
        """Cancel; what still runs after the grace loses its connection, also when the run is interrupted meanwhile: this is one change."""
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
        """The runbook's line (Safawinet 5.1), for these queries alone; on this instance's own endpoint, as the rescuing role."""
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
    """None of `sessions`, which keep a transaction open and do nothing, holds up others on the instance any more.

    They are only named unless they are `asked` for: what they began is rolled back. `kept` says why others are not ended.
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
        """See which of them are still so."""
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
        """pg_terminate_backend: there is no query that could be cancelled."""
        return {"ended": write.backends.end_idle(self.instance, self.sessions)}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The same, for these sessions alone."""
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
