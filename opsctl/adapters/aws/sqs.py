"""Amazon SQS: a queue's figures, and its messages."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import ExternalError, Retry

AT_ONCE = 10
"""Messages of one call (SQS API reference, ReceiveMessage and DeleteMessageBatch)."""


class Depth(Struct, frozen=True):
    """How many messages wait, are with some consumer just now, or are held back; approximate, and up to a minute old."""

    waiting: int
    in_flight: int
    delayed: int


class QueueMessage(Struct, frozen=True):
    """A message that is ours until its time is up; `receipt` is what deletes it."""

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
        """A queue's attributes; NotFound when there is no such queue. No message is received for it."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
        url = self._url(queue, region)
        found = self._aws.call("sqs", "get_queue_attributes", region=region, QueueUrl=url, AttributeNames=names).get("Attributes", {})
        if missing := [name for name in names if name not in found]:
            raise ExternalError(f"SQS returned no {', '.join(missing)} for the queue {queue}.", Retry())
        return Depth(*(int(found[name]) for name in names))

    @writes
    def receive(self, queue: str, region: str | None = None, *, seconds: int, wait: int = 0) -> list[QueueMessage]:
        """Take up to ten messages for so many seconds, after which they are back; with `wait`, wait that long for the first."""
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
        """Delete up to ten messages for good; returns how many SQS did not delete, which then come back."""
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        answer = self._aws.call("sqs", "delete_message_batch", region=region, QueueUrl=self._url(queue, region), Entries=entries)
        return len(answer.get("Failed", []))

    def _url(self, queue: str, region: str | None) -> str:
        key = (queue, region)
        if key not in self._urls:
            self._urls[key] = self._aws.call("sqs", "get_queue_url", region=region, QueueName=queue)["QueueUrl"]
        return self._urls[key]
