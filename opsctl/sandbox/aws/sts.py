"""STS: who the sandbox's own key belongs to, and what AWS says to any other key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from opsctl.sandbox.aws.names import ACCOUNT
from opsctl.sandbox.aws.wire import Answer, AwsError, Request, query_answer

USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/oncall"
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_EXPIRED = "The security token included in the request is expired"
_INVALID = "The security token included in the request is invalid"


class FakeSts:
    """GetCallerIdentity for the sandbox's user; roles are moto's."""

    def __init__(self, own_key: str, moto: Callable[[Request], Answer]) -> None:
        self._own_key = own_key
        self._moto = moto
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {"GetCallerIdentity": self._caller}

    def _caller(self, request: Request) -> Answer:
        if request.access_key != self._own_key:
            return self._moto(request)
        result = f"<Arn>{USER_ARN}</Arn><UserId>AIDASANDBOXONCALL0001</UserId><Account>{ACCOUNT}</Account>"
        return query_answer(request, _NAMESPACE, result)


def check_key(request: Request, own_key: str, lent_keys: Callable[[], Collection[str]]) -> None:
    """Refuse a key that isn't the sandbox's own or one of `lent_keys` (by AssumeRole), with the code its protocol has.

    Query services say InvalidClientTokenId and ExpiredToken, the others UnrecognizedClientException and
    ExpiredTokenException. A key id that begins with ASIAEXPIRED has expired.
    """
    key = request.access_key
    if key == own_key or (key.startswith("ASIA") and key in lent_keys()):
        return
    query = request.protocol == "query"
    if not key:
        code = "MissingAuthenticationToken" if query else "MissingAuthenticationTokenException"
        raise AwsError(code, "Request is missing Authentication Token", 403)
    if key.startswith("ASIAEXPIRED"):
        raise AwsError("ExpiredToken" if query else "ExpiredTokenException", _EXPIRED, 403 if query else 400)
    raise AwsError("InvalidClientTokenId" if query else "UnrecognizedClientException", _INVALID, 403 if query else 400)
