"""Amazon SQS: queue attributes and messages."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import ExternalError, Retry

AT_ONCE = 10
"""Messages of one call (SQS API reference, ReceiveMessage and DeleteMessageBatch)."""


class Depth(Struct, frozen=True):
    """Approximate numbers of messages that are visible, in flight and delayed, up to a minute old."""

    waiting: int
    in_flight: int
    delayed: int


class QueueMessage(Struct, frozen=True):
    """A received message, hidden from others until its timeout; `receipt` deletes it."""

    id: str
    receipt: str
    body: str


class Sqs(Adapter):
    """Amazon SQS in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
        self._urls: dict[tuple[str, str | None], str] = {}

    def depth(self, queue: str, region: str | None = None) -> Depth:
        """A queue's attributes; raises NotFound. Receives no message."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
        url = self._url(queue, region)
        found = self._aws.call("sqs", "get_queue_attributes", region=region, QueueUrl=url, AttributeNames=names).get("Attributes", {})
        if missing := [name for name in names if name not in found]:
            raise ExternalError(f"SQS returned no {', '.join(missing)} for the queue {queue}.", Retry())
        return Depth(*(int(found[name]) for name in names))

    @writes
    def receive(self, queue: str, region: str | None = None, *, seconds: int, wait: int = 0) -> list[QueueMessage]:
        """Receive up to ten messages and hide them for `seconds`; wait up to `wait` seconds for the first."""
        found = self._aws.call(
            "sqs",
            "receive_message",
            region=region,
            QueueUrl=self._url(queue, region),
            MaxNumberOfMessages=AT_ONCE,
            VisibilityTimeout=seconds,
            WaitTimeSeconds=wait,
        )
        return [QueueMessage(each["MessageId"], each["ReceiptHandle"], each["Body"]) for each in found.get("Messages", [])]

    @writes
    def delete(self, queue: str, region: str | None, receipts: Sequence[str]) -> int:
        """Delete up to ten messages; returns how many SQS did not delete."""
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        answer = self._aws.call("sqs", "delete_message_batch", region=region, QueueUrl=self._url(queue, region), Entries=entries)
        return len(answer.get("Failed", []))

    def _url(self, queue: str, region: str | None) -> str:
        key = (queue, region)
        if key not in self._urls:
            self._urls[key] = self._aws.call("sqs", "get_queue_url", region=region, QueueName=queue)["QueueUrl"]
        return self._urls[key]
