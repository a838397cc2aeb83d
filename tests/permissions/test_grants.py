"""The grants name the configured tables, columns and keys, each role's own, and nothing beyond them."""

from __future__ import annotations

import msgspec

from opsctl.config import Environment
from opsctl.permissions import grants, needs


def test_each_role_has_the_grants_of_its_side(environment: Environment) -> None:
    found = grants.statements(environment.settings, needs(check="postgres:sessions.count postgres:stats", apply="postgres:activity.end"))
    assert found == [
        'GRANT CONNECT ON DATABASE "safawinet" TO "opsctl_reader";',
        'GRANT pg_read_all_stats TO "opsctl_reader";',
        'GRANT SELECT ("created_at", "user_id") ON "refresh_sessions" TO "opsctl_reader";',
        'GRANT CONNECT ON DATABASE "safawinet" TO "opsctl_rescue";',
        'GRANT pg_read_all_stats TO "opsctl_rescue";',
        'GRANT pg_signal_backend TO "opsctl_rescue";',
        'GRANT pg_use_reserved_connections TO "opsctl_rescue";',
    ]


def test_without_a_rescue_role_the_writing_role_ends_queries(environment: Environment) -> None:
    database = environment.settings.database
    assert database is not None
    settings = msgspec.structs.replace(environment.settings, database=msgspec.structs.replace(database, rescue=None))
    found = grants.statements(settings, needs(apply="postgres:activity.end"))
    assert 'GRANT pg_signal_backend TO "opsctl_writer";' in found
    assert not any("opsctl_rescue" in each for each in found)


def test_names_are_quoted_as_sql_does(environment: Environment) -> None:
    sessions = environment.settings.sessions
    assert sessions is not None
    odd = msgspec.structs.replace(sessions, table='Odd "one"', created_column=None)
    settings = msgspec.structs.replace(environment.settings, sessions=odd)
    assert grants.statements(settings, needs(check="postgres:sessions.count"))[1:] == [
        'GRANT SELECT ("expires_at", "user_id") ON "Odd ""one""" TO "opsctl_reader";'
    ]


def test_what_reads_may_only_read_keys(environment: Environment) -> None:
    reader, writer = grants.access_lists(environment.settings, needs(check="redis:sessions.count", apply="redis:sessions.unlink"))
    assert "'%R~session:*'" in reader.split()
    assert "'~session:*'" in writer.split()
    assert "+unlink" not in reader.split()
    assert "+unlink" in writer.split()


def test_what_is_not_configured_gets_no_grant(environment: Environment) -> None:
    bare = msgspec.structs.replace(environment.settings, database=None, redis=None, sessions=None, bounces=None)
    every = needs(check=" ".join([*grants.TABLES, *grants.MEMBERSHIPS, *grants.COMMANDS]))
    assert grants.statements(bare, every) == []
    assert grants.access_lists(bare, every) == []


def test_a_user_of_redis_that_does_both_has_one_line(environment: Environment) -> None:
    redis = environment.settings.redis
    assert redis is not None
    settings = msgspec.structs.replace(environment.settings, redis=msgspec.structs.replace(redis, user="both"))
    (line,) = grants.access_lists(settings, needs(check="redis:sessions.count", apply="redis:sessions.unlink"))
    assert line.startswith("ACL SETUSER both on ")
    assert {"+eval_ro", "+unlink"} <= set(line.split())
