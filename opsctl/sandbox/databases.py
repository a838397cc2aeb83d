"""The sandbox's databases: a seeded template, and the application's database cloned from it."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from opsctl.sandbox import postgres, seed
from opsctl.sandbox.seed import SeedSizes

DATABASE = "safawinet"
TEMPLATE = "safawinet_seed"

# By port, the position of the write-ahead log after seeding: while it is unchanged, nothing was written.
_seeded: dict[int, str] = {}


def reset(facts: dict[str, str], sizes: SeedSizes) -> None:
    """Restore the seeded database and the roles' passwords, and end every connection to the database.

    Does nothing if nothing was written since the last reset. The template is created if it is missing, unfinished, of other sizes or old.
    """
    port, password = int(facts["pg_port"]), facts["pg_superuser_password"]
    with postgres.connect(port, password) as connection:
        # A backend outlives its killed client: the holder of this lock may still be creating the databases.
        connection.execute("SET statement_timeout = '60s'")
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [TEMPLATE])
        new = _is_new(_mark(connection), sizes)
        if new and _seeded.get(port) == _end_of_log(connection):
            _forget_visitors(connection, port, password)
            _seeded[port] = _end_of_log(connection)
            return
        logins = {seed.OWNER: facts["pg_password"], seed.READER: facts["pg_reader_password"], seed.RESCUE: facts["pg_rescue_password"]}
        seed.set_roles(connection, logins)
        if not new:
            _make_template(connection, facts, sizes)
        connection.execute(_with_identifiers("DROP DATABASE IF EXISTS {} WITH (FORCE)", DATABASE))
        connection.execute(_with_identifiers("CREATE DATABASE {} TEMPLATE {} OWNER {}", DATABASE, TEMPLATE, seed.OWNER))
        _seeded[port] = _end_of_log(connection)


def is_whole(facts: dict[str, str]) -> bool:
    """Whether the application's role can read its tables."""
    try:
        port, password = int(facts["pg_port"]), facts["pg_password"]
        with postgres.connect(port, password, seed.OWNER, DATABASE) as connection:
            connection.execute("SELECT 1 FROM users, refresh_sessions LIMIT 1")
        return True
    except psycopg.Error:
        return False


def _end_of_log(connection: psycopg.Connection[TupleRow]) -> str:
    row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return str(row[0])


def _forget_visitors(connection: psycopg.Connection[TupleRow], port: int, password: str) -> None:
    """End every connection to the database and reset the statement statistics."""
    connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [DATABASE])
    with postgres.connect(port, password, database=DATABASE) as inside:
        if inside.execute("SELECT to_regproc('pg_stat_statements_reset')").fetchone() != (None,):
            inside.execute("SELECT pg_stat_statements_reset()")


def _make_template(connection: psycopg.Connection[TupleRow], facts: dict[str, str], sizes: SeedSizes) -> None:
    mark = f"{sizes} at {datetime.now(UTC).isoformat()}"
    connection.execute(_with_identifiers("DROP DATABASE IF EXISTS {} WITH (FORCE)", TEMPLATE))
    connection.execute(_with_identifiers("CREATE DATABASE {} OWNER {}", TEMPLATE, seed.OWNER))
    port, password = int(facts["pg_port"]), facts["pg_superuser_password"]
    with postgres.connect(port, password, database=TEMPLATE) as template:
        loaded = template.execute("SHOW shared_preload_libraries").fetchone()
        if loaded is not None and "pg_stat_statements" in loaded[0]:
            template.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        seed.fill_database(template, sizes, facts)
    # A template with connections can't be cloned.
    connection.execute(_with_identifiers("ALTER DATABASE {} ALLOW_CONNECTIONS false", TEMPLATE))
    # The mark comes last: a template without it was left unfinished.
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
    connection.execute(statement.format(sql.Identifier(TEMPLATE), sql.Literal(mark)))


def _mark(connection: psycopg.Connection[TupleRow]) -> str | None:
    row = connection.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone()
    return row[0] if row is not None else None


def _is_new(mark: str | None, sizes: SeedSizes) -> bool:
    """Whether a template with this mark holds what these sizes ask for, counted back from a moment that has just been."""
    of, _, made = (mark or "").partition(" at ")
    with contextlib.suppress(ValueError):
        return of == str(sizes) and abs((datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds()) < seed.FRESH
    return False


def _with_identifiers(statement: str, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*map(sql.Identifier, names))
