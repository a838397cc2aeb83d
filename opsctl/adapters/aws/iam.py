"""AWS IAM: users, their keys, policies and sign-ins."""

from __future__ import annotations

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter


class Iam(Adapter):
    """AWS IAM in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
