"""Needs as SQL GRANTs and Redis ACL lines, of exactly the tables, columns and keys that the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from opsctl.permissions import Permissions
from opsctl.settings import BounceSettings, DatabaseSettings, RedisSettings, SessionSettings, Settings

READER, WRITER, RESCUE = "opsctl_reader", "opsctl_writer", "opsctl_rescue"
"""The roles that the GRANTs name: those of `reader`, `login` and `rescue` in [database]."""

Columns = tuple[str, ...]


class Grant(NamedTuple):
    """A privilege on some columns of a table; without columns, on the whole table."""

    table: str
    privilege: str
    columns: Columns = ()


def statements(settings: Settings, permissions: Permissions) -> list[str]:
    """The GRANTs of the reading role, the writing role and, where one is configured, the rescue role."""
    if settings.database is None:
        return []
    rescue = {need for need in permissions.write if need == "postgres:activity.end" and settings.database.rescue}
    sides = {READER: permissions.read, WRITER: permissions.write - rescue, RESCUE: frozenset(rescue)}
    return [each for role, needed in sides.items() for each in _of_role(settings, settings.database, role, needed)]


def _of_role(settings: Settings, database: DatabaseSettings, role: str, needed: frozenset[str]) -> Iterator[str]:
    mine = sorted(need for need in needed if need.startswith("postgres"))
    if not mine:
        return
    to = quoted(role)
    yield f"GRANT CONNECT ON DATABASE {quoted(database.name)} TO {to};"
    if "postgres:temporary" in mine:
        yield f"GRANT TEMPORARY ON DATABASE {quoted(database.name)} TO {to};"
    for name in sorted({name for need in mine for name in MEMBERSHIPS.get(need, ())}):
        yield f"GRANT {name} TO {to};"
    merged: dict[tuple[str, str], set[str]] = {}
    for need in mine:
        for grant in TABLES[need](settings) if need in TABLES else ():
            merged.setdefault((grant.table, grant.privilege), set()).update(grant.columns)
    for (table, privilege), columns in sorted(merged.items()):
        some = f" ({', '.join(map(quoted, sorted(columns)))})" if columns else ""
        yield f"GRANT {privilege}{some} ON {quoted(table)} TO {to};"


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _session_columns(sessions: SessionSettings) -> Columns:
    return (sessions.id_column, sessions.user_column, sessions.created_column or sessions.expires_column)


def _sessions(settings: Settings) -> list[Grant]:
    sessions = settings.sessions
    return [Grant(sessions.table, "SELECT", _session_columns(sessions))] if sessions else []


def _listed(settings: Settings) -> list[Grant]:
    sessions = settings.sessions
    return [Grant(sessions.table, "SELECT", (*_session_columns(sessions), sessions.expires_column))] if sessions else []


def _deleted(settings: Settings) -> list[Grant]:
    sessions = settings.sessions
    # A range of the table is told by its rows' places.
    columns = (*_session_columns(sessions), "ctid") if sessions else ()
    return [Grant(sessions.table, "SELECT", columns), Grant(sessions.table, "DELETE")] if sessions else []


def _users(settings: Settings) -> list[Grant]:
    sessions = settings.sessions
    if sessions is None:
        return []
    return [
        Grant(sessions.users_table, "SELECT", (sessions.users_id_column, sessions.users_email_column)),
        Grant(sessions.table, "SELECT", (sessions.user_column,)),
    ]


def _logins(settings: Settings) -> list[Grant]:
    sessions = settings.sessions
    return [Grant(sessions.users_table, "SELECT", (sessions.users_id_column, sessions.last_login_column))] if sessions else []


def _mail(*columns: str) -> Callable[[Settings], list[Grant]]:
    """SELECT on these columns of the users' table, each the name of its setting in [bounces]."""

    def found(settings: Settings) -> list[Grant]:
        mail = settings.bounces
        return [Grant(mail.users_table, "SELECT", tuple(getattr(mail, name) for name in columns))] if mail else []

    return found


def _notifications(*columns: str) -> Callable[[Settings], list[Grant]]:
    return lambda settings: [Grant(settings.bounces.notifications_table, "SELECT", columns)] if settings.bounces else []


def _counting(settings: Settings) -> list[Grant]:
    mail: BounceSettings | None = settings.bounces
    if mail is None:
        return []
    table = mail.notifications_table
    return [
        Grant(table, "SELECT", ("feedback_id", "recipient")),
        Grant(table, "INSERT", ("feedback_id", "recipient", "domain", "kind", "type", "subtype", "at")),
        Grant(mail.users_table, "SELECT", (mail.email_column, mail.status_column, mail.count_column)),
        Grant(mail.users_table, "UPDATE", (mail.status_column, mail.count_column)),
    ]


def _uncounting(settings: Settings) -> list[Grant]:
    mail = settings.bounces
    return [*_counting(settings), Grant(mail.notifications_table, "DELETE")] if mail else []


def _deactivating(settings: Settings) -> list[Grant]:
    mail = settings.bounces
    if mail is None:
        return []
    columns = (mail.id_column, mail.active_column)
    return [Grant(mail.users_table, "SELECT", columns), Grant(mail.users_table, "UPDATE", (mail.active_column,))]


TABLES: dict[str, Callable[[Settings], list[Grant]]] = {
    "postgres:sessions.count": _sessions,
    "postgres:sessions.list": _listed,
    "postgres:sessions.delete": _deleted,
    "postgres:users.find": _users,
    "postgres:users.logins": _logins,
    "postgres:mail.status": _mail("id_column", "email_column", "status_column"),
    "postgres:mail.users": _mail("id_column", "email_column", "status_column", "count_column", "active_column"),
    "postgres:mail.active": _mail("id_column", "active_column"),
    "postgres:mail.counted": _notifications("feedback_id", "recipient"),
    "postgres:mail.notifications": _notifications("recipient", "domain", "kind", "type", "subtype", "at"),
    "postgres:mail.count": _counting,
    "postgres:mail.uncount": _uncounting,
    "postgres:mail.deactivate": _deactivating,
}
"""What a need takes of which table. A need without an entry takes no table: to connect is enough, or a membership."""

MEMBERSHIPS = {
    "postgres:stats": ("pg_read_all_stats",),
    "postgres:activity": ("pg_read_all_stats",),
    "postgres:activity.end": ("pg_read_all_stats", "pg_signal_backend", "pg_use_reserved_connections"),
}
"""The predefined roles that a need takes (PostgreSQL documentation, "Predefined Roles")."""

LOGGING_IN = ("client|setinfo", "client|setname", "ping")
COMMANDS: dict[str, tuple[str, ...]] = {
    "redis:info": ("info", "cluster|slots"),
    "redis:sessions.count": ("info", "cluster|slots", "dbsize", "eval_ro", "scan", "time", "pttl"),
    "redis:sessions.unlink": ("info", "cluster|slots", "eval", "scan", "time", "pttl", "unlink"),
    "redis:revocations": ("info", "cluster|slots", "get"),
}
"""The commands of a need; a script is asked for each of its own."""


def access_lists(settings: Settings, permissions: Permissions) -> list[str]:
    """The Redis users that read and that write, as ACL lines; the password is left to be filled in."""
    if settings.redis is None:
        return []
    sides = {"opsctl-reader": permissions.read, "opsctl-writer": permissions.write}
    return [line for name, needed in sides.items() for line in _user(settings, settings.redis, name, needed)]


def _user(settings: Settings, redis: RedisSettings, name: str, needed: frozenset[str]) -> Iterator[str]:
    mine = [need for need in sorted(needed) if need in COMMANDS]
    if not mine:
        return
    words = {*LOGGING_IN, *(word for need in mine for word in COMMANDS[need])} | ({"select"} if redis.db else set())
    keys = sorted({key for need in mine for key in _keys(settings, need)})
    allowed = [f"+{word}" for word in sorted(words)]
    yield " ".join(["ACL SETUSER", name, "on", "'>PASSWORD'", "resetkeys", *keys, "resetchannels", "-@all", *allowed])


def _keys(settings: Settings, need: str) -> Iterator[str]:
    """The key patterns of a need: `%R~` for what it only reads."""
    mode = "~" if need == "redis:sessions.unlink" else "%R~"
    if need.startswith("redis:sessions") and (sessions := settings.sessions):
        patterns = [*sessions.redis_patterns, sessions.redis_user_pattern.replace("{user}", "*")]
        yield from (f"'{mode}{pattern}'" for pattern in patterns if pattern)
    if need == "redis:revocations" and settings.api and settings.api.revocations:
        yield f"'{mode}{settings.api.revocations.replace('{who}', '*')}'"
