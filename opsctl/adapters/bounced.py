"""What the application's database knows of addresses that bounce: its marks, the notifications counted, and who has too many.

An address is compared in lower case, as `seen_table` keeps it. A complaint is no bounce: it is shown, and counts towards no threshold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from psycopg import sql

from opsctl.errors import NotFound

if TYPE_CHECKING:
    from opsctl.settings import BounceSettings
    from opsctl.systems import Systems

PAGE = 2_000
"""Rows a statement: the Data API gives at most 1 MB."""

USERS = """
SELECT {status} AS email_status, count(*) AS users, count(*) FILTER (WHERE {active} IS NOT TRUE) AS inactive,
       coalesce(sum({count}), 0)::bigint AS bounce_count
FROM {users} GROUP BY {status} ORDER BY 2 DESC
"""
SEEN = """
SELECT kind, count(*) AS notifications, count(DISTINCT recipient) AS addresses, max(at) AS latest
FROM {seen} WHERE at >= %(since)s GROUP BY kind ORDER BY 2 DESC
"""
ADDRESSES = """
SELECT lower({email}) AS address, {id}::text AS user, {status} AS status, {count} AS bounces, {active} IS TRUE AS active, last.at, last.kind
FROM {users} LEFT JOIN LATERAL
     (SELECT at, kind FROM {seen} WHERE recipient = lower({email}) ORDER BY at DESC LIMIT 1) AS last ON true
WHERE {which} ORDER BY {id} OFFSET %(skip)s LIMIT {page}
"""
LISTED = "lower({email}) IN (SELECT jsonb_array_elements_text(%(listed)s::jsonb))"
MARKED = "{status} IN (SELECT jsonb_array_elements_text(%(listed)s::jsonb))"

TOO_MANY = """
WITH counted AS (
    SELECT recipient FROM {seen} WHERE at >= %(since)s AND kind <> 'complaint' GROUP BY recipient HAVING count(*) >= %(threshold)s
), them AS (
    SELECT {id} AS id, lower({email}) AS address, {active} IS TRUE AS active,
           lower({email}) IN (SELECT jsonb_array_elements_text(%(exempt)s::jsonb))
           OR substring(lower({email}) FROM '[^@]*$') IN (SELECT jsonb_array_elements_text(%(exempt)s::jsonb)) AS exempt
    FROM {users} WHERE lower({email}) IN (SELECT recipient FROM counted)
)
"""
OVER = TOO_MANY + "SELECT id::text AS id, active, exempt FROM them ORDER BY them.id OFFSET %(skip)s LIMIT {page}"
SPREAD = (
    TOO_MANY
    + """
, bounces AS (
    SELECT recipient, at FROM {seen} JOIN them ON recipient = address
    WHERE at >= %(since)s AND kind <> 'complaint' AND active AND NOT exempt
)
(SELECT 'domain' AS what, substring(recipient FROM '[^@]*$') AS which,
        count(*) AS bounces, count(DISTINCT recipient) AS addresses, (sum(count(*)) OVER ())::bigint AS of_all
 FROM bounces GROUP BY 2 ORDER BY 3 DESC LIMIT 1)
UNION ALL
(SELECT 'hour', to_char(date_trunc('hour', at AT TIME ZONE 'UTC'), 'YYYY-MM-DD HH24:00'),
        count(*), count(DISTINCT recipient), (sum(count(*)) OVER ())::bigint
 FROM bounces GROUP BY 2 ORDER BY 3 DESC LIMIT 1)
"""
)


class Spread(Struct, frozen=True):
    """The domain or the hour that most of some bounces are of: so many `bounces` of `of_all`, from so many `addresses`."""

    what: str
    which: str
    bounces: int
    addresses: int
    of_all: int


class Rule(Struct, frozen=True):
    """Who has too many bounces: so many since then, without those who are exempt."""

    threshold: int
    since: datetime
    exempt: Sequence[str] = ()

    def values(self) -> dict[str, Any]:
        """As a statement takes it."""
        spared = [each.lower().removeprefix("@") for each in self.exempt]
        return {"threshold": self.threshold, "since": self.since, "exempt": json.dumps(spared)}


def by_status(systems: Systems, settings: BounceSettings) -> list[dict[str, Any]]:
    """How many users have each status, how many of them are inactive, and the sum of their bounces."""
    return systems.database.query(_named(USERS, settings))


def by_kind(systems: Systems, settings: BounceSettings, since: datetime) -> list[dict[str, Any]]:
    """How many notifications of each kind happened since then, and of how many addresses."""
    return _seen(systems, settings, SEEN, since=since)


def addresses(systems: Systems, settings: BounceSettings, listed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the database has of the addresses listed, and of all that it has marked itself; some may come twice."""
    for first in range(0, len(listed), PAGE):
        yield from _pages(systems, settings, LISTED, listed[first : first + PAGE])
    yield from _pages(systems, settings, MARKED, settings.marked)


def over(systems: Systems, settings: BounceSettings, rule: Rule) -> Iterator[dict[str, Any]]:
    """Each user with too many bounces, by id: `id`, whether `active`, whether `exempt`."""
    skip = 0
    while rows := _seen(systems, settings, OVER, **rule.values(), skip=skip):
        yield from rows
        skip += len(rows)


def spread(systems: Systems, settings: BounceSettings, rule: Rule) -> list[Spread]:
    """The domain and the hour that most bounces are of, among those of the active users with too many."""
    return [Spread(**row) for row in _seen(systems, settings, SPREAD, **rule.values())]


def _pages(systems: Systems, settings: BounceSettings, which: str, listed: Sequence[str]) -> Iterator[dict[str, Any]]:
    skip, asked = 0, ADDRESSES.replace("{which}", which)
    while rows := _seen(systems, settings, asked, listed=json.dumps(list(listed)), skip=skip):
        yield from rows
        skip += len(rows)


def _seen(systems: Systems, settings: BounceSettings, text: str, **values: Any) -> list[dict[str, Any]]:
    try:
        return systems.database.query(_named(text, settings), **values)
    except NotFound as cause:
        table = f"the table {settings.seen_table}, where counted notifications are kept, and [bounces] in the configuration"
        raise NotFound(cause.what, f"Check {table}; RUNBOOK.md says how it is made.") from cause


def _named(text: str, settings: BounceSettings) -> sql.Composed:
    names = {
        "users": settings.users_table,
        "seen": settings.seen_table,
        "id": settings.id_column,
        "email": settings.email_column,
        "status": settings.status_column,
        "count": settings.count_column,
        "active": settings.active_column,
    }
    return sql.SQL(text).format(page=sql.Literal(PAGE), **{name: sql.Identifier(each) for name, each in names.items()})
