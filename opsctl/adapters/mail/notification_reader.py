"""Reads SES notifications in batches from a file, standard input or a queue; unreadable ones go to the dead-letter file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.json_stream import iter_objects
from opsctl.adapters.mail import ses_parser as ses_notifications
from opsctl.adapters.mail.dead_letter import DeadLetterFile, digest
from opsctl.adapters.mail.ses_parser import CountedRecipient, MalformedNotification, ParsingRules
from opsctl.adapters.mail.sns_signatures import SnsSignatures
from opsctl.adapters.mail.spool import STDIN, PinnedContent, Spool
from opsctl.adapters.mail.unpacking import unpacked
from opsctl.formats import email_addresses
from opsctl.formats.email_addresses import Address

if TYPE_CHECKING:
    from opsctl.adapters.access import Access
    from opsctl.settings import BounceSettings

ROWS = 2_000
ROOM = 500_000
"""Approximate bytes of JSON of a batch's rows: a request of the Data API has at most 1 MB."""
ROW = 220
"""Bytes of a row without its id and addresses."""
HELD = 4_000_000
"""Maximum bytes of unreadable messages in a batch."""
AHEAD = timedelta(days=1)
"""How far a clock may be ahead of ours."""


class NotificationBatch(Struct):
    """The content of some messages: recipients to count, ignored kinds, and unreadable messages with the reason.

    `unsigned` recipients are from messages without an SNS signature, which anybody who can write to the file or queue may have sent.
    """

    rows: list[CountedRecipient] = field(default_factory=list)
    ignored: int = 0
    unsigned: int = 0
    bad: list[tuple[bytes, str]] = field(default_factory=list)
    read: int = 0
    room: int = ROOM
    held: int = 0

    @property
    def full(self) -> bool:
        """Whether it has reached the size of one statement, or the limit of memory."""
        return len(self.rows) >= ROWS or self.room <= 0 or self.held >= HELD or len(self.bad) >= ROWS


class NotificationReader(Adapter):
    """Reads notifications with the rules of [bounces] for accounts and topics.

    `reader` is the read-only twin of a writing one.
    """

    def __init__(
        self,
        access: Access,
        settings: BounceSettings,
        account: str,
        signatures: SnsSignatures,
        now: Callable[[], datetime],
        reader: NotificationReader | None = None,
    ) -> None:
        super().__init__(writing=access.writing)
        self._accounts, self._topics = frozenset([account, *settings.accounts]), frozenset(settings.topics)
        self._signatures, self._now = signatures, now
        # Both sets share the files on this machine.
        self._spool: Spool = reader._spool if reader else Spool()
        self._asides: dict[str, DeadLetterFile] = reader._asides if reader else {}

    def pin(self, source: str) -> PinnedContent:
        """Pin the content of a file or of standard input (`-`), so that no other content is counted instead."""
        return self._spool.pin(source)

    def batches(self, source: str, digest: str, size: int) -> Iterator[NotificationBatch]:
        """The pinned content, unpacked, in batches. Raises DriftError when it has changed, InputRequired when standard input is empty."""
        name = "Standard input" if source == STDIN else source
        with self._spool.opened(PinnedContent(source, digest, size)) as stream:
            yield from self.batched(each for piece in iter_objects(unpacked(stream, name)) for each in ses_notifications.apart(piece))

    def batched(self, messages: Iterable[bytes]) -> Iterator[NotificationBatch]:
        """The content of messages, in batches of at most one statement."""
        rules, batch = self._rules(), NotificationBatch()
        for raw in messages:
            self._add(batch, raw, rules)
            if batch.full:
                yield batch
                batch = NotificationBatch()
        if batch.read:
            yield batch

    def address(self, text: str) -> Address:
        """Parse an address; raises ValueError."""
        return email_addresses.parse(text)

    def keep(self, digest: str, *, until_resumed: bool) -> None:
        """Record that a content is in use, so that stored standard input stays for a resume, or that it is done."""
        self._spool.keep(digest, until_resumed=until_resumed)

    def unkept(self, path: str, batch: NotificationBatch) -> set[str]:
        """The digests of unreadable messages that are not in the dead-letter file yet."""
        return {digest(raw) for raw, _ in batch.bad} - self._aside(path).known

    def aside_fits(self, path: str) -> None:
        """Raise ConfigurationError when the dead-letter file can't be used."""
        self._aside(path).known  # noqa: B018

    @writes
    def put_aside(self, path: str, batch: NotificationBatch) -> int:
        """Append unreadable messages to the dead-letter file, durably; returns how many were new."""
        return self._aside(path).add(batch.bad)

    def close(self) -> None:
        """Remove stored standard input that no run needs."""
        self._spool.close()

    def _aside(self, path: str) -> DeadLetterFile:
        return self._asides.setdefault(path, DeadLetterFile(Path(path)))

    def _rules(self) -> ParsingRules:
        return ParsingRules(self._accounts, self._topics, self._now() + AHEAD, self._signatures.verify)

    def _add(self, batch: NotificationBatch, raw: bytes, rules: ParsingRules) -> None:
        batch.read += 1
        try:
            rows = ses_notifications.read(raw, rules)
        except MalformedNotification as cause:
            batch.bad.append((raw, str(cause)))
            batch.held += len(raw)
            return
        batch.rows += rows
        batch.room -= sum(ROW + len(row.recipient) + len(row.feedback_id) + sum(map(len, row.others or ())) for row in rows)
        batch.ignored += not rows
        batch.unsigned += sum(not row.signed for row in rows)
