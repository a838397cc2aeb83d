"""SES's notifications from a file, standard input or a queue's messages: read in batches, and kept aside where that can't be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.json_stream import iter_objects
from opsctl.adapters.mail import addresses
from opsctl.adapters.mail import ses_parser as ses_notifications
from opsctl.adapters.mail.addresses import Address
from opsctl.adapters.mail.dead_letter import DeadLetterFile, digest
from opsctl.adapters.mail.ses_parser import CountedRecipient, MalformedNotification, ParsingRules
from opsctl.adapters.mail.sns_signatures import SnsSignatures
from opsctl.adapters.mail.spool import STDIN, PinnedContent, Spool
from opsctl.adapters.mail.unpacking import unpacked

if TYPE_CHECKING:
    from opsctl.adapters.access import Access
    from opsctl.settings import BounceSettings

ROWS = 2_000
ROOM = 500_000
"""About how many bytes of JSON the rows of a batch make: the Data API takes a request of about a megabyte."""
ROW = 220
"""What a row takes beside its id and its addresses."""
HELD = 4_000_000
"""Bytes of messages to be kept aside that a batch holds."""
AHEAD = timedelta(days=1)
"""How far a clock may be ahead of ours."""


class NotificationBatch(Struct):
    """What some messages say: the recipients to count, the kinds that count for nobody, and what can't be read, with the reason.

    `unsigned` of the recipients are of messages that carry no signature of SNS: whoever wrote to the file or the queue may have sent them.
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
        """Whether it is as much as one statement takes, or as memory is to hold."""
        return len(self.rows) >= ROWS or self.room <= 0 or self.held >= HELD or len(self.bad) >= ROWS


class NotificationReader(Adapter):
    """Reads notifications by the rules of [bounces]: of which accounts, through which topics.

    `reader` is the reading set's one, where this one writes.
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
        # What is kept on this machine is the same for the reading and the writing set.
        self._spool: Spool = reader._spool if reader else Spool()
        self._asides: dict[str, DeadLetterFile] = reader._asides if reader else {}

    def pin(self, source: str) -> PinnedContent:
        """Find out which content a file or standard input (`-`) has, so that no other is counted in its place."""
        return self._spool.pin(source)

    def batches(self, source: str, digest: str, size: int) -> Iterator[NotificationBatch]:
        """The pinned content, unpacked, in batches. Raises DriftError when it has changed, InputRequired when nobody gives it again."""
        name = "Standard input" if source == STDIN else source
        with self._spool.opened(PinnedContent(source, digest, size)) as stream:
            yield from self.batched(each for piece in iter_objects(unpacked(stream, name)) for each in ses_notifications.apart(piece))

    def batched(self, messages: Iterable[bytes]) -> Iterator[NotificationBatch]:
        """Read messages and give what they say, no more at once than one statement takes."""
        rules, batch = self._rules(), NotificationBatch()
        for raw in messages:
            self._add(batch, raw, rules)
            if batch.full:
                yield batch
                batch = NotificationBatch()
        if batch.read:
            yield batch

    def address(self, text: str) -> Address:
        """Read one address as notifications have them; raises ValueError for what is none."""
        return addresses.parse(text)

    def keep(self, digest: str, *, until_resumed: bool) -> None:
        """Say that a content was begun, so that what is kept of standard input stays for a resume; or that it is done with."""
        self._spool.keep(digest, until_resumed=until_resumed)

    def unkept(self, path: str, batch: NotificationBatch) -> set[str]:
        """The digests of what can't be read and isn't kept aside yet."""
        return {digest(raw) for raw, _ in batch.bad} - self._aside(path).known

    def aside_fits(self, path: str) -> None:
        """Raise ConfigurationError where what can't be read could not be kept: no plain file, or one that holds something else."""
        self._aside(path).known  # noqa: B018

    @writes
    def put_aside(self, path: str, batch: NotificationBatch) -> int:
        """Keep what can't be read in a file, durably; returns how many weren't there yet."""
        return self._aside(path).add(batch.bad)

    def close(self) -> None:
        """Remove what was kept of standard input and no run wants again."""
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
