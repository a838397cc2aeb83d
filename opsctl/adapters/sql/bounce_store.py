"""The users by e-mail address, and the table of counted notifications.

The table is created by hand from `opsctl/ddl/ses_notifications.sql`. A batch is one statement with one JSON parameter: it inserts the
notifications that are not in the table yet and updates only their users, so that a batch that is interrupted has counted everything or
nothing. The Data API's own batches return no counts.
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
from opsctl.adapters.mail.ses_parser import CountedRecipient
from opsctl.adapters.sql.database import Busy
from opsctl.adapters.sql.visibility import require_all_rows
from opsctl.errors import DriftError, NotFound, Throttled
from opsctl.formats.ses_bounces import BOUNCES
from opsctl.retry import Policy, retry
from opsctl.statements import bounces as statements

if TYPE_CHECKING:
    from datetime import datetime

    from opsctl.adapters.sql.database import Database
    from opsctl.formats.email_addresses import Address
    from opsctl.settings import BounceSettings

DDL = Path(__file__).parents[2] / "ddl" / "ses_notifications.sql"
BUSY = Policy(tries=6, deadline=30.0, first=0.1, errors=(Busy, Throttled))
COMPLAINED = "complained"
FINAL = statements.final(BOUNCES)

Answer = TypeVar("Answer")


class Tally(Struct):
    """The result of a batch: rows counted, and the recipients that were marked, complained, got a higher count, or have no user."""

    counted: int = 0
    bounced: int = 0
    complained: int = 0
    soft: int = 0
    unknown: int = 0


class AddressHolder(Struct, frozen=True):
    """A user with a given address."""

    id: str
    status: str | None


class BounceStore(Adapter):
    """The users and the table of notifications in [bounces]."""

    def __init__(self, database: Database, settings: BounceSettings, now: Callable[[], datetime]) -> None:
        super().__init__(writing=database.writing)
        self._database, self._settings, self._now = database, settings, now

    def missing(self, keys: Sequence[tuple[str, str]]) -> list[int]:
        """Indices of the `keys` (feedback id and recipient) that are not in the table yet."""
        if not keys:
            return []
        rows = [{"number": n, "feedback_id": feedback, "recipient": recipient} for n, (feedback, recipient) in enumerate(keys)]
        with self._translating():
            found = self._database.query(self._sql(statements.MISSING), keys=json.dumps(rows))
        return [int(row["number"]) for row in found]

    def holders(self, address: Address) -> list[AddressHolder]:
        """The users with this address, ordered by id."""
        spellings = json.dumps([address.recipient, *address.others])
        with self._translating():
            if not self.writing:
                require_all_rows(self._database, self._settings.users_table)
            rows = self._database.query(self._sql(statements.HOLDERS), spellings=spellings)
        return [AddressHolder(str(row["id"]), row["status"]) for row in rows]

    def has_complaint_or_bounce(self, feedback_id: str, address: Address) -> bool:
        """Whether another notification reports a permanent bounce or a complaint of this address."""
        with self._translating():
            return bool(
                self._database.query(self._sql(statements.SAID_TOO), feedback_id=feedback_id, recipient=address.recipient, final=FINAL)
            )

    @writes
    def count(self, batch: Sequence[CountedRecipient]) -> Tally:
        """Insert the new notifications and update their users in one statement. Raises Busy on a lock timeout."""
        if not batch:
            return Tally()
        told = msgspec.json.encode(batch).decode()
        return msgspec.convert(self._retry_busy(lambda: self._one(statements.COUNT, batch=told)), Tally)

    @writes
    def mark(self, feedback_id: str, address: Address, *, hard: bool) -> Tally:
        """Count one bounce that a person reports now."""
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
        """Delete a notification and restore the statuses in `before` (id, status) that are unchanged since; returns how many users."""
        held = statements.before_json(self._settings, before)
        values = {"feedback_id": feedback_id, "recipient": address.recipient, "before": held, "final": FINAL}
        return int(self._retry_busy(lambda: self._one(statements.TAKE_BACK, **values))["users"])

    def active(self, ids: Sequence[str]) -> dict[str, bool]:
        """Whether each user is active, by id; deleted users are missing."""
        rows = self._database.query(self._sql(statements.ACTIVE), ids=statements.ids_json(self._settings, ids))
        return {row["id"]: row["active"] for row in rows}

    @writes
    def set_active(self, ids: Sequence[str], wanted: bool, *, all_or_none: bool) -> int:
        """Set whether these users are active, and return how many changed.

        With `all_or_none`, changes nothing and raises DriftError when one of them already has that state.
        """
        with self._database.transaction():
            done = self._database.execute(self._sql(statements.SET_ACTIVE), ids=statements.ids_json(self._settings, ids), wanted=wanted)
            if all_or_none and done != len(ids):
                raise DriftError("Some of these users have changed since the plan; none was changed by this run.", "Make a new plan.")
        return done

    def _one(self, statement: str, **values: Any) -> dict[str, Any]:
        with self._translating():
            return self._database.query(self._sql(statement), **values)[0]

    def _retry_busy(self, work: Callable[[], Answer]) -> Answer:
        """Retry a statement that was rolled back because another transaction locked the same rows."""
        return retry(work, BUSY, sleep=time.sleep)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except NotFound as cause:
            raise NotFound(
                f"{cause.what} opsctl does not create the table itself.", f'Once, as the owner of the users: psql "$DATABASE_URL" -f {DDL}'
            ) from cause

    def _sql(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(**{name: sql.Identifier(each) for name, each in statements.names(self._settings).items()})
