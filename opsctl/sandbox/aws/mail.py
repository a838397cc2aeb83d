"""SES and its queue: what moto lacks or does otherwise than AWS; the rest is moto's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws import notifications
from opsctl.sandbox.aws.moto_app import Moto
from opsctl.sandbox.aws.names import REGION
from opsctl.sandbox.aws.timeline import Timeline
from opsctl.sandbox.aws.wire import Answer, Request

Operation = Callable[[Request], Mapping[str, Any] | Answer]


class Mail:
    """The calls of SES and its queue that the sandbox answers itself, by the service that signs them."""

    def __init__(self, timeline: Timeline, moto: Moto) -> None:
        self._timeline = timeline
        self._moto = moto
        self.services: dict[str, dict[str, Operation]] = {"sesv2": {}, "ses": {}, "sqs": {}}

    def seed(self) -> None:
        """A queue for SES's notifications, and a few mails sent."""
        self._moto.json("sqs", REGION, "AmazonSQS.CreateQueue", {"QueueName": "ses-notifications"})
        notifications.fill(self._moto, self._timeline.now())
        self._moto.query("ses", REGION, "VerifyEmailIdentity", EmailAddress="no-reply@example.com")
        for number in range(5):
            self._moto.query(
                "ses",
                REGION,
                "SendEmail",
                Source="no-reply@example.com",
                **{
                    "Destination.ToAddresses.member.1": f"user{number + 1}@example.com",
                    "Message.Subject.Data": "Welcome",
                    "Message.Body.Text.Data": "Welcome to Safawinet.",
                },
            )
