"""Queries on bounced addresses in the application's database: statuses, notifications, and users over the threshold.

The table of notifications stores addresses normalized by `addresses`. Only undeliverable addresses count towards the threshold: not
complaints, automatic answers, or mail that was rejected for its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from psycopg import sql

from opsctl.adapters.sql.bounce_store import COMPLAINED
from opsctl.adapters.sql.visibility import require_all_rows
from opsctl.errors import ConfigurationError, NotFound
from opsctl.formats import email_addresses
from opsctl.formats.ses_bounces import FAILURES

if TYPE_CHECKING:
    from opsctl.adapters.sql.database import Database
    from opsctl.settings import BounceSettings

PAGE, MANY = 2_000, 8_000
"""Rows per statement, for wide and for narrow rows: a result of the Data API has at most 1 MB."""

FAILURE = sql.SQL("kind = 'bounce' AND type || '/' || subtype IN ({})").format(sql.SQL(", ").join(map(sql.Literal, FAILURES)))

USERS = """
SELECT {status} AS email_status, count(*) AS users, count(*) FILTER (WHERE {active} IS NOT TRUE) AS inactive,
       coalesce(sum({count}), 0)::bigint AS bounce_count
FROM {users} GROUP BY {status} ORDER BY 2 DESC
"""
KINDS = """
SELECT kind, type, count(*) AS notifications, count(DISTINCT recipient) AS addresses, max(at) AS latest
FROM {table} WHERE at >= %(since)s GROUP BY kind, type ORDER BY 3 DESC
"""
MARKS = """
SELECT lower({email}) AS address, {id}::text AS user, {status} AS status, {count} AS bounces, {active} IS TRUE AS active
FROM {users} WHERE {which} IN (SELECT jsonb_array_elements_text(%(listed)s::jsonb)) ORDER BY {id} OFFSET %(skip)s LIMIT {page}
"""
LISTED, MARKED = "lower({email})", "{status}"
LATEST = """
SELECT recipient, kind, max(at) AS at FROM {table}
WHERE recipient IN (SELECT jsonb_array_elements_text(%(recipients)s::jsonb)) GROUP BY recipient, kind
"""

COUNTED = """
SELECT recipient, domain FROM {table} WHERE at >= %(since)s AND {failure}
GROUP BY recipient, domain HAVING count(*) >= %(threshold)s
"""
# Addresses that the application may store in another spelling.
UNUSUAL = COUNTED + "AND (octet_length(recipient) <> char_length(recipient) OR position('xn--' IN recipient) > 0)"
TOO_MANY = f"""
WITH counted AS ({COUNTED}), spelled AS (
    SELECT recipient, domain, recipient AS spelling FROM counted
    UNION SELECT recipient, domain, spelling FROM counted JOIN jsonb_to_recordset(%(others)s::jsonb) AS each(recipient text, spelling text)
          USING (recipient)
), exempt AS (
    SELECT jsonb_array_elements_text(%(exempt)s::jsonb) AS name
), them AS (
    SELECT {{id}} AS id, recipient, {{active}} IS TRUE AS active,
           recipient IN (SELECT name FROM exempt) OR domain IN (SELECT name FROM exempt) AS exempt
    FROM {{users}} JOIN spelled ON spelling = lower({{email}})
)
"""
OVER = TOO_MANY + "SELECT id::text AS id, active, exempt FROM them ORDER BY them.id OFFSET %(skip)s LIMIT {many}"
SPREAD = (
    TOO_MANY
    + """
, bounces AS (
    SELECT domain, recipient, at FROM {table} JOIN them USING (recipient)
    WHERE at >= %(since)s AND {failure} AND active AND NOT exempt
)
(SELECT 'domain' AS what, domain AS which,
        count(*) AS bounces, count(DISTINCT recipient) AS addresses, (sum(count(*)) OVER ())::bigint AS of_all
 FROM bounces GROUP BY domain ORDER BY 3 DESC LIMIT 1)
UNION ALL
(SELECT 'hour', to_char(date_trunc('hour', at AT TIME ZONE 'UTC'), 'YYYY-MM-DD HH24:00'),
        count(*), count(DISTINCT recipient), (sum(count(*)) OVER ())::bigint
 FROM bounces GROUP BY 2 ORDER BY 3 DESC LIMIT 1)
"""
)


class Spread(Struct, frozen=True):
    """The domain or hour with the most bounces: `bounces` of `of_all`, from `addresses` addresses."""

    what: str
    which: str
    bounces: int
    addresses: int
    of_all: int


class BounceRule(Struct, frozen=True):
    """Selects users with `threshold` bounces since a time, except exempt addresses and domains."""

    threshold: int
    since: datetime
    exempt: Sequence[str] = ()


class BounceQueries:
    """Queries on the tables in [bounces]."""

    def __init__(self, database: Database, settings: BounceSettings) -> None:
        self._database, self._settings = database, settings

    def by_status(self) -> list[dict[str, Any]]:
        """For each status: the number of users, of inactive ones, and the sum of their bounces."""
        return self._query(USERS)

    def by_kind(self, since: datetime) -> list[dict[str, Any]]:
        """The number of notifications and addresses since then, by kind."""
        return self._query(KINDS, since=since)

    def marked_addresses(self, listed: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The users of the listed addresses in any spelling, and all users with a marked status; a user may be returned twice.

        `address` is normalized; `kind` and `at` are of the latest notification that would mark it, if any.
        """
        spellings = [spelling for address in listed for spelling in _spellings(address)]
        asked = [(LISTED, spellings[first : first + PAGE]) for first in range(0, len(spellings), PAGE)]
        for which, some in [*asked, (MARKED, list(self._settings.marked))]:
            for rows in self._paged(MARKS.replace("{which}", which), listed=json.dumps(some)):
                yield from self._dated(rows)

    def users_over_threshold(self, rule: BounceRule) -> Iterator[dict[str, Any]]:
        """The users over the threshold, ordered by id: `id`, `active`, `exempt`."""
        return chain.from_iterable(self._paged(OVER, **self._values(rule)))

    def concentration(self, rule: BounceRule) -> list[Spread]:
        """The domain and the hour with the most bounces of active users over the threshold."""
        return [Spread(**row) for row in self._query(SPREAD, **self._values(rule))]

    def _dated(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Notifications are matched in Python, because SQL can't normalize addresses as opsctl does."""
        recipients = sorted({compared(row["address"]) for row in rows})
        found = self._query(LATEST, recipients=json.dumps(recipients))
        latest = {(row["recipient"], row["kind"]): row["at"] for row in found}
        for row in rows:
            address, kind = compared(row["address"]), "complaint" if row["status"] == COMPLAINED else "bounce"
            yield {**row, "address": address, "kind": kind, "at": latest.get((address, kind))}

    def _values(self, rule: BounceRule) -> dict[str, Any]:
        asked = {"threshold": rule.threshold, "since": rule.since}
        unusual = [row["recipient"] for row in self._query(UNUSUAL, **asked)]
        others = [{"recipient": each, "spelling": other} for each in unusual for other in _spellings(each)]
        return {**asked, "others": json.dumps(others), "exempt": json.dumps([_exempt(each) for each in rule.exempt])}

    def _paged(self, text: str, **values: Any) -> Iterator[list[dict[str, Any]]]:
        skip = 0
        while rows := self._query(text, **values, skip=skip):
            yield rows
            skip += len(rows)

    def _query(self, text: str, **values: Any) -> list[dict[str, Any]]:
        settings = self._settings
        names = {
            "users": settings.users_table,
            "table": settings.notifications_table,
            "id": settings.id_column,
            "email": settings.email_column,
            "status": settings.status_column,
            "count": settings.count_column,
            "active": settings.active_column,
        }
        asked = sql.SQL(text).format(
            page=sql.Literal(PAGE), many=sql.Literal(MANY), failure=FAILURE, **{name: sql.Identifier(each) for name, each in names.items()}
        )
        for table in (settings.users_table, settings.notifications_table):
            require_all_rows(self._database, table)
        try:
            return self._database.query(asked, **values)
        except NotFound as cause:
            table = f"the table {settings.notifications_table}, and the other names in [bounces]"
            raise NotFound(cause.what, f"Check {table}; RUNBOOK.md says how to create that table.") from cause


def compared(address: str) -> str:
    """The normalized address; a text that is no address, in lower case."""
    try:
        return email_addresses.parse(address).recipient
    except ValueError:
        return address.lower()


def _spellings(address: str) -> list[str]:
    try:
        found = email_addresses.parse(address)
    except ValueError:
        return [address.lower()]
    return [found.recipient, *found.others]


def _exempt(name: str) -> str:
    """A normalized address or domain (`example.com` or `@example.com`) of the configuration."""
    try:
        found = email_addresses.parse(name if "@" in name.strip()[1:] else f"any@{name.strip().removeprefix('@')}")
    except ValueError as cause:
        raise ConfigurationError(
            f"exempt in [bounces] contains {name!r}, which is neither an address nor a domain.", "Correct it."
        ) from cause
    return found.recipient if "@" in name.strip()[1:] else found.domain
