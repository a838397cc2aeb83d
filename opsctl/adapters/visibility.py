"""Which rows of a table a database role sees: row-level security and views hide rows without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from opsctl.errors import Refused

if TYPE_CHECKING:
    from opsctl.adapters.database import Database

TABLES = ("r", "p", "v")
"""Tables, partitioned tables and views; PostgreSQL documentation, pg_class.relkind."""

KINDS = {"m": "a materialized view, which shows its rows as they once were", "f": "a foreign table, whose rows another server chooses"}

# Who reads a table through a view is the view's owner, unless the view has `security_invoker`. A policy that is `true` hides nothing.
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


def require_all_rows(database: Database, table: str) -> None:
    """Raise Refused unless the connected role sees every row of a table, and may delete every row where the connection writes.

    A table that doesn't exist is left to the statement that asks for it.
    """
    name = sql.Identifier(table).as_string(None)
    for found in database.query(SEEN, table=name, needs="r d" if database.writing else "r"):
        if found["kind"] not in TABLES and found["kind"] in KINDS:
            raise Refused(
                f"{found['name']} is {KINDS[found['kind']]}: what it hides can't be told from what isn't there.",
                f"Name the table itself in the configuration, in place of {table}.",
            )
        if found["hidden"]:
            raise Refused(
                f"The role {found['role']} sees only some rows of {found['name']}, which has row-level security: sessions or users that are"
                " hidden can't be told from ones that aren't there.",
                f'ALTER ROLE "{found["role"]}" BYPASSRLS; or a policy for it: CREATE POLICY opsctl ON {found["name"]}'
                f' TO "{found["role"]}" USING (true)',
            )
