"""The application's side of mail that came back: its users by their address, and the table of what has been counted.

The table is shipped DDL (`opsctl/ddl/ses_notifications.sql`) and never made from here. A batch is one statement with one JSON parameter:
what the table has already isn't inserted, and only what was inserted reaches the users, so that one that is stopped anywhere has counted
all of it or nothing, also over the Data API, whose own batches tell no counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct
from psycopg import sql

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.mail.ses_parser import BOUNCES, CountedRecipient
from opsctl.adapters.sql.database import Busy
from opsctl.adapters.sql.visibility import require_all_rows
from opsctl.errors import NotFound, Throttled
from opsctl.retry import Policy, retry

if TYPE_CHECKING:
    from datetime import datetime

    from opsctl.adapters.mail.addresses import Address
    from opsctl.adapters.sql.database import Database
    from opsctl.settings import BounceSettings

DDL = Path(__file__).parents[2] / "ddl" / "ses_notifications.sql"
BUSY = Policy(tries=6, deadline=30.0, first=0.1, errors=(Busy, Throttled))
BOUNCED, COMPLAINED = "bounced", "complained"
BY_HAND = "Permanent/Manual"

Answer = TypeVar("Answer")

# One recipient may be in a batch twice; of one that is known under several spellings each is looked for.
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
        {status} = CASE WHEN effects.complained THEN {complained_word}
                        WHEN effects.bounced AND account.{status} IS DISTINCT FROM {complained_word} THEN {bounced_word}
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
# What another notification says of the address stays said.
SAID_TOO = """
SELECT 1 FROM {table} WHERE recipient = %(recipient)s AND feedback_id <> %(feedback_id)s AND {bounced}
"""
TAKE_BACK = f"""
WITH gone AS (
    DELETE FROM {{table}} WHERE feedback_id = %(feedback_id)s AND recipient = %(recipient)s RETURNING type
), put_back AS (
    UPDATE {{users}} AS account SET
        {{status}} = CASE WHEN gone.type = 'Permanent' AND account.{{status}} = {{bounced_word}} AND NOT EXISTS ({SAID_TOO})
            THEN before.{{status}} ELSE account.{{status}} END,
        {{count}} = CASE WHEN gone.type = 'Permanent' THEN account.{{count}} ELSE greatest(account.{{count}} - 1, 0) END
    FROM gone, jsonb_populate_recordset(NULL::{{users}}, %(before)s::jsonb) AS before WHERE before.{{id}} = account.{{id}} RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM put_back) AS users
"""


class Tally(Struct):
    """What a batch did: rows counted, and of those the recipients marked, complained, added to, and known to nobody."""

    counted: int = 0
    bounced: int = 0
    complained: int = 0
    soft: int = 0
    unknown: int = 0


class Holder(Struct, frozen=True):
    """A user whose address it is."""

    id: str
    status: str | None


class Bounced(Adapter):
    """The users and the table that [bounces] names, in the application's database."""

    def __init__(self, database: Database, settings: BounceSettings, now: Callable[[], datetime]) -> None:
        super().__init__(writing=database.writing)
        self._database, self._settings, self._now = database, settings, now

    def missing(self, keys: Sequence[tuple[str, str]]) -> list[int]:
        """The places, in `keys` of feedback id and recipient, of those that haven't been counted."""
        if not keys:
            return []
        rows = [{"number": n, "feedback_id": feedback, "recipient": recipient} for n, (feedback, recipient) in enumerate(keys)]
        with self._translating():
            found = self._database.query(self._sql(MISSING), keys=json.dumps(rows))
        return [int(row["number"]) for row in found]

    def holders(self, address: Address) -> list[Holder]:
        """The users whose address it is, in the order of their ids."""
        spellings = json.dumps([address.recipient, *address.others])
        with self._translating():
            if not self.writing:
                require_all_rows(self._database, self._settings.users_table)
            rows = self._database.query(self._sql(HOLDERS), spellings=spellings)
        return [Holder(str(row["id"]), row["status"]) for row in rows]

    def said_too(self, feedback_id: str, address: Address) -> bool:
        """Whether another notification says that the address bounced for good."""
        with self._translating():
            return bool(self._database.query(self._sql(SAID_TOO), feedback_id=feedback_id, recipient=address.recipient))

    @writes
    def count(self, batch: Sequence[CountedRecipient]) -> Tally:
        """Count what hasn't been counted, and let it act on the users, by one statement; Busy when others keep it from it."""
        if not batch:
            return Tally()
        told = msgspec.json.encode(batch).decode()
        return msgspec.convert(self._retry_busy(lambda: self._one(COUNT, batch=told)), Tally)

    @writes
    def mark(self, feedback_id: str, address: Address, *, hard: bool) -> Tally:
        """Count one bounce as a person tells of it, now."""
        told = CountedRecipient(
            feedback_id=feedback_id,
            recipient=address.recipient,
            domain=address.domain,
            kind="bounce",
            type="Permanent" if hard else "Transient",
            subtype="Manual",
            at=self._now(),
            effect="bounced" if hard else "soft",
            others=address.others or None,
        )
        return self.count([told])

    @writes
    def take_back(self, feedback_id: str, address: Address, before: Sequence[tuple[str, str | None]]) -> int:
        """Forget that a notification was counted, and give `before` (id and status) back where it is ours; returns the users."""
        settings = self._settings
        held = json.dumps([{settings.id_column: id, settings.status_column: status} for id, status in before])
        values = {"feedback_id": feedback_id, "recipient": address.recipient, "before": held}
        return int(self._retry_busy(lambda: self._one(TAKE_BACK, **values))["users"])

    def _one(self, statement: str, **values: Any) -> dict[str, Any]:
        with self._translating():
            return self._database.query(self._sql(statement), **values)[0]

    def _retry_busy(self, work: Callable[[], Answer]) -> Answer:
        """Try again what was rolled back because somebody else had the same rows."""
        return retry(work, BUSY, sleep=time.sleep)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except NotFound as cause:
            raise NotFound(
                f"{cause.what} opsctl makes no tables by itself.", f'Once, as the owner of the users: psql "$DATABASE_URL" -f {DDL}'
            ) from cause

    def _sql(self, text: str) -> sql.Composed:
        return composed(self._settings, text)


def composed(settings: BounceSettings, text: str) -> sql.Composed:
    """A statement over the table and the columns that [bounces] names."""
    names = {
        "table": settings.notifications_table,
        "users": settings.users_table,
        "id": settings.id_column,
        "email": settings.email_column,
        "status": settings.status_column,
        "count": settings.count_column,
    }
    bounced = [sql.Literal(name) for name, effect in BOUNCES.items() if effect == "bounced"]
    said = sql.SQL("type || '/' || subtype IN ({})").format(sql.SQL(", ").join([*bounced, sql.Literal(BY_HAND)]))
    words = {"bounced": said, "bounced_word": sql.Literal(BOUNCED), "complained_word": sql.Literal(COMPLAINED)}
    return sql.SQL(text).format(**{name: sql.Identifier(value) for name, value in names.items()}, **words)
