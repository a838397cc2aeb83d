"""The application's users, looked up by ids and e-mail addresses as people type them."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from psycopg import sql

from opsctl.adapters.sql.visibility import require_all_rows, require_same_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opsctl.adapters.sql.database import Database
    from opsctl.settings import SessionSettings

WHOLE = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
"""Types of whole numbers, and the first number that is too large for each."""

TYPED = (*WHOLE, "uuid", "citext")
"""Types with their own comparison of ids."""

SHOWN = 5

COLUMN_TYPE = """
SELECT CASE WHEN base.typname IS NULL THEN own.typname ELSE base.typname END::text AS type
FROM pg_attribute JOIN pg_type AS own ON own.oid = atttypid LEFT JOIN pg_type AS base ON base.oid = own.typbasetype
WHERE attrelid = to_regclass(%(table)s) AND attname = %(column)s AND NOT attisdropped
"""


class Matching(NamedTuple):
    """The ids of the matching users, and how many of them have no credible last login."""

    ids: list[str]
    unproven: int


class Users:
    """Reads the users table, and the owners of sessions whose user was deleted."""

    def __init__(self, database: Database, settings: SessionSettings, writer: Callable[[], str]) -> None:
        self._database, self._settings, self._writer = database, settings, writer
        self._id, self._table = sql.Identifier(settings.users_id_column), sql.Identifier(settings.users_table)

    def require_all(self) -> None:
        """Raise Refused unless the connected role sees every row of the table that the application's role uses."""
        require_all_rows(self._database, self._settings.users_table)
        require_same_table(self._database, self._settings.users_table, self._writer)

    def named(self, names: Iterable[str]) -> dict[str, list[str]]:
        """The ids for each name, which is an id or an e-mail in any case; an empty list for an unknown name.

        The id of a deleted user counts if sessions of it are left.
        """
        wanted = list(dict.fromkeys(names))
        found: dict[str, set[str]] = {name: set() for name in wanted}
        self._by_email([name for name in wanted if "@" in name], found)
        self._by_id(wanted, self._settings.users_table, self._settings.users_id_column, found)
        self._by_id([name for name in wanted if not found[name]], self._settings.table, self._settings.user_column, found)
        return {name: sorted(ids) for name, ids in found.items()}

    def matching(self, before: datetime | None, ids: Sequence[str] | None) -> Matching:
        """The users among `ids` whose last login was before a moment; no login, or one in the future, counts as long ago."""
        last = sql.Identifier(self._settings.last_login_column)
        unproven = sql.SQL("({} IS NULL OR {} > statement_timestamp())").format(last, last) if before else sql.SQL("false")
        where: list[sql.Composable] = [sql.SQL("true")]
        values: dict[str, Any] = {}
        if before is not None:
            where.append(sql.SQL("({} < %(before)s OR {})").format(last, unproven))
            values["before"] = before
        if ids is not None:
            where.append(sql.SQL("{}::text IN (SELECT jsonb_array_elements_text(%(ids)s::jsonb))").format(self._id))
            values["ids"] = json.dumps(list(ids))
        query = sql.SQL("SELECT {}::text AS id, {} AS unproven FROM {} WHERE {}").format(
            self._id, unproven, self._table, sql.SQL(" AND ").join(where)
        )
        rows = self._database.query(query, **values)
        return Matching([str(row["id"]) for row in rows], sum(bool(row["unproven"]) for row in rows))

    def existing(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that exist."""
        return self._existing(self._settings.users_table, self._settings.users_id_column, ids)

    def total(self) -> int:
        """The number of users."""
        return int(self._database.query(sql.SQL("SELECT count(*) AS n FROM {}").format(self._table))[0]["n"])

    def confusable(self, ids: Sequence[str], separator: str) -> list[tuple[str, str]]:
        """A few pairs of an id of `ids` and another user's id where one starts with the other and a separator."""
        wanted = set(ids)
        shorter = {short for each in ids for short in _beginnings(each, separator)} - wanted
        pairs = []
        for table, column in (
            (self._settings.users_table, self._settings.users_id_column),
            (self._settings.table, self._settings.user_column),
        ):
            there = self._existing(table, column, shorter)
            pairs += [(each, short) for each in ids for short in _beginnings(each, separator) if short in there]
            pairs += [(short, each) for each in self._longer(table, column, ids, separator) for short in _beginnings(each, separator)]
        return sorted({(one, other) for one, other in pairs if (one in wanted) != (other in wanted)})[:SHOWN]

    def _existing(self, table: str, column: str, ids: Iterable[str]) -> set[str]:
        if not (asked := sorted(ids)):
            return set()
        query = sql.SQL("SELECT DISTINCT {}::text AS id FROM {} WHERE {}::text IN (SELECT jsonb_array_elements_text(%(ids)s::jsonb))")
        name = sql.Identifier(column)
        return {str(row["id"]) for row in self._database.query(query.format(name, sql.Identifier(table), name), ids=json.dumps(asked))}

    def _longer(self, table: str, column: str, ids: Sequence[str], separator: str) -> list[str]:
        """Ids of other users that start with one of `ids` and a separator; a number or a UUID contains no separator."""
        if self._type(table, column) in (*WHOLE, "uuid"):
            return []
        query = sql.SQL(
            "SELECT DISTINCT id FROM (SELECT {}::text AS id FROM {}) AS every, string_to_array(id, %(separator)s) AS part"
            " WHERE cardinality(part) > 1 AND EXISTS (SELECT FROM generate_series(1, cardinality(part) - 1) AS n"
            " WHERE array_to_string(trim_array(part, n), %(separator)s) IN (SELECT jsonb_array_elements_text(%(ids)s::jsonb)))"
            " ORDER BY 1 LIMIT {}"
        ).format(sql.Identifier(column), sql.Identifier(table), sql.Literal(SHOWN + len(ids)))
        return [str(row["id"]) for row in self._database.query(query, separator=separator, ids=json.dumps(list(ids)))]

    def _by_email(self, names: list[str], found: dict[str, set[str]]) -> None:
        if not names:
            return
        query = sql.SQL(
            "SELECT wanted.name, {id}::text AS id FROM jsonb_array_elements_text(%(names)s::jsonb) AS wanted (name)"
            " JOIN {table} ON lower({email}::text) = lower(wanted.name)"
        ).format(id=self._id, table=self._table, email=sql.Identifier(self._settings.users_email_column))
        for row in self._database.query(query, names=json.dumps(names)):
            found[str(row["name"])].add(str(row["id"]))

    def _by_id(self, names: list[str], table: str, column: str, found: dict[str, set[str]]) -> None:
        kind = self._type(table, column) if names else ""
        spelled = [(name, each) for name in names for each in _spellings(name, kind)]
        if not spelled:
            return
        # The column's type does the comparison, so that its index is used and case-insensitive types match.
        query = sql.SQL(
            "SELECT DISTINCT wanted.value AS spelled, {id}::text AS id FROM jsonb_array_elements_text(%(ids)s::jsonb) AS wanted (value)"
            " JOIN {table} ON {id} = wanted.value::{kind}"
        ).format(id=sql.Identifier(table, column), table=sql.Identifier(table), kind=sql.Identifier(kind if kind in TYPED else "text"))
        there: dict[str, set[str]] = {}
        for row in self._database.query(query, ids=json.dumps(sorted({each for _, each in spelled}))):
            there.setdefault(str(row["spelled"]), set()).add(str(row["id"]))
        for name, each in spelled:
            found[name] |= there.get(each, set())

    def _type(self, table: str, column: str) -> str:
        rows = self._database.query(COLUMN_TYPE, table=sql.Identifier(table).as_string(None), column=column)
        return str(rows[0]["type"]) if rows else "text"


def _spellings(name: str, kind: str) -> list[str]:
    """The name as an id of this type; an empty list where it can't be one."""
    if kind in WHOLE:
        fits = re.fullmatch(r"-?[0-9]{1,19}", name) and -WHOLE[kind] <= int(name) < WHOLE[kind]
        return [str(int(name))] if fits else []
    try:
        uuid = str(UUID(name))
    except ValueError:
        return [] if kind == "uuid" else [name]
    return [uuid] if kind == "uuid" else list(dict.fromkeys([name, uuid, uuid.upper(), uuid.replace("-", "")]))


def _beginnings(id: str, separator: str) -> list[str]:
    """The parts of an id before each separator."""
    parts = id.split(separator)
    return [separator.join(parts[:n]) for n in range(1, len(parts))]
