"""Needs as SQL GRANTs and Redis ACL lines, of exactly the tables, columns and keys that the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from opsctl.permissions import Permissions
from opsctl.settings import DatabaseSettings, RedisSettings, Settings

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


def _sessions(*columns: str) -> Callable[[Settings], list[Grant]]:
    """SELECT on columns of the sessions' table, by the names of their settings; `began` is the column of a session's start."""

    def found(settings: Settings) -> list[Grant]:
        if (sessions := settings.sessions) is None:
            return []
        names = {"began": sessions.created_column or sessions.expires_column, "ctid": "ctid"}
        return [Grant(sessions.table, "SELECT", tuple(names.get(name) or getattr(sessions, f"{name}_column") for name in columns))]

    return found


def _deleted(settings: Settings) -> list[Grant]:
    # A range of the table is selected by its rows' physical places (ctid).
    read = _sessions("id", "user", "began", "ctid")(settings)
    return [*read, Grant(read[0].table, "DELETE")] if read else []


def _users(*columns: str) -> Callable[[Settings], list[Grant]]:
    """SELECT on columns of the table of those who sign in, by the names of their settings in [sessions]."""

    def found(settings: Settings) -> list[Grant]:
        if (sessions := settings.sessions) is None:
            return []
        return [Grant(sessions.users_table, "SELECT", tuple(getattr(sessions, f"{name}_column") for name in columns))]

    return found


def _mail(users: str = "", notifications: str = "") -> Callable[[Settings], list[Grant]]:
    """SELECT on columns of the users' table, by the names of their settings in [bounces], and on columns of the notifications' table."""

    def found(settings: Settings) -> list[Grant]:
        if (mail := settings.bounces) is None:
            return []
        columns = tuple(getattr(mail, f"{name}_column") for name in users.split())
        both = [Grant(mail.users_table, "SELECT", columns), Grant(mail.notifications_table, "SELECT", tuple(notifications.split()))]
        return [each for each in both if each.columns]

    return found


def _counting(settings: Settings) -> list[Grant]:
    if (mail := settings.bounces) is None:
        return []
    return [
        Grant(mail.notifications_table, "SELECT", ("feedback_id", "recipient")),
        Grant(mail.notifications_table, "INSERT", ("feedback_id", "recipient", "domain", "kind", "type", "subtype", "at")),
        Grant(mail.users_table, "SELECT", (mail.email_column, mail.status_column, mail.count_column)),
        Grant(mail.users_table, "UPDATE", (mail.status_column, mail.count_column)),
    ]


def _uncounting(settings: Settings) -> list[Grant]:
    if (mail := settings.bounces) is None:
        return []
    return [
        Grant(mail.notifications_table, "SELECT", ("feedback_id", "recipient", "type", "subtype")),
        Grant(mail.notifications_table, "DELETE"),
        Grant(mail.users_table, "SELECT", (mail.id_column, mail.status_column, mail.count_column)),
        Grant(mail.users_table, "UPDATE", (mail.status_column, mail.count_column)),
    ]


def _deactivating(settings: Settings) -> list[Grant]:
    mail = settings.bounces
    if mail is None:
        return []
    columns = (mail.id_column, mail.active_column)
    return [Grant(mail.users_table, "SELECT", columns), Grant(mail.users_table, "UPDATE", (mail.active_column,))]


TABLES: dict[str, Callable[[Settings], list[Grant]]] = {
    "postgres:sessions.count": _sessions("user", "began"),
    "postgres:sessions.list": _sessions("id", "user", "began", "expires"),
    "postgres:sessions.users": _sessions("user"),
    "postgres:sessions.delete": _deleted,
    "postgres:users.find": _users("users_id", "users_email"),
    "postgres:users.logins": _users("users_id", "last_login"),
    "postgres:copy": _users("users_id"),
    "postgres:mail.status": _mail("id email status"),
    "postgres:mail.active": _mail("id active"),
    "postgres:mail.stats": _mail("status count active", "kind type recipient at"),
    "postgres:mail.list": _mail("id email status count active", "recipient kind at"),
    "postgres:mail.over": _mail("id email active", "recipient domain kind type subtype at"),
    "postgres:mail.counted": _mail(notifications="feedback_id recipient"),
    "postgres:mail.bounced": _mail(notifications="feedback_id recipient type subtype"),
    "postgres:mail.count": _counting,
    "postgres:mail.uncount": _uncounting,
    "postgres:mail.deactivate": _deactivating,
}
"""What a need takes of which table. A need without an entry takes no table: to connect is enough, or a membership."""

MEMBERSHIPS = {
    "postgres:stats": ("pg_read_all_stats",),
    "postgres:activity": ("pg_read_all_stats", "pg_use_reserved_connections"),
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
    """The Redis users that read and write, as ACL lines with a placeholder for the password.

    Where [redis] names a user and no reader, that user does both.
    """
    if (redis := settings.redis) is None:
        return []
    reader, writer = redis.reader.user if redis.reader else "opsctl-reader", redis.user or "opsctl-writer"
    alone = redis.user is not None and redis.reader is None
    sides = {writer: permissions.read | permissions.write} if alone else {reader: permissions.read, writer: permissions.write}
    return [line for name, needed in sides.items() for line in _user(settings, redis, name, needed)]


def _user(settings: Settings, redis: RedisSettings, name: str, needed: frozenset[str]) -> Iterator[str]:
    mine = [need for need in sorted(needed) if need in COMMANDS]
    if not mine:
        return
    words = {*LOGGING_IN, *(word for need in mine for word in COMMANDS[need])} | ({"select"} if redis.db else set())
    keys = sorted({key for need in mine for key in _keys(settings, need)})
    allowed = [f"+{word}" for word in sorted(words)]
    yield " ".join(["ACL SETUSER", name, "on", "'>PASSWORD'", "resetkeys", *keys, "resetchannels", "-@all", *allowed])


def _keys(settings: Settings, need: str) -> Iterator[str]:
    """The key patterns of a need: `%R~` if it only reads."""
    mode = "~" if need == "redis:sessions.unlink" else "%R~"
    if need.startswith("redis:sessions") and (sessions := settings.sessions):
        patterns = [*sessions.redis_patterns, sessions.redis_user_pattern.replace("{user}", "*")]
        yield from (f"'{mode}{pattern}'" for pattern in patterns if pattern)
    if need == "redis:revocations" and settings.api and settings.api.revocations:
        yield f"'{mode}{settings.api.revocations.replace('{who}', '*')}'"
