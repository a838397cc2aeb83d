"""Statements over the users and the table of notifications that [bounces] names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opsctl.settings import BounceSettings

BY_HAND = "Permanent/Manual"
"""The type and subtype of a bounce that a person tells of."""

# A recipient may be in a batch twice; every known spelling of an address is searched.
COUNT = """
WITH given AS (
    SELECT DISTINCT ON (feedback_id, recipient) * FROM jsonb_to_recordset(%(batch)s::jsonb) AS each(feedback_id text, recipient text,
        domain text, kind text, type text, subtype text, at timestamptz, effect text, others jsonb)
    ORDER BY feedback_id, recipient
), counted AS (
    INSERT INTO {table} (feedback_id, recipient, domain, kind, type, subtype, at)
    SELECT feedback_id, recipient, domain, kind, type, subtype, at FROM given
    ON CONFLICT (feedback_id, recipient) DO NOTHING RETURNING feedback_id, recipient
), fresh AS (
    SELECT given.* FROM given JOIN counted USING (feedback_id, recipient)
), spelled AS (
    SELECT recipient, effect, recipient AS spelling FROM fresh
    UNION ALL SELECT recipient, effect, other FROM fresh CROSS JOIN LATERAL jsonb_array_elements_text(others) AS other
), effects AS (
    SELECT spelling, bool_or(effect = 'complained') AS complained, bool_or(effect = 'bounced') AS bounced,
           count(*) FILTER (WHERE effect = 'soft') AS soft
    FROM spelled GROUP BY spelling
), touched AS (
    UPDATE {users} AS account SET
        {status} = CASE WHEN effects.complained THEN 'complained'
                        WHEN effects.bounced AND account.{status} IS DISTINCT FROM 'complained' THEN 'bounced'
                        ELSE account.{status} END,
        {count} = coalesce(account.{count}, 0) + effects.soft
    FROM effects WHERE lower(account.{email}) = effects.spelling RETURNING effects.spelling
), known AS (
    SELECT DISTINCT recipient FROM spelled JOIN touched USING (spelling)
)
SELECT count(*) AS counted,
       count(known.recipient) FILTER (WHERE effect = 'bounced') AS bounced,
       count(known.recipient) FILTER (WHERE effect = 'complained') AS complained,
       count(known.recipient) FILTER (WHERE effect = 'soft') AS soft,
       count(*) FILTER (WHERE known.recipient IS NULL) AS unknown
FROM fresh LEFT JOIN known USING (recipient)
"""
MISSING = """
SELECT number FROM jsonb_to_recordset(%(keys)s::jsonb) AS each(number integer, feedback_id text, recipient text)
WHERE NOT EXISTS (SELECT 1 FROM {table} AS had WHERE had.feedback_id = each.feedback_id AND had.recipient = each.recipient)
"""
HOLDERS = """
SELECT {id}::text AS id, {status}::text AS status FROM {users}
WHERE lower({email}) IN (SELECT jsonb_array_elements_text(%(spellings)s::jsonb)) ORDER BY {id}
"""
# A status that another notification also causes stays.
SAID_TOO = """
SELECT 1 FROM {table} WHERE recipient = %(recipient)s AND feedback_id <> %(feedback_id)s
  AND type || '/' || subtype IN (SELECT jsonb_array_elements_text(%(final)s::jsonb))
"""
TAKE_BACK = f"""
WITH gone AS (
    DELETE FROM {{table}} WHERE feedback_id = %(feedback_id)s AND recipient = %(recipient)s RETURNING type
), put_back AS (
    UPDATE {{users}} AS account SET
        {{status}} = CASE WHEN gone.type = 'Permanent' AND account.{{status}} = 'bounced' AND NOT EXISTS ({SAID_TOO})
            THEN before.{{status}} ELSE account.{{status}} END,
        {{count}} = CASE WHEN gone.type = 'Permanent' THEN account.{{count}} ELSE greatest(account.{{count}} - 1, 0) END
    FROM gone, jsonb_populate_recordset(NULL::{{users}}, %(before)s::jsonb) AS before WHERE before.{{id}} = account.{{id}} RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM put_back) AS users
"""

# The users travel as JSON, so that the table's own types cast them and both drivers can carry them.
_THESE = "{id} IN (SELECT {id} FROM jsonb_populate_recordset(NULL::{users}, %(ids)s::jsonb))"
ACTIVE = f"SELECT {{id}}::text AS id, {{active}} IS TRUE AS active FROM {{users}} WHERE {_THESE}"
SET_ACTIVE = f"UPDATE {{users}} SET {{active}} = %(wanted)s::boolean WHERE {_THESE} AND {{active}} IS DISTINCT FROM %(wanted)s::boolean"
SET_ALL_ACTIVE = (
    f"WITH changed AS ({SET_ACTIVE} RETURNING 1) SELECT 1 / (count(*) = %(count)s::bigint OR %(wanted)s::boolean)::int FROM changed"
)
"""`SET_ACTIVE`, which fails and is rolled back where fewer than `count` users are deactivated."""


def names(settings: BounceSettings) -> dict[str, str]:
    """The identifiers of these statements."""
    return {
        "table": settings.notifications_table,
        "users": settings.users_table,
        "id": settings.id_column,
        "email": settings.email_column,
        "status": settings.status_column,
        "count": settings.count_column,
        "active": settings.active_column,
    }


def final(effects: Mapping[str, str]) -> str:
    """The value of `final`: the kinds of bounces that mark an address as bounced, by their effects."""
    return json.dumps([*(kind for kind, effect in effects.items() if effect == "bounced"), BY_HAND])


def ids_json(settings: BounceSettings, ids: Iterable[str]) -> str:
    """The value of `ids`, as JSON."""
    return json.dumps([{settings.id_column: id} for id in ids])


def before_json(settings: BounceSettings, before: Iterable[tuple[str, str | None]]) -> str:
    """The value of `before`: users and their former status, as JSON."""
    return json.dumps([{settings.id_column: id, settings.status_column: status} for id, status in before])
