"""Signature Version 4, checked as AWS does: who knows only a key's id, which is no secret, gets nothing.

Facts (AWS, "Create a signed AWS API request"): a request holds for five minutes around its X-Amz-Date. Services of the query protocol say
SignatureDoesNotMatch, the others say InvalidSignatureException.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from opsctl.sandbox.aws.wire import AwsError, Request, error_answer, read_request, send

LIFETIME = 300
AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=(\S+)")
NEEDED = {"host", "x-amz-date"}
STREAMED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
WRONG = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method."
    " Consult the service documentation for details."
)

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class SignatureCheck:
    """An AWS application behind the check of signatures. `secret_of` gives the secret of a key id, None for an unknown one.

    A request without a signature, or of an unknown key, is passed on: the application itself has the words for it.
    """

    def __init__(self, app: App, secret_of: Callable[[str], str | None], clock: Callable[[], float] = time.time) -> None:
        self._app, self._secret_of, self._clock = app, secret_of, clock

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        request = read_request(environ)
        secret = self._secret_of(request.access_key) if request.access_key else None
        try:
            if secret is not None:
                self._check(request, secret)
        except AwsError as error:
            return send(error_answer(request, error), start_response)
        return self._app(environ, start_response)

    def _check(self, request: Request, secret: str) -> None:
        code = "SignatureDoesNotMatch" if request.protocol == "query" else "InvalidSignatureException"
        status = 403 if request.protocol == "query" else 400
        found = AUTHORIZATION.fullmatch(str(request.environ.get("HTTP_AUTHORIZATION", "")).strip())
        if found is None or not set(found[2].split(";")) >= NEEDED:
            raise AwsError("IncompleteSignature" if status == 403 else "IncompleteSignatureException", WRONG, status)
        try:
            expected = _signature(request, found[1], found[2].split(";"), secret)
        except KeyError:
            raise AwsError(code, WRONG, status) from None
        if not hmac.compare_digest(expected.encode(), found[3].encode()):
            raise AwsError(code, WRONG, status)
        stamp = _header(request, "x-amz-date")
        if abs(_parse_time(stamp) - self._clock()) > LIFETIME:
            raise AwsError(code, f"Signature expired: {stamp} is not within 5 minutes of the server's time.", status)


def _signature(request: Request, credential: str, headers: list[str], secret: str) -> str:
    """The signature that the request has to carry; KeyError for one that signs a header which it doesn't have."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    environ = request.environ
    path = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ.get("PATH_INFO", "/")).partition("?")[0]
    query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
    signed = {name: _header(request, name) for name in headers}
    stated = _header(request, "x-amz-content-sha256", "")
    if stated and stated not in STREAMED and stated != hashlib.sha256(request.body).hexdigest():
        raise KeyError("x-amz-content-sha256")
    _, date, region, service, _ = credential.split("/")
    url = f"http://{signed['host']}{path}{query}"
    again = AWSRequest(method=str(environ["REQUEST_METHOD"]), url=url, headers=signed, data=request.body)
    again.context["timestamp"] = signed["x-amz-date"]
    auth = SigV4Auth(Credentials(request.access_key, secret), service, region)
    if not signed["x-amz-date"].startswith(date):
        raise KeyError("x-amz-date")
    return str(auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again))


def _header(request: Request, name: str, otherwise: str | None = None) -> str:
    key = name.upper().replace("-", "_")
    key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
    return str(request.environ[key] if otherwise is None else request.environ.get(key, otherwise))


def _parse_time(stamp: str) -> float:
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
