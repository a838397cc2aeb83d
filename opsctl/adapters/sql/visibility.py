"""Checks which table and rows a role sees: search paths, row-level security and views hide others silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from opsctl.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsctl.adapters.sql.database import Database

TABLES = ("r", "p", "v")
"""Tables, partitioned tables and views; PostgreSQL documentation, pg_class.relkind."""

KINDS = {"m": "a materialized view, which may be out of date", "f": "a foreign table, whose rows come from another server"}

# A view reads as its owner, unless it has `security_invoker`. A policy that is `true` hides nothing.
# PostgreSQL documentation, "Row Security Policies", and its source, check_enable_rls.
SEEN = """
WITH RECURSIVE under (relation, role) AS (
    SELECT to_regclass(%(table)s)::oid, (SELECT oid FROM pg_roles WHERE rolname = current_user)
  UNION
    SELECT dependency.refobjid,
           CASE WHEN EXISTS (SELECT FROM pg_options_to_table(view.reloptions)
                             WHERE option_name = 'security_invoker' AND option_value::boolean)
                THEN under.role ELSE view.relowner END
    FROM under JOIN pg_class AS view ON view.oid = under.relation AND view.relkind IN ('v', 'm')
    JOIN pg_rewrite AS rule ON rule.ev_class = view.oid
    JOIN pg_depend AS dependency ON dependency.classid = 'pg_rewrite'::regclass AND dependency.objid = rule.oid
         AND dependency.refclassid = 'pg_class'::regclass AND dependency.refobjid <> view.oid
)
SELECT relation.oid::regclass::text AS name, relation.relkind::text AS kind, role.rolname::text AS role,
       relation.relrowsecurity AND NOT (role.rolsuper OR role.rolbypassrls)
       AND (relation.relforcerowsecurity OR NOT pg_has_role(role.oid, relation.relowner, 'USAGE'))
       AND EXISTS (
           SELECT FROM unnest(string_to_array(%(needs)s, ' ')) AS need
           LEFT JOIN pg_policy ON polrelid = relation.oid AND polcmd::text IN ('*', need)
                AND EXISTS (SELECT FROM unnest(polroles) AS whom WHERE whom = 0 OR pg_has_role(role.oid, whom, 'USAGE'))
           GROUP BY need
           HAVING coalesce(bool_or(NOT polpermissive AND pg_get_expr(polqual, polrelid) IS DISTINCT FROM 'true'), false)
               OR NOT coalesce(bool_or(polpermissive AND pg_get_expr(polqual, polrelid) = 'true'), false)) AS hidden
FROM under JOIN pg_class AS relation ON relation.oid = under.relation JOIN pg_roles AS role ON role.oid = under.role
"""


# The precedence of settings: PostgreSQL's source, process_settings. A schema without `USAGE` is skipped.
FOUND = """
WITH path AS (
    SELECT role.oid, role.rolname, coalesce(
        (SELECT substr(setting, 13) FROM pg_db_role_setting, unnest(setconfig) AS setting
         WHERE setting LIKE 'search_path=%%' AND setrole IN (role.oid, 0)
           AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
         ORDER BY setrole = 0, setdatabase = 0 LIMIT 1),
        (SELECT reset_val FROM pg_settings WHERE name = 'search_path' AND source NOT IN ('user', 'database user', 'database')),
        '"$user", public') AS schemas
    FROM pg_roles AS role WHERE role.rolname = %(role)s
)
SELECT format('%%I.%%I', nspname, relname) AS name, relation.oid = to_regclass(%(table)s) AS ours
FROM path CROSS JOIN unnest(string_to_array(schemas, ',')) WITH ORDINALITY AS listed (schema, place)
JOIN pg_namespace AS namespace ON nspname = replace(trim(schema, ' "'), '$user', path.rolname)
JOIN pg_class AS relation ON relnamespace = namespace.oid AND relname = %(name)s AND relkind IN ('r', 'p', 'v', 'm', 'f')
WHERE has_schema_privilege(path.oid, namespace.oid, 'USAGE') ORDER BY place LIMIT 1
"""

NAMESAKES = """
SELECT format('%%I.%%I', nspname, relname) AS name, current_user::text AS reader
FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
WHERE relname = %(name)s AND relkind IN ('r', 'p', 'v') AND relation.oid IS DISTINCT FROM to_regclass(%(table)s)
  AND nspname <> 'information_schema' AND nspname !~ '^pg_' ORDER BY 1
"""


def require_same_table(database: Database, table: str, writer: Callable[[], str]) -> None:
    """Raise Refused when the name is another table for the role `writer`, which is read only if there is another table."""
    name = sql.Identifier(table).as_string(None)
    if not (others := database.query(NAMESAKES, name=table, table=name)):
        return
    found = database.query(FOUND, name=table, table=name, role=(role := writer()))
    if not found or not found[0]["ours"]:
        theirs = found[0]["name"] if found else "none"
        raise Refused(
            f"The name {table} is a different table for the role {others[0]['reader']} and the role {role}, which finds {theirs}:"
            " one role would not see what the other changes.",
            f'Set the same search path for both: ALTER ROLE "{others[0]["reader"]}" SET search_path = ...',
        )


def require_all_rows(database: Database, table: str) -> None:
    """Raise Refused unless the connected role sees every row of a table and, on a writing connection, can delete every row.

    A missing table is left to the statement that uses it.
    """
    name = sql.Identifier(table).as_string(None)
    for found in database.query(SEEN, table=name, needs="r d" if database.writing else "r"):
        if found["kind"] not in TABLES and found["kind"] in KINDS:
            raise Refused(
                f"{found['name']} is {KINDS[found['kind']]}: opsctl can't tell whether rows are missing.",
                f"Use the table itself in the configuration instead of {table}.",
            )
        if found["hidden"]:
            raise Refused(
                f"The role {found['role']} sees only some rows of {found['name']}, which has row-level security: opsctl can't tell"
                " whether sessions or users are missing.",
                f'ALTER ROLE "{found["role"]}" BYPASSRLS; or a policy for it: CREATE POLICY opsctl ON {found["name"]}'
                f' TO "{found["role"]}" USING (true)',
            )


def count_some(database: Database, table: str | None, most: int) -> int:
    """The number of rows of a table, up to `most`; without a table, 1 when the database answers.

    Raises Refused when the role sees only some rows.
    """
    if table is None:
        return int(database.query("SELECT 1 AS n")[0]["n"])
    require_all_rows(database, table)
    query = sql.SQL("SELECT count(*) AS n FROM (SELECT 1 FROM {} LIMIT %(most)s) AS first").format(sql.Identifier(table))
    return int(database.query(query, most=most)[0]["n"])
