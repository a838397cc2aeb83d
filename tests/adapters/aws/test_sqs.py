"""SQS by its adapter: figures without a message, messages that come back, and queues that aren't there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.aws.sqs import Depth, Sqs
from opsctl.errors import NotFound, ReadOnly
from tests.adapters.aws.conftest import CONFIG


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("sqs", region_name="eu-west-1")
        url = client.create_queue(QueueName="bounces")["QueueUrl"]

        def send(*bodies: str) -> None:
            for body in bodies:
                client.send_message(QueueUrl=url, MessageBody=body)

        yield send


def sqs(*, writing: bool) -> Sqs:
    return Sqs(AwsSession(CONFIG, sandbox=False, writing=writing))


def test_reading_takes_no_message(queue: Callable[..., Any]) -> None:
    queue(*map(str, range(12)))
    read = sqs(writing=False)
    assert read.depth("bounces", "eu-west-1") == Depth(waiting=12, in_flight=0, delayed=0)
    for effect in (lambda: read.receive("bounces", "eu-west-1", seconds=1), lambda: read.delete("bounces", "eu-west-1", ["x"])):
        with pytest.raises(ReadOnly):
            effect()


def test_what_was_taken_is_deleted_or_comes_back(queue: Callable[..., Any]) -> None:
    queue(*map(str, range(12)))
    write = sqs(writing=True)
    taken = write.receive("bounces", "eu-west-1", seconds=60)
    assert [message.body for message in taken] == [str(n) for n in range(10)]
    assert write.depth("bounces", "eu-west-1") == Depth(2, 10, 0)
    assert write.delete("bounces", "eu-west-1", [message.receipt for message in taken]) == 0
    left = write.receive("bounces", "eu-west-1", seconds=0)
    assert len(left) == 2
    assert write.depth("bounces", "eu-west-1").waiting == 2
    assert write.delete("bounces", "eu-west-1", ["no-receipt", left[0].receipt]) == 1


def test_an_unknown_queue_is_named(queue: Callable[..., Any]) -> None:
    for name, region in (("nowhere", "eu-west-1"), ("bounces", None)):
        with pytest.raises(NotFound, match="sqs:GetQueueUrl"):
            sqs(writing=False).depth(name, region)
