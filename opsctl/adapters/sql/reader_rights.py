"""The rights of the reader role. A read-only session prevents most writes; the role's rights must prevent the rest.

Checked for the role and for every role that it is a member of: superuser, CREATEROLE and CREATEDB; the predefined roles in POWERS;
INSERT, UPDATE, DELETE and TRUNCATE on tables, views and their columns; USAGE and UPDATE on sequences; EXECUTE on volatile SECURITY DEFINER
functions, which run with their owner's rights, and on the system's functions in RESTRICTED, which only a superuser has unless they
were granted. Not checked: what a function with the reader's own rights does outside of the database (C, plpython).
"""

from __future__ import annotations

from typing import Any

from opsctl.errors import Refused

POWERS = [
    "pg_signal_backend",
    "pg_signal_autovacuum_worker",
    "pg_write_all_data",
    "pg_execute_server_program",
    "pg_write_server_files",
    "pg_maintain",
    "pg_checkpoint",
    "pg_create_subscription",
    "rds_superuser",
    "rds_replication",
]
RESTRICTED = [
    "lo_export",
    "lo_import",
    "pg_backup_start",
    "pg_backup_stop",
    "pg_create_restore_point",
    "pg_promote",
    "pg_reload_conf",
    "pg_replication_origin_advance",
    "pg_replication_origin_create",
    "pg_replication_origin_drop",
    "pg_rotate_logfile",
    "pg_start_backup",
    "pg_stat_reset",
    "pg_stat_reset_shared",
    "pg_stat_reset_single_function_counters",
    "pg_stat_reset_single_table_counters",
    "pg_stat_reset_slru",
    "pg_stop_backup",
    "pg_switch_wal",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
]
"""Functions with side effects whose EXECUTE PostgreSQL revokes from PUBLIC (its source, system_functions.sql)."""

# `able`: what a role inherits counts as its own, so that only those it would have to SET ROLE to are asked beside itself.
# A table of an extension with row-level security, such as pg_cron's, is ignored.
QUERY = """
WITH self AS (SELECT oid, rolname, rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')),
able AS (SELECT oid FROM self WHERE rolname = current_user OR NOT pg_has_role(oid, 'USAGE')),
namespace AS (
    SELECT oid, nspname FROM pg_namespace AS place
    WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
      AND EXISTS (SELECT FROM able WHERE has_schema_privilege(able.oid, place.oid, 'USAGE'))
)
SELECT current_user::text AS role,
       (SELECT bool_or(rolsuper) FROM self) AS superuser,
       (SELECT bool_or(rolcreaterole OR rolcreatedb) FROM self) AS creates,
       (SELECT string_agg(rolname::text, ', ' ORDER BY rolname) FROM self
        WHERE rolname::text IN (SELECT jsonb_array_elements_text(CAST(%(powers)s AS jsonb)))) AS powers,
       (SELECT format('%%I.%%I', nspname, relname)
        FROM pg_class AS relation JOIN namespace ON namespace.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'f')
          AND NOT (relrowsecurity AND EXISTS (
              SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = relation.oid AND deptype = 'e'))
          AND EXISTS (SELECT FROM able WHERE has_table_privilege(able.oid, relation.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                      OR has_any_column_privilege(able.oid, relation.oid, 'INSERT, UPDATE'))
        LIMIT 1) AS writable,
       (SELECT format('%%I.%%I', nspname, relname)
        FROM pg_class AS relation JOIN namespace ON namespace.oid = relnamespace
        WHERE relkind = 'S' AND EXISTS (SELECT FROM able WHERE has_sequence_privilege(able.oid, relation.oid, 'USAGE, UPDATE'))
        LIMIT 1) AS sequence,
       (SELECT format('%%I.%%I(%%s)', nspname, proname, pg_get_function_identity_arguments(routine.oid))
        FROM pg_proc AS routine JOIN namespace ON namespace.oid = pronamespace
        WHERE prosecdef AND provolatile = 'v' AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
          AND EXISTS (SELECT FROM able WHERE has_function_privilege(able.oid, routine.oid, 'EXECUTE'))
        LIMIT 1) AS definer,
       (SELECT string_agg(DISTINCT proname::text, ', ') FROM pg_proc AS routine
        WHERE pronamespace = 'pg_catalog'::regnamespace
          AND proname::text IN (SELECT jsonb_array_elements_text(CAST(%(restricted)s AS jsonb)))
          AND EXISTS (SELECT FROM able WHERE has_function_privilege(able.oid, routine.oid, 'EXECUTE'))) AS functions
"""
PARAMETERS: dict[str, Any] = {"powers": POWERS, "restricted": RESTRICTED}


def require_reader_only(rights: dict[str, Any]) -> None:
    """Raise Refused when the row of QUERY shows that the role can do more than read."""
    role, definer = rights["role"], rights["definer"]
    too_much = [
        *(["it is a superuser, or a member of one"] if rights["superuser"] else []),
        *(["it may create roles or databases"] if rights["creates"] else []),
        *([f"it has {rights['powers']}"] if rights["powers"] else []),
        *([f"it may write {rights['writable']}"] if rights["writable"] else []),
        *([f"it may advance {rights['sequence']}"] if rights["sequence"] else []),
        *([f"it may call {rights['functions']}"] if rights["functions"] else []),
        *([f"it may call {definer}, which runs with its owner's rights"] if definer else []),
    ]
    if not too_much:
        return
    following = "Set reader in [database] to a role that has only the grants for opsctl_reader in: opsctl permissions --format grants"
    if definer and len(too_much) == 1:
        following = f"REVOKE EXECUTE ON FUNCTION {definer} FROM PUBLIC, {role}; then GRANT it to the roles that need it."
    raise Refused(f"The role {role} of reader can do more than read: {'; '.join(too_much)}. Nothing was read.", following)
