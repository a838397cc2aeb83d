"""What AWS and the network do wrong, as opsctl says it."""

from __future__ import annotations

import json
import socket

import pytest
from botocore import exceptions as sdk
from msgspec.structs import replace

from opsctl.adapters.aws import session as module
from opsctl.adapters.aws.failures import translate
from opsctl.adapters.aws.session import AwsSession
from opsctl.errors import (
    CredentialsInvalid,
    Denied,
    ExternalError,
    NotFound,
    OpsctlError,
    OutcomeUnknown,
    Throttled,
    Unreachable,
)

LOGIN = "aws sso login --profile oncall"


def answered(code: str, message: str = "no", status: int = 400) -> sdk.ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return sdk.ClientError(response, "UpdateService")


def translated(error: Exception, effect: bool) -> OpsctlError:
    return translate(error, effect=effect, service="ecs", operation="UpdateService", login=LOGIN)


@pytest.mark.parametrize("effect", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, Denied),
        ("AccessDeniedException", 400, Denied),
        ("UnauthorizedOperation", 403, Denied),
        ("ExpiredToken", 403, CredentialsInvalid),
        ("ExpiredTokenException", 400, CredentialsInvalid),
        ("InvalidClientTokenId", 403, CredentialsInvalid),
        ("UnrecognizedClientException", 400, CredentialsInvalid),
        ("SignatureDoesNotMatch", 403, CredentialsInvalid),
        ("Throttling", 400, Throttled),
        ("ThrottlingException", 400, Throttled),
        ("TooManyRequestsException", 429, Throttled),
        ("RequestLimitExceeded", 503, Throttled),
        ("ResourceNotFoundException", 400, NotFound),
        ("ServiceNotFoundException", 400, NotFound),
        ("DBClusterNotFoundFault", 404, NotFound),
        ("CacheClusterNotFound", 404, NotFound),
        ("InvalidParameterException", 400, ExternalError),
        ("ServiceUnavailable", 503, ExternalError),
    ],
)
def test_a_definite_no_is_the_same_for_reads_and_writes(code: str, status: int, kind: type, effect: bool) -> None:
    assert type(translated(answered(code, status=status), effect)) is kind


@pytest.mark.parametrize(
    "error",
    [
        answered("InternalFailure", status=500),
        answered("GatewayTimeout", status=504),
        sdk.ReadTimeoutError(endpoint_url="http://x"),
        sdk.ConnectionClosedError(endpoint_url="http://x"),
        sdk.HTTPClientError(error="broken"),
        sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        sdk.ResponseStreamingError(error="broken"),
    ],
)
def test_silence_after_sending_is_unknown_for_a_write_only(error: Exception) -> None:
    assert type(translated(error, effect=True)) is OutcomeUnknown
    assert type(translated(error, effect=False)) is ExternalError


@pytest.mark.parametrize(
    "error",
    [
        sdk.EndpointConnectionError(endpoint_url="http://x"),
        sdk.ConnectTimeoutError(endpoint_url="http://x"),
        sdk.SSLError(endpoint_url="http://x", error="bad"),
        sdk.ProxyConnectionError(proxy_url="http://x"),
    ],
)
@pytest.mark.parametrize("effect", [False, True])
def test_no_connection_means_nothing_was_sent(error: Exception, effect: bool) -> None:
    found = translated(error, effect)
    assert type(found) is Unreachable
    assert "nothing was sent" in found.what


@pytest.mark.parametrize(
    "error",
    [
        sdk.NoCredentialsError(),
        sdk.TokenRetrievalError(provider="sso", error_msg="expired"),
        sdk.UnauthorizedSSOTokenError(),
        sdk.SSOTokenLoadError(error_msg="none"),
        sdk.CredentialRetrievalError(provider="p", error_msg="m"),
        answered("ExpiredTokenException"),
    ],
)
def test_no_login_says_the_login_line(error: Exception) -> None:
    found = translated(error, effect=True)
    assert type(found) is CredentialsInvalid
    assert LOGIN in found.next


def test_denied_names_the_permission_that_aws_names() -> None:
    said = "User: arn:aws:iam::1:user/jo is not authorized to perform: iam:PassRole on resource: *"
    assert "iam:PassRole" in translated(answered("AccessDenied", said), effect=True).what
    assert "ecs:UpdateService" in translated(answered("AccessDenied"), effect=True).what


def test_every_message_is_one_line() -> None:
    assert "\n" not in translated(answered("Odd", "one\ntwo\n  three"), effect=False).what


def test_over_the_wire_a_lost_answer_to_a_write_is_unknown_and_sent_once(fake) -> None:
    fake.answer = lambda: None
    session = AwsSession(fake.config, sandbox=True, writing=True)
    with pytest.raises(OutcomeUnknown):
        session.call("ecs", "update_service", service="api", desiredCount=1)
    assert fake.seen["ecs"] == 1


def test_over_the_wire_a_lost_answer_to_a_read_is_asked_again(fake) -> None:
    answers = iter([None, (200, '{"services": []}')])
    fake.answer = lambda: next(answers)
    session = AwsSession(fake.config, sandbox=True, writing=False)
    assert session.call("ecs", "describe_services", services=["a"])["services"] == []


def test_over_the_wire_silence_is_unknown_for_a_write_and_failed_for_a_read(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.answer = lambda: fake.silence()
    AwsSession(fake.config, sandbox=True, writing=False).verify_account()
    monkeypatch.setattr(module, "READ_SECONDS", 0.1)
    writing = AwsSession(fake.config, sandbox=True, writing=True)
    reading = AwsSession(fake.config, sandbox=True, writing=False)
    with pytest.raises(OutcomeUnknown, match="did not answer in time"):
        writing.call("ecs", "update_service", service="api", desiredCount=1)
    assert fake.seen["ecs"] == 1
    with pytest.raises(ExternalError, match="did not answer in time"):
        reading.call("ecs", "describe_services", services=["a"])


def test_over_the_wire_a_throttled_write_is_tried_again(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    slow = (400, json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}))
    answers = iter([slow, slow, (200, '{"service": {}}')])
    fake.answer = lambda: next(answers)
    session = AwsSession(fake.config, sandbox=True, writing=True)
    session.call("ecs", "update_service", service="api", desiredCount=1)
    assert fake.seen["ecs"] == 3
    fake.answer = lambda: slow
    with pytest.raises(Throttled):
        session.call("ecs", "update_service", service="api", desiredCount=1)


@pytest.mark.parametrize(("writing", "kind"), [(True, OutcomeUnknown), (False, ExternalError)])
def test_an_answer_that_cannot_be_read(fake, writing: bool, kind: type) -> None:
    fake.answer = lambda: (200, "<!doctype html><title>oops")
    session = AwsSession(fake.config, sandbox=True, writing=writing)
    with pytest.raises(kind):
        session.call("rds", "failover_db_cluster" if writing else "describe_db_clusters", DBClusterIdentifier="c")


def test_nobody_listening_is_unreachable_and_the_sandbox_says_how_to_start_it(fake) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        session = AwsSession(replace(fake.config, endpoint=endpoint), sandbox=True, writing=True)
        with pytest.raises(Unreachable) as caught:
            session.call("ecs", "update_service", service="api", desiredCount=1)
    assert "opsctl sandbox up" in caught.value.next
