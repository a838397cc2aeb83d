"""Changes that count bounced mail. A notification is counted once for each recipient, however often it is delivered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec.structs import asdict

from opsctl.changes import raw
from opsctl.changes.raw.notifications import NONE_FAILED, ROWS, addressed, counting, reader, rules, taking_back
from opsctl.concurrency import read_ahead
from opsctl.contract import Change, Done, Drifted, Evidence, Failed, Finding, InProgress, Pending
from opsctl.errors import CheckFailed, DriftError
from opsctl.permissions import Permissions, needs
from opsctl.shell import File, Filled, Forever, Must, Need, Variable, Wanted, When, joined, piped, run

if TYPE_CHECKING:
    from opsctl.adapters.mail.notification_reader import NotificationBatch
    from opsctl.adapters.sql.bounce_store import Tally
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement, Word
    from opsctl.systems import Systems

STDIN = "-"
DATABASE = frozenset({"secretsmanager:GetSecretValue", "rds:DescribeDBClusters"})


class Counting(Change, frozen=True, kw_only=True):
    """A change that counts notifications; unreadable ones are kept in the file `aside`."""

    under_way: ClassVar[float] = 0
    poll: ClassVar[float] = 1
    irreversible: ClassVar[str] = "counted notifications stay counted; correct a single address by hand"

    aside: str

    def count(self, write: Systems, batch: NotificationBatch, done: dict[str, int]) -> None:
        """Counts a batch, keeps its unreadable messages in the file, and adds both numbers to `done`."""
        tally: Tally = write.bounce_store.count(batch.rows)
        found: dict[str, int] = asdict(tally)
        found |= {"repeated": len(batch.rows) - tally.counted, "ignored": batch.ignored, "unsigned": batch.unsigned, "read": batch.read}
        found["kept aside"] = write.notifications.put_aside(self.aside, batch) if batch.bad else 0
        for name, number in found.items():
            done[name] = done.get(name, 0) + number

    def left_over(self) -> str:
        """Where the unreadable messages are, in words; empty if there are none."""
        return f"; unreadable messages are in {self.aside}" if Path(self.aside).exists() else ""


class CountNotifications(Counting, frozen=True, kw_only=True):
    """Every notification in a file, or from standard input, has been counted.

    The content is pinned by its digest, so that no other content is counted instead.
    """

    permissions: ClassVar[Permissions] = needs(check="postgres:mail.counted", apply="postgres:mail.count")

    source: str
    digest: str
    size: int

    @property
    def target(self) -> str:
        """`bounces/NAME`, or `bounces/stdin-DIGEST`."""
        return f"bounces/stdin-{self.digest[:12]}" if self.source == STDIN else f"bounces/{Path(self.source).name}"

    @property
    def summary(self) -> str:
        """Which file."""
        name = "standard input" if self.source == STDIN else self.source
        return f"count the notifications of {name} ({self.size:,} bytes, SHA-256 {self.digest[:12]}), each once"

    def difference(self) -> tuple[Any, Any]:
        """Nothing is replaced."""
        return None, None

    def check(self, read: Systems) -> Finding:
        """Queries the table for every notification in the content."""
        new: set[int] = set()
        rows = had = ignored = bad = unsigned = 0
        first = ""
        unkept: set[str] = set()
        try:
            for batch in self._batches(read):
                keys = [(row.feedback_id, row.recipient) for row in batch.rows]
                missing = [hash(keys[place]) for place in read.bounce_store.missing(keys)]
                new.update(missing)
                had += len(keys) - len(missing)
                unkept |= read.notifications.unkept(self.aside, batch)
                rows, ignored, bad = rows + len(batch.rows), ignored + batch.ignored, bad + len(batch.bad)
                unsigned += batch.unsigned
                first = first or next((why for _, why in batch.bad), "")
        except DriftError as moved:
            return Drifted(moved.what.rstrip("."))
        if not new and not unkept:
            read.notifications.keep(self.digest, until_resumed=False)
            if bad and not rows and not ignored:
                return Failed(f"none of its {bad:,} messages can be read (the first: {first}){self.left_over()}", bad, "messages")
            return Done(self._done_reason(rows, ignored, bad) + (self.left_over() if bad else ""))
        notes = [f"{had:,} of {rows:,} already counted"] if had else []
        notes += [f"duplicates: {rows - had - len(new):,}"] if rows - had > len(new) else []
        notes += [f"other notification types: {ignored:,}"] if ignored else []
        notes += [f"without an SNS signature: {unsigned:,} (anybody who can write {self._place} may have made them)"] if unsigned else []
        notes += [f"unreadable: {bad:,}, to be stored in {self.aside}"] if bad else []
        return Pending(len(new) + len(unkept), "notifications", "; ".join(notes))

    @property
    def _place(self) -> str:
        return "to standard input" if self.source == STDIN else "to that file"

    def _done_reason(self, rows: int, ignored: int, bad: int) -> str:
        if rows:
            return f"all {rows:,} {'readable ' if bad else ''}notifications in it are already counted"
        if bad:
            others = ", and the others are of other types" if ignored else ""
            return f"{bad:,} of its {bad + ignored:,} messages can't be read{others}"
        why = f" (other notification types: {ignored:,})" if ignored else ""
        return f"it contains nothing to count{why}" if self.size else "it is empty"

    def _batches(self, systems: Systems) -> Iterable[NotificationBatch]:
        return read_ahead(systems.notifications.batches(self.source, self.digest, self.size))

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One statement for each batch; can stop between batches."""
        write.notifications.keep(self.digest, until_resumed=True)
        done: dict[str, int] = {}
        for batch in self._batches(write):
            self.count(write, batch, done)
            progress(done["read"], None, "notifications")
        return dict(done)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's commands (Safawinet 3.2), counting each notification once."""
        source: Word = self.source
        given: list[Statement] = []
        if self.source == STDIN:
            source = Variable("NOTIFICATIONS")
            given = [Wanted(need=Need("NOTIFICATIONS", f"the file with the notifications, SHA-256 {self.digest[:12]}"))]
        read = run(reader(), rules(environment), self.aside, self.digest, "", stdin=source, output=ROWS)
        return [*given, *raw.database(environment), read, counting(environment, ROWS)]


class CountQueue(Counting, frozen=True, kw_only=True):
    """No notification waits in an SQS queue: each was counted, then deleted."""

    permissions: ClassVar[Permissions] = needs(
        check="postgres:mail.counted sqs:GetQueueAttributes sqs:GetQueueUrl",
        apply="postgres:mail.count sqs:DeleteMessage sqs:GetQueueUrl sqs:ReceiveMessage",
    )
    converging: ClassVar[bool] = True
    target_template: ClassVar[str] = "bounces/{queue}"
    summary_template: ClassVar[str] = "count the notifications in the queue {queue}, each once, then delete them from the queue"

    queue: str
    region: str | None = None

    def check(self, read: Systems) -> Finding:
        """Reads the queue's attributes and checks that the table exists; receives no message."""
        read.bounce_store.missing([("", "")])
        depth = read.sqs.depth(self.queue, self.region)
        if depth.waiting:
            return Pending(depth.waiting, "messages", "number estimated by SQS; SNS signatures are verified where a message has one")
        if depth.in_flight:
            return InProgress(
                f"{depth.in_flight:,} messages are in flight; waiting until a consumer deletes them or they return to the queue"
            )
        delayed = f", except {depth.delayed:,} delayed messages, which can't be received yet" if depth.delayed else ""
        return Done(f"the queue is empty{delayed}{self.left_over()}")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Receives ten messages at a time, counts them, keeps the unreadable ones in the file, and only then deletes them."""
        settings = write.environment.bounces
        ours, wait = int(settings.visibility.total_seconds()), int(settings.wait.total_seconds())
        done: dict[str, int] = {}
        bad = 0
        while messages := write.sqs.receive(self.queue, self.region, seconds=ours, wait=wait):
            for batch in write.notifications.batched(message.body.encode(errors="surrogatepass") for message in messages):
                self.count(write, batch, done)
                bad += len(batch.bad)
            missed = write.sqs.delete(self.queue, self.region, [message.receipt for message in messages])
            done["left in the queue"] = done.get("left in the queue", 0) + missed
            progress(done["read"], None, "messages")
        if bad and bad == done["read"]:
            raise CheckFailed(f"None of the messages can be read; they are in {self.aside}.", "Check what sends to this queue.")
        return dict(done)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """Ten messages at a time, like `apply`."""
        settings = environment.bounces
        ours, wait = int(settings.visibility.total_seconds()), int(settings.wait.total_seconds())
        url, messages, receipts = joined("--queue-url=", Variable("url")), File("messages"), File("receipts")
        how = {"MaxNumberOfMessages": 10, "VisibilityTimeout": ours, "WaitTimeSeconds": wait}
        take = raw.aws(environment, "sqs", "receive-message", url, region=self.region, **how)
        delete = raw.aws(environment, "sqs", "delete-message-batch", url, "--entries", joined("file://", receipts), region=self.region)
        deleted = piped(run(delete.program, *delete.words, "--output", "json"), run(NONE_FAILED))
        count = When(
            test=Filled(file=receipts),
            then=(
                counting(environment, ROWS),
                Must(test=deleted, otherwise="SQS did not delete some messages; they will return to the queue."),
            ),
        )
        return [
            *raw.database(environment),
            raw.learn("url", raw.aws(environment, "sqs", "get-queue-url", region=self.region, QueueName=self.queue), "QueueUrl"),
            Forever(
                statements=(
                    run(take.program, *take.words, "--output", "json", output=messages),
                    run(reader(), rules(environment), self.aside, "", receipts, stdin=messages, output=ROWS),
                    count,
                ),
                until=Filled(file=receipts, empty=True),
                seconds=3_600,
                every=0,
                otherwise="The queue was not empty after an hour.",
            ),
        ]


class AddressMark(Change, frozen=True, kw_only=True):
    """A manual mark on one address, under a notification's id. `before` holds each user with this address, and their former status.

    The address is personal data: the ledger stores it separately, and no other output shows it.
    """

    target_template: ClassVar[str] = "bounces/{notification}"

    notification: str
    address: str
    hard: bool
    before: tuple[tuple[str, str | None], ...]

    @property
    def users(self) -> str:
        """The users with this address, in words."""
        return f"user {self.before[0][0]}" if len(self.before) == 1 else f"users {', '.join(id for id, _ in self.before)}"

    def counted(self, read: Systems) -> bool:
        """Whether the table has the notification."""
        return not read.bounce_store.missing([(self.notification, read.notifications.address(self.address).recipient)])

    def now(self, read: Systems) -> tuple[tuple[str, str | None], ...]:
        """The users with this address, and their current statuses."""
        return tuple((each.id, each.status) for each in read.bounce_store.holders(read.notifications.address(self.address)))

    @property
    def after(self) -> tuple[tuple[str, str | None], ...]:
        """The statuses after a hard bounce; a complaint is worse, and stays."""
        return tuple((id, status if status == "complained" else "bounced") for id, status in self.before)


class MarkAddress(AddressMark, frozen=True, kw_only=True):
    """A notification is counted for an address: a hard bounce marks the address, a soft bounce adds one."""

    permissions: ClassVar[Permissions] = needs(check="postgres:mail.counted postgres:mail.status", apply="postgres:mail.count")

    @property
    def summary(self) -> str:
        """Which users, and how."""
        what = "mark the address of {} as bounced" if self.hard else "add 1 to the bounce count of {}"
        return f"{what.format(self.users)} (notification {self.notification})"

    def difference(self) -> tuple[Any, Any]:
        """The status, for a hard bounce."""
        return (_statuses(self.before), _statuses(self.after)) if self.hard else (None, "one more")

    def check(self, read: Systems) -> Finding:
        """Queries the table for the notification."""
        if self.counted(read):
            return Done("this notification is already counted for this address")
        if self.hard and self.now(read) != self.before:
            return Drifted("the status or the users of this address have changed since the plan")
        return Pending(len(self.before), "users")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One statement."""
        tally = write.bounce_store.mark(self.notification, write.notifications.address(self.address), hard=self.hard)
        return {"counted": tally.counted}

    def inverse(self) -> Change:
        """Restores the former status if it is still ours, or subtracts one."""
        return UnmarkAddress(**{name: getattr(self, name) for name in self.__struct_fields__})

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 3.2.1 or 3.2.2), once. The script asks for the address, because it is personal data."""
        kind = {"type": "Permanent" if self.hard else "Transient", "effect": "bounced" if self.hard else "soft"}
        row = {"feedback_id": self.notification, "kind": "bounce", "subtype": "Manual", **kind}
        return [*addressed(self.users, json.dumps(row)), *raw.database(environment), counting(environment, ROWS)]


class UnmarkAddress(AddressMark, frozen=True, kw_only=True):
    """A manual mark is undone: the notification is no longer counted for the address, and the former status is restored.

    A status that is no longer ours, or that another notification also causes, stops the run.
    """

    permissions: ClassVar[Permissions] = needs(
        check="postgres:mail.counted postgres:mail.bounced postgres:mail.status",
        apply="postgres:mail.uncount",
    )

    @property
    def summary(self) -> str:
        """Which users."""
        what = "restore the former status of" if self.hard else "subtract 1 from the bounce count of"
        return f"{what} {self.users}, and delete notification {self.notification}"

    def difference(self) -> tuple[Any, Any]:
        """The status, for a hard bounce."""
        return (_statuses(self.after), _statuses(self.before)) if self.hard else (None, "one less")

    def check(self, read: Systems) -> Finding:
        """Queries the table for the notification."""
        if not self.counted(read):
            stays = "; the status stays, because another notification reports the same bounce" if self._said_too(read) else ""
            return Done(f"this notification is not counted for this address{stays}")
        if self.hard and self.now(read) != self.after:
            return Drifted("the status has changed since opsctl set it")
        if self._said_too(read):
            return Drifted("another notification also reports that this address bounced, so its status must stay")
        return Pending(len(self.before), "users")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One statement."""
        # A notification that is counted at this moment keeps the status: the check afterwards reports that.
        return {"users": write.bounce_store.take_back(self.notification, write.notifications.address(self.address), self.before)}

    def _said_too(self, read: Systems) -> bool:
        """Whether another notification also causes the status that would be restored."""
        changed = self.hard and self.before != self.after
        return changed and read.bounce_store.has_complaint_or_bounce(self.notification, read.notifications.address(self.address))

    def inverse(self) -> Change:
        """Sets the mark again."""
        return MarkAddress(**{name: getattr(self, name) for name in self.__struct_fields__})

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The statement of `apply`: restores the status and deletes the row, so that the mark can be set again."""
        recipient = File("recipient")
        back = taking_back(environment, self.notification, recipient, self.before)
        row = run(raw.ITS_FIRST, "recipient", stdin=ROWS, output=recipient)
        return [*addressed(self.users, "{}"), row, *raw.database(environment), back]


def _statuses(held: tuple[tuple[str, str | None], ...]) -> Any:
    """The status of one user, or of several users."""
    return held[0][1] if len(held) == 1 else [status for _, status in held]
