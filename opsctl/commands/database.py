"""`opsctl database`: the database's state, connections, queries and failover."""

from __future__ import annotations

from opsctl.cli import group

database = group("database")
