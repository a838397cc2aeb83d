"""Amazon SQS: a queue's figures, and its messages."""

from __future__ import annotations

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter


class Sqs(Adapter):
    """Amazon SQS in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
