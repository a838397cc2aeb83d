"""AWS WAF: a web ACL's rules and address sets."""

from __future__ import annotations

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter


class Waf(Adapter):
    """AWS WAF in the environment's region, or in another where `region` is given."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws
