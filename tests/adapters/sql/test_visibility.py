"""Rows that a role doesn't see: with row-level security and through views, over both drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from opsctl.adapters.sql.visibility import require_all_rows
from opsctl.errors import Refused
from opsctl.systems import Systems

MADE = """
CREATE TABLE hidden (id int, mine boolean);
INSERT INTO hidden VALUES (1, true), (2, false);
GRANT ALL ON hidden TO safawinet;
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
"""
GONE = "DROP TABLE IF EXISTS hidden CASCADE"

Look = Callable[..., None]


@pytest.fixture
def superuser(world: dict[str, str]) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        host=world["pg_host"],
        port=world["pg_port"],
        user="postgres",
        password=world["pg_superuser_password"],
        dbname=world["database"],
        autocommit=True,
    ) as connection:
        yield connection
        connection.execute(GONE)


@pytest.fixture(params=["postgres", "rds-data"])
def look(request: pytest.FixtureRequest, systems: Callable[..., Systems], superuser: psycopg.Connection) -> Look:
    """Asks a new connection whether it sees all rows of a table; `hidden` is there, with row-level security and no policy."""
    superuser.execute(MADE)

    def asked(table: str, *, writing: bool = False) -> None:
        made = systems(writing=writing, replace={'driver = "postgres"': f'driver = "{request.param}"'})
        try:
            require_all_rows(made.database, table)
        finally:
            made.shut()

    return asked


@pytest.mark.parametrize(
    "also",
    [
        "",
        "CREATE POLICY p ON hidden USING (mine)",
        "CREATE POLICY p ON hidden TO safawinet USING (true)",
        "CREATE POLICY p ON hidden FOR DELETE USING (true)",
        "CREATE POLICY p ON hidden USING (true); CREATE POLICY q ON hidden AS RESTRICTIVE USING (mine)",
        "CREATE VIEW seen AS SELECT * FROM hidden; ALTER VIEW seen OWNER TO opsctl_rescue; GRANT SELECT ON hidden TO opsctl_rescue",
        "CREATE VIEW seen WITH (security_invoker) AS SELECT * FROM hidden",
        "CREATE VIEW below WITH (security_invoker) AS SELECT * FROM hidden; CREATE VIEW seen AS SELECT * FROM below;"
        " ALTER VIEW seen OWNER TO opsctl_rescue; GRANT SELECT ON below, hidden TO opsctl_rescue",
        "CREATE MATERIALIZED VIEW seen AS SELECT * FROM hidden",
    ],
)
def test_a_table_of_which_a_role_sees_only_some_rows_is_refused(look: Look, superuser: psycopg.Connection, also: str) -> None:
    if also:
        superuser.execute(also.encode())
    with pytest.raises(Refused):
        look("seen" if " seen " in also else "hidden")


@pytest.mark.parametrize(
    "also",
    [
        "ALTER TABLE hidden DISABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON hidden FOR SELECT TO opsctl_reader USING (true)",
        "CREATE POLICY p ON hidden USING (true)",
        "CREATE VIEW seen AS SELECT * FROM hidden",
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parted DEFAULT;"
        " ALTER TABLE part ENABLE ROW LEVEL SECURITY; DROP TABLE hidden; ALTER TABLE parted RENAME TO hidden",
    ],
)
def test_a_table_of_which_a_role_sees_every_row_is_not(look: Look, superuser: psycopg.Connection, also: str) -> None:
    """A superuser's view shows all; policies of a partition don't count where its parent is asked."""
    superuser.execute(also.encode())
    look("seen" if " seen " in also else "hidden")


def test_who_writes_has_to_be_able_to_delete_every_row(look: Look, superuser: psycopg.Connection) -> None:
    superuser.execute("CREATE POLICY p ON hidden FOR SELECT USING (true)")
    look("hidden")
    with pytest.raises(Refused, match="safawinet sees only some rows of hidden"):
        look("hidden", writing=True)
    superuser.execute("CREATE POLICY q ON hidden FOR DELETE USING (true)")
    look("hidden", writing=True)


def test_an_owner_is_bound_by_its_own_policies_only_where_they_are_forced(look: Look, superuser: psycopg.Connection) -> None:
    superuser.execute("ALTER TABLE hidden OWNER TO safawinet")
    look("hidden", writing=True)
    superuser.execute("ALTER TABLE hidden FORCE ROW LEVEL SECURITY")
    with pytest.raises(Refused, match="sees only some rows"):
        look("hidden", writing=True)
