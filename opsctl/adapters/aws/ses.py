"""Amazon SES: what was sent and came back, the account's reputation, and its suppression list."""

from __future__ import annotations

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter


class Ses(Adapter):
    """Amazon SES in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
