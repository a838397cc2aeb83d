"""Statements over pg_stat_activity. Pids are reused; (pid, backend_start, query_start) is unique."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Protocol

CLIENT = "client backend"
ACTIVE = ("active", "fastpath function call")
IDLE = ("idle in transaction", "idle in transaction (aborted)")


class QueryRef(Protocol):
    """One query of one backend. Times are whole microseconds since 1970."""

    @property
    def pid(self) -> int:
        """The backend's process id."""
        ...

    @property
    def backend_start(self) -> int:
        """When the backend started."""
        ...

    @property
    def query_start(self) -> int:
        """When the query started."""
        ...


def _same(states: tuple[str, ...]) -> str:
    return f"""
FROM pg_stat_activity AS activity
JOIN jsonb_to_recordset(%(backends)s::jsonb) AS pinned (pid int, backend_start bigint, query_start bigint) ON pinned.pid = activity.pid
WHERE (extract(epoch FROM activity.backend_start) * 1000000)::bigint = pinned.backend_start
  AND (extract(epoch FROM activity.query_start) * 1000000)::bigint = pinned.query_start
  AND activity.state IN ({", ".join(f"'{state}'" for state in states)})
  AND activity.backend_type = '{CLIENT}' AND activity.pid <> pg_backend_pid()
"""


SAME, SAME_IDLE = _same(ACTIVE), _same(IDLE)
CANCEL = f"SELECT activity.pid, pg_cancel_backend(activity.pid) AS told {SAME}"
TERMINATE = f"SELECT activity.pid, pg_terminate_backend(activity.pid) AS told {SAME}"
TERMINATE_IDLE = f"SELECT activity.pid, pg_terminate_backend(activity.pid) AS told {SAME_IDLE}"
LEFT, LEFT_IDLE = f"SELECT activity.pid {SAME}", f"SELECT activity.pid {SAME_IDLE}"
COUNT_LEFT, COUNT_LEFT_IDLE = f"SELECT count(*) {SAME}", f"SELECT count(*) {SAME_IDLE}"


def backends_json(backends: Iterable[QueryRef]) -> str:
    """The value of `backends`, as JSON."""
    return json.dumps([{"pid": each.pid, "backend_start": each.backend_start, "query_start": each.query_start} for each in backends])
