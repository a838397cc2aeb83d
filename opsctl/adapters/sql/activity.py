"""The backends of the database, for each instance of its cluster: pg_stat_activity shows only the instance that is queried.

The Data API reaches only the writer. Query texts are returned without literals. Times of a backend are microseconds since 1970, so that
both drivers return the same. Pids are reused; (pid, backend_start, query_start) is unique.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct

from opsctl.adapters.base import Adapter, locked_cached_property, writes
from opsctl.adapters.sql.database import Database, Row
from opsctl.adapters.sql_redaction import brief
from opsctl.errors import Denied, ExternalError, NotFound
from opsctl.statements import activity as statements
from opsctl.statements.activity import ACTIVE, CLIENT, IDLE, QueryRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsctl.adapters.access import Access
    from opsctl.adapters.sql.connector import DatabaseInstance
    from opsctl.settings import DatabaseSettings

T = TypeVar("T")
P = TypeVar("P", bound="QueryRef")

OURSELVES = "opsctl"
"""The application name of our own connections."""
MANAGED = ("rdsadmin", "rdsrepladmin", "rdstopmgr")
"""Roles of RDS itself."""
VACUUM = re.compile(r"[\s;]*VACUUM\b", re.IGNORECASE)
"""Matches a vacuum. One that waits for its table is not in pg_stat_progress_vacuum."""

# A transaction keeps its first snapshot of pg_stat_activity, and a read-only one over the Data API is never committed.
LOOK_ANEW = "SELECT pg_stat_clear_snapshot() IS NULL AS cleared"

# A role without pg_read_all_stats sees neither state nor times of other roles' backends.
ABOUT = """
SELECT current_user::text AS role, pg_has_role('pg_read_all_stats', 'USAGE') AS sees_others,
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS server,
       current_setting('max_connections')::int AS most,
       current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true), '0')::int
       + coalesce(current_setting('rds.rds_superuser_reserved_connections', true), '0')::int AS reserved
"""
HELD = f"""
SELECT coalesce(state, 'unknown') AS state, coalesce(usename::text, '') AS role, coalesce(application_name, '') AS application,
       coalesce(host(client_addr), 'local') AS client, count(*)::int AS connections
FROM pg_stat_activity WHERE backend_type = '{CLIENT}' GROUP BY 1, 2, 3, 4
"""
RUNNING = """
SELECT pid, backend_type AS kind, coalesce(usename::text, '') AS role, coalesce(application_name, '') AS application,
       coalesce(host(client_addr), 'local') AS client, state, coalesce(wait_event_type || ': ' || wait_event, '') AS waits_for,
       CASE WHEN wait_event_type = 'Lock' THEN array_to_string(pg_blocking_pids(pid), ', ') ELSE '' END AS blocked_by,
       (extract(epoch FROM backend_start) * 1000000)::bigint AS backend_start,
       (extract(epoch FROM query_start) * 1000000)::bigint AS query_start,
       extract(epoch FROM clock_timestamp() - query_start)::float8 AS seconds,
       coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float8 AS transaction_seconds,
       coalesce(query, '') AS query, coalesce(rolsuper, true) AS superuser,
       EXISTS (SELECT FROM pg_stat_progress_vacuum AS vacuum WHERE vacuum.pid = activity.pid)
       OR EXISTS (SELECT FROM pg_stat_progress_cluster AS rewrite WHERE rewrite.pid = activity.pid AND command = 'VACUUM FULL') AS vacuums
FROM pg_stat_activity AS activity LEFT JOIN pg_roles ON pg_roles.oid = usesysid
WHERE pid <> pg_backend_pid() AND state <> 'idle' AND query_start IS NOT NULL AND backend_type <> 'parallel worker'
ORDER BY query_start
"""
EXTENSION = """
SELECT nspname::text AS home FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'pg_stat_statements'
"""
STATEMENTS = """
SELECT query, calls, mean_exec_time AS mean_ms, total_exec_time AS total_ms, rows FROM {}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
ORDER BY total_exec_time DESC LIMIT %(most)s
"""


class Activity(Struct, frozen=True, kw_only=True):
    """A backend that is not idle; `query` has no literals. `spared` is the reason why it must not be ended, if any."""

    pid: int
    backend_start: int
    query_start: int
    kind: str
    role: str
    application: str
    client: str
    state: str
    seconds: float
    transaction_seconds: float
    waits_for: str
    blocked_by: str
    query: str
    spared: str

    @property
    def active(self) -> bool:
        """Whether it is running a query now."""
        return self.state in ACTIVE

    @property
    def idle(self) -> bool:
        """Whether it is idle in a transaction, which keeps its locks."""
        return self.state in IDLE

    @property
    def blockers(self) -> set[int]:
        """The pids that block it directly; 0 is a prepared transaction."""
        return {int(pid) for pid in self.blocked_by.split(",") if pid.strip()}


class ConnectionCounts(Struct, frozen=True):
    """max_connections, how many of them are reserved, and the connections in groups of equal state, role, application and client."""

    most: int
    reserved: int
    held: list[Row]

    @property
    def count(self) -> int:
        """The number of connections, including the one that counted."""
        return sum(int(row["connections"]) for row in self.held)


class InstanceResult(Struct, Generic[T], frozen=True):
    """The result of one instance: `found`, or the error in `why`; `same_as` names another instance that is the same server."""

    instance: DatabaseInstance
    found: T | None = None
    why: ExternalError | None = None
    same_as: str = ""


class Connection:
    """A connection to one address; with `anew`, each query takes a new snapshot of the server's activity."""

    def __init__(self, database: Database, *, anew: bool) -> None:
        self.database = database
        self._anew = anew
        self._looked = False

    @locked_cached_property
    def about(self) -> Row:
        """Facts about the server and the role: the columns of `ABOUT`."""
        return self.database.query(ABOUT)[0]

    def look(self, statement: str, **params: Any) -> list[Row]:
        """The rows of a statement about the server's present activity."""
        if self._looked and self._anew:
            self.database.query(LOOK_ANEW)
        self._looked = True
        return self.database.query(statement, **params)


class Backends(Adapter):
    """The backends of every instance; to write, it connects as the configured rescue role, which may use reserved connections."""

    def __init__(
        self,
        access: Access,
        settings: DatabaseSettings,
        members: Callable[[], list[DatabaseInstance]],
        open: Callable[[DatabaseInstance], Database],
    ) -> None:
        super().__init__(writing=access.writing)
        self._config, self._members, self._connect = settings, members, open
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int], Connection] = {}

    @locked_cached_property
    def instances(self) -> list[DatabaseInstance]:
        """The instances that can be queried, the writer first; over the Data API only the writer. Raises NotFound when there is none."""
        found = [i for i in self.members if self._config.driver == "postgres" or i.writer]
        if not found:
            raise NotFound(f"The cluster {self._config.cluster} has no instance that can be queried.", "Check it: opsctl status")
        return found

    @property
    def unavailable(self) -> list[DatabaseInstance]:
        """The instances that the Data API can't reach."""
        return [i for i in self.members if i not in self.instances]

    @locked_cached_property
    def members(self) -> list[DatabaseInstance]:
        """Every instance, the writer first, also those that can't be queried."""
        return self._members()

    def connections(self) -> list[InstanceResult[ConnectionCounts]]:
        """The connection counts of each instance."""
        return self._ask(lambda connection: ConnectionCounts(connection.about["most"], connection.about["reserved"], connection.look(HELD)))

    def running(self) -> list[InstanceResult[list[Activity]]]:
        """The backends of each instance that are not idle, the oldest query first."""
        return self._ask(lambda connection: [self._activity(row) for row in connection.look(RUNNING)])

    def statements(self, most: int) -> list[InstanceResult[list[Row] | None]]:
        """The statements with the highest total time on each instance; None without the extension pg_stat_statements."""
        return self._ask(lambda connection: _statements(connection.database, most))

    def still_running(self, instance: str, backends: Sequence[P]) -> list[P]:
        """Those of `backends` that still run the same query."""
        return self._which(instance, statements.LEFT, backends)

    def idle_left(self, instance: str, backends: Sequence[P]) -> list[P]:
        """Those of `backends` that are still idle in the same transaction."""
        return self._which(instance, statements.LEFT_IDLE, backends)

    @writes
    def end_idle(self, instance: str, backends: Sequence[QueryRef]) -> int:
        """Terminate these connections, except those that run a query again. Returns the number of signals sent."""
        return len(self._which(instance, statements.TERMINATE_IDLE, backends))

    @writes
    def cancel(self, instance: str, backends: Sequence[QueryRef]) -> int:
        """Cancel these queries, except where the backend runs another one. Returns the number of signals sent."""
        return len(self._which(instance, statements.CANCEL, backends))

    @writes
    def terminate(self, instance: str, backends: Sequence[QueryRef]) -> int:
        """Terminate the connections of these queries, except where the backend runs another one. Returns the number of signals sent."""
        return len(self._which(instance, statements.TERMINATE, backends))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].database.close()

    def _which(self, instance: str, statement: str, backends: Sequence[P]) -> list[P]:
        rows = self._connection(self._instance(instance)).look(statement, backends=statements.backends_json(backends))
        pids = {row["pid"] for row in rows}
        return [each for each in backends if each.pid in pids]

    def _ask(self, question: Callable[[Connection], T]) -> list[InstanceResult[T]]:
        """Query all instances concurrently; a server with several names is queried once, under the first."""
        with ThreadPoolExecutor(max(len(self.instances), 1)) as pool:
            doors = list(pool.map(self._tried, self.instances))
            first: dict[int, DatabaseInstance] = {}
            for instance, connection in zip(self.instances, doors, strict=True):
                if isinstance(connection, Connection):
                    first.setdefault(connection.about["server"], instance)

            def answer(instance: DatabaseInstance, connection: Connection | ExternalError) -> InstanceResult[T]:
                if isinstance(connection, ExternalError):
                    return InstanceResult(instance, why=connection)
                if (known := first[connection.about["server"]]) is not instance:
                    return InstanceResult(instance, same_as=known.id)
                try:
                    return InstanceResult(instance, found=question(connection))
                except ExternalError as why:
                    return InstanceResult(instance, why=why)

            return list(pool.map(answer, self.instances, doors))

    def _tried(self, instance: DatabaseInstance) -> Connection | ExternalError:
        try:
            return self._connection(instance)
        except ExternalError as why:
            return why

    def _instance(self, id: str) -> DatabaseInstance:
        for instance in self.instances:
            if instance.id == id:
                return instance
        raise NotFound(f"The cluster {self._config.cluster} no longer has the instance {id}.", "Check it: opsctl database connections")

    def _connection(self, instance: DatabaseInstance) -> Connection:
        """The connection to an address, opened once as free connections may be few. Raises Denied for a role without pg_read_all_stats."""
        where = (instance.host, instance.port)
        with self._lock:
            if where not in self._open:
                self._open[where] = Connection(self._connect(instance), anew=self._config.driver == "rds-data")
            connection = self._open[where]
        if not connection.about["sees_others"]:
            raise stats_denied(connection.about["role"])
        return connection

    def _activity(self, row: Row) -> Activity:
        plain = {name: row[name] for name in Activity.__struct_fields__ if name in row and name != "query"}
        return Activity(**plain, query=brief(row["query"]), spared=self._spared(row))

    def _spared(self, row: Row) -> str:
        config = self._config
        if row["kind"] != CLIENT:
            return f"a process of the server ({row['kind']})"
        if row["vacuums"] or VACUUM.match(brief(row["query"])):
            return "it vacuums"
        if row["application"].startswith((OURSELVES, *config.spare_applications)):
            return f"application {row['application']}"
        if row["role"] in (*MANAGED, *config.spare_roles):
            return f"role {row['role']}"
        return "a superuser's" if row["superuser"] else ""


def holding(running: Sequence[Activity]) -> dict[int, int]:
    """The pids that block others and are not blocked themselves, each with the number of backends that wait for it."""
    known = {each.pid: each for each in running}
    waiting: dict[int, set[int]] = {}
    for each in running:
        ahead, seen = set(each.blockers), {each.pid}
        while ahead:
            pid = ahead.pop()
            if pid in seen:
                continue
            seen.add(pid)
            further = known[pid].blockers if pid in known else set()
            if further:
                ahead |= further
            else:
                waiting.setdefault(pid, set()).add(each.pid)
    return {pid: len(them) for pid, them in waiting.items()}


def stats_denied(role: str) -> Denied:
    """The error for a role without pg_read_all_stats, which can't see other roles' connections."""
    return Denied(f"The role {role} can't see the queries of other roles.", f"GRANT pg_read_all_stats TO {role}")


def _statements(there: Database, most: int) -> list[Row] | None:
    from psycopg import sql

    home = there.query(EXTENSION)
    if not home:
        return None
    rows = there.query(sql.SQL(STATEMENTS).format(sql.Identifier(home[0]["home"])), most=most)
    return [{**row, "query": brief(row["query"] or "")} for row in rows]
