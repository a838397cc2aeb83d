"""AWS's wire protocols, as far as a stand-in needs them: what was asked, and answers and errors shaped as AWS shapes them."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from opsctl.sandbox.aws import rest
from opsctl.sandbox.aws.names import REGION

CACHE_KEY = "opsctl.aws.request"


class AwsError(Exception):
    """An error that the caller sees as AWS would send it: code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400, **fields: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields


@dataclass
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)


@dataclass
class Request:
    """One AWS call. `protocol` is json, query, rest or cbor; `operation` is empty where it can't be told."""

    environ: dict[str, Any]
    service: str
    region: str
    access_key: str
    protocol: str
    operation: str
    body: bytes
    parameters_of_path: dict[str, str] = field(default_factory=dict)

    @cached_property
    def params(self) -> dict[str, Any]:
        """The call's parameters: the JSON body, or the form's fields by their flat names; for REST also those in the path."""
        if self.protocol == "query":
            return dict(parse_qsl(self.body.decode(), keep_blank_values=True))
        if self.protocol == "cbor" or not self.body:
            return dict(self.parameters_of_path)
        try:
            given = json.loads(self.body)
        except ValueError as error:
            raise AwsError("SerializationException", "The request's body is not JSON.") from error
        return {**self.parameters_of_path, **given}

    def rewound(self) -> dict[str, Any]:
        """A copy of the WSGI environment whose body can be read once more."""
        return {**self.environ, "wsgi.input": io.BytesIO(self.body), "CONTENT_LENGTH": str(len(self.body))}


def read_request(environ: Mapping[str, Any]) -> Request:
    """Read a request once and keep it in `environ`, so that it can be asked for again; the body stays readable."""
    kept = environ.get(CACHE_KEY)
    if isinstance(kept, Request):
        return kept
    target = environ if isinstance(environ, dict) else dict(environ)
    length = int(target.get("CONTENT_LENGTH") or 0)
    body = target["wsgi.input"].read(length) if length else b""
    target["wsgi.input"] = io.BytesIO(body)
    access_key, region, service = _credential(str(target.get("HTTP_AUTHORIZATION", "")))
    request = Request(target, service, region, access_key, "rest", "", body)
    _name_operation(request)
    target[CACHE_KEY] = request
    return request


def _credential(authorization: str) -> tuple[str, str, str]:
    _, _, rest_of_it = authorization.partition("Credential=")
    scope = rest_of_it.split(",")[0].strip().split("/")
    if len(scope) != 5:
        return "", REGION, ""
    return scope[0], scope[2], scope[3].lower()


def _name_operation(request: Request) -> None:
    environ = request.environ
    path = str(environ.get("PATH_INFO", "/"))
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        request.protocol, request.operation = "json", str(target).rpartition(".")[2]
    elif "/operation/" in path and environ.get("HTTP_SMITHY_PROTOCOL"):
        request.protocol, request.operation = "cbor", path.rpartition("/")[2]
    elif str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        request.protocol = "query"
        request.operation = str(request.params.get("Action", ""))
    else:
        method = str(environ.get("REQUEST_METHOD", "GET"))
        request.operation, request.parameters_of_path = rest.find_operation(request.service, method, path)


def json_answer(value: Mapping[str, Any], status: int = 200) -> Answer:
    """A JSON answer, as the json and rest-json protocols send it."""
    return Answer(status, [("Content-Type", "application/x-amz-json-1.1"), request_id()], json.dumps(value).encode())


def query_answer(request: Request, namespace: str, result: str) -> Answer:
    """An XML answer of the query protocol around `result`, which is XML."""
    name = request.operation
    text = (
        f'<{name}Response xmlns="{namespace}"><{name}Result>{result}</{name}Result>'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{name}Response>"
    )
    return Answer(200, [("Content-Type", "text/xml"), request_id()], text.encode())


def error_answer(request: Request, error: AwsError) -> Answer:
    """The error in the protocol in which the request came."""
    if request.protocol == "query" or request.service in {"s3", "route53", "cloudfront"}:
        body = _xml_error(request, error)
        return Answer(error.status, [("Content-Type", "text/xml"), request_id()], body.encode())
    fields = {"__type": error.code, "message": error.message, **error.fields}
    if request.protocol == "cbor":
        return _cbor_error(error, fields)
    answer = json_answer(fields, error.status)
    answer.headers.append(("x-amzn-ErrorType", error.code))
    return answer


def _xml_error(request: Request, error: AwsError) -> str:
    inner = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    if request.service == "ec2":
        return f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>"
    kind = "Sender" if error.status < 500 else "Receiver"
    return f"<ErrorResponse><Error><Type>{kind}</Type>{inner}</Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"


def _cbor_error(error: AwsError, fields: dict[str, Any]) -> Answer:
    headers = [("Content-Type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor"), request_id()]
    body = bytes([0xA0 + len(fields)]) + b"".join(_cbor_text(part) for pair in fields.items() for part in pair)
    return Answer(error.status, headers, body)


def _cbor_text(value: object) -> bytes:
    data = str(value).encode()
    return b"\x79" + len(data).to_bytes(2, "big") + data


def request_id() -> tuple[str, str]:
    """The header that names the request."""
    return ("x-amzn-RequestId", str(uuid.uuid4()))


def send(answer: Answer, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Give an answer to the WSGI server."""
    headers = [pair for pair in answer.headers if pair[0].lower() != "content-length"]
    start_response(f"{answer.status} {_REASONS.get(answer.status, 'Status')}", [*headers, _length(answer.body)])
    return [answer.body]


def _length(body: bytes) -> tuple[str, str]:
    return ("Content-Length", str(len(body)))


_REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}
