"""AWS CloudTrail: who did what."""

from __future__ import annotations

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter


class CloudTrail(Adapter):
    """AWS CloudTrail in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
