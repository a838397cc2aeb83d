"""The server's parts and its control port, over real connections and clients."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ConnectionClosedError
from folders import short_folder

from opsctl.errors import ConfigurationError
from opsctl.sandbox import gateway as front_door
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule

CONTACT = "156855158284"


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Path, dict[str, str]]]:
    place = short_folder()
    try:
        yield place, lifecycle.up(place, tempo=0.0, users=200, sessions=1_000)
    finally:
        lifecycle.down(place)
        shutil.rmtree(place)


@pytest.fixture
def world(up: tuple[Path, dict[str, str]]) -> tuple[Path, dict[str, str]]:
    lifecycle.reset(up[0])
    return up


def aws_client(service: str, facts: dict[str, str]) -> Any:
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=facts["aws"],
        aws_access_key_id=facts["access_key_id"],
        aws_secret_access_key=facts["secret_access_key"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def login(facts: dict[str, str]) -> int:
    told = {"email": facts["auth_test_email"], "password": facts["auth_test_password"]}
    request = urllib.request.Request(facts["api"] + "/v1/auth/login", json.dumps(told).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_the_seeded_login_works_and_reset_brings_back_what_was_changed(world: tuple[Path, dict[str, str]]) -> None:
    folder, facts = world
    client = aws_client("secretsmanager", facts)
    before = client.get_secret_value(SecretId="safawinet/prod/jwt")["SecretString"]
    assert json.loads(before) == {"secret": facts["jwt_secret"]}
    assert login(facts) == 200
    client.put_secret_value(SecretId="safawinet/prod/jwt", SecretString='{"secret": "other"}')
    lifecycle.reset(folder)
    assert client.get_secret_value(SecretId="safawinet/prod/jwt")["SecretString"] == before
    assert login(facts) == 200


def test_faults_reach_real_clients_and_are_taken_back(world: tuple[Path, dict[str, str]]) -> None:
    folder, facts = world
    client = aws_client("secretsmanager", facts)
    lifecycle.set_fault(folder, Rule("aws", "secretsmanager.Get*", "refuse"))
    assert len(lifecycle.faults(folder)) == 1
    with pytest.raises(ClientError, match="AccessDenied"):
        client.get_secret_value(SecretId="safawinet/prod/jwt")
    lifecycle.set_fault(folder, Rule("aws", "secretsmanager.PutSecretValue", "timeout-after-effect"))
    with pytest.raises(ConnectionClosedError):
        client.put_secret_value(SecretId="safawinet/prod/mail-key", SecretString='{"key": "new"}')
    assert client.get_secret_value(SecretId="safawinet/prod/mail-key")["SecretString"] == '{"key": "new"}'
    lifecycle.set_fault(folder, Rule("api", "POST /v1/auth/login", "fail", times=0))
    assert login(facts) == 500
    lifecycle.clear_faults(folder)
    assert login(facts) == 200


def test_a_fault_on_an_unknown_part_or_of_an_unknown_kind_is_refused(world: tuple[Path, dict[str, str]]) -> None:
    with pytest.raises(ConfigurationError, match="has no service"):
        lifecycle.set_fault(world[0], Rule("azure", "*", "fail"))


def test_a_rollout_is_made_to_fail(world: tuple[Path, dict[str, str]]) -> None:
    folder, facts = world
    lifecycle.fail_next_rollout(folder, "safawinet-api-prod")
    ecs = aws_client("ecs", facts)
    ecs.update_service(cluster="safawinet-prod", service="safawinet-api-prod", forceNewDeployment=True)
    deployments = ecs.describe_services(cluster="safawinet-prod", services=["safawinet-api-prod"])["services"][0]["deployments"]
    assert "FAILED" in {deployment["rolloutState"] for deployment in deployments}
    with pytest.raises(ConfigurationError, match="no service 'other'"):
        lifecycle.fail_next_rollout(folder, "other")


def ask(url: str, method: str, headers: dict[str, str], body: Any = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status), json.load(response)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def contact(facts: dict[str, str], method: str = "GET", **properties: str) -> dict[str, Any]:
    url = f"{facts['hubspot']}/crm/v3/objects/contacts/{CONTACT}?properties=download_token"
    body = {"properties": properties} if properties else None
    _, answer = ask(url, method, {"Authorization": f"Bearer {facts['hs_token']}"}, body)
    return dict(answer["properties"])


def lease(facts: dict[str, str], token: str) -> int:
    headers = {"X-Edge-Auth": facts["edge_shared_secret"], "Authorization": f"Bearer {token}"}
    return ask(facts["hh_lease"] + "/lease", "POST", headers, {})[0]


def lines(facts: dict[str, str], function: str, pattern: str) -> list[str]:
    logs = boto3.client(
        "logs",
        region_name="us-west-2",
        endpoint_url=facts["aws"],
        aws_access_key_id=facts["access_key_id"],
        aws_secret_access_key=facts["secret_access_key"],
    )
    found = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern=pattern)
    return [event["message"] for event in found["events"]]


def minted(facts: dict[str, str], before: str) -> str:
    deadline = time.monotonic() + 20
    while (token := contact(facts)["download_token"]) in (before, None) and time.monotonic() < deadline:
        time.sleep(0.01)
    return str(token)


def test_a_property_in_hubspot_mints_a_token_that_leases(world: tuple[Path, dict[str, str]]) -> None:
    folder, facts = world
    before = contact(facts)["download_token"]
    lifecycle.set_fault(folder, Rule("hh", "POST /webhook", "fail"))
    contact(facts, "PATCH", download_requested="false")
    contact(facts, "PATCH", download_requested="true")
    token = minted(facts, before)
    assert (lease(facts, before), lease(facts, token)) == (403, 200)
    assert lines(facts, "hh-webhook", f"minted_token {CONTACT}") == [f"minted_token {CONTACT} {token}"]
    assert front_door.call(facts, "GET", "/hh/leases")["count"] == 1
    statuses = [delivery["statuses"] for delivery in front_door.call(facts, "GET", "/hubspot/deliveries")]
    assert sorted(map(len, statuses)) == [1, 2]


@pytest.mark.parametrize(
    ("rule", "status", "where"),
    [
        (Rule("hubspot", "GET /crm/v3/objects/contacts/{id}", "fail", status=503), 502, "hubspot"),
        (Rule("hubspot", "GET /crm/v3/objects/contacts/{id}", "drop"), 502, "hubspot"),
        (Rule("ghcr", "HEAD *", "fail"), 500, "ghcr"),
        (Rule("hh", "POST /lease", "fail"), 500, "handler"),
    ],
)
def test_what_fails_behind_a_lease_is_told_and_logged(world: tuple[Path, dict[str, str]], rule: Rule, status: int, where: str) -> None:
    folder, facts = world
    token = contact(facts)["download_token"]
    logged = len(lines(facts, "hh-lease", f'{{ $.type = "lease_error" && $.where = "{where}" }}'))
    lifecycle.set_fault(folder, rule)
    assert (lease(facts, token), lease(facts, token)) == (status, 200)
    assert len(lines(facts, "hh-lease", f'{{ $.type = "lease_error" && $.where = "{where}" }}')) == logged + 1


def test_the_server_s_log_holds_no_secret(world: tuple[Path, dict[str, str]]) -> None:
    folder, facts = world
    slack = f"{facts['slack']}/services/T0/B0/{facts['slack_key']}"
    data = json.dumps({"text": "hello"}).encode()
    with urllib.request.urlopen(urllib.request.Request(slack, data, {"Content-Type": "application/json"}), timeout=20):
        pass
    lease(facts, contact(facts)["download_token"])
    log = (folder / "server.log").read_text()
    assert "/slack/services/***" in log
    for name in ("slack_key", "hs_token", "edge_shared_secret", "ghcr_pat"):
        assert facts[name] not in log


def test_the_control_port_asks_for_its_token(world: tuple[Path, dict[str, str]]) -> None:
    for headers in ({}, {"Authorization": "Bearer guess"}):
        request = urllib.request.Request(world[1]["control"] + "/facts", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=20)
        assert refusal.value.code == 401
        refusal.value.close()


def test_every_part_answers_on_loopback(world: tuple[Path, dict[str, str]]) -> None:
    rows = lifecycle.status(world[0])
    assert [row.part for row in rows] == ["postgres", "valkey", "aws", "api", "hubspot", "hh", "ghcr", "notices"]
    assert all(row.address.startswith("127.0.0.1:") and row.state == "running" for row in rows)


def signed(facts: dict[str, str], secret: str, service: str = "ecs", **config: Any) -> Any:
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=facts["aws"],
        aws_access_key_id=facts["access_key_id"],
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


CALLS: list[tuple[str, str, dict[str, Any], str]] = [
    ("ecs", "list_clusters", {}, "InvalidSignatureException"),
    ("secretsmanager", "get_secret_value", {"SecretId": "safawinet/prod/jwt"}, "InvalidSignatureException"),
    ("sts", "get_caller_identity", {}, "SignatureDoesNotMatch"),
    ("iam", "list_users", {}, "SignatureDoesNotMatch"),
    ("lambda", "get_function_configuration", {"FunctionName": "arn:aws:lambda:us-west-2:1:function:x"}, "InvalidSignatureException"),
    ("cloudwatch", "describe_alarms", {}, ""),
]


@pytest.mark.parametrize(("service", "operation", "given", "code"), CALLS)
def test_the_published_key_id_opens_nothing(
    world: tuple[Path, dict[str, str]], service: str, operation: str, given: Any, code: str
) -> None:
    for secret in ("no-key", "sandbox"):
        with pytest.raises(ClientError) as refused:
            getattr(signed(world[1], secret, service), operation)(**given)
        found = refused.value.response["Error"]["Code"]
        assert found == code or (not code and "Signature" in found)


def test_a_key_that_a_role_lent_has_a_secret_too(world: tuple[Path, dict[str, str]]) -> None:
    facts = world[1]
    role = aws_client("iam", facts).list_roles()["Roles"][0]["Arn"]
    lent = aws_client("sts", facts).assume_role(RoleArn=role, RoleSessionName="me")["Credentials"]

    def who(secret: str) -> str:
        client = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url=facts["aws"],
            aws_access_key_id=lent["AccessKeyId"],
            aws_secret_access_key=secret,
            aws_session_token=lent["SessionToken"],
        )
        return str(client.get_caller_identity()["Arn"])

    assert "assumed-role" in who(lent["SecretAccessKey"])
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        who(lent["SecretAccessKey"][::-1])


TARGET = {"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListClusters", "Content-Type": "application/x-amz-json-1.1"}


def sign(facts: dict[str, str], body: bytes, ago: int = 0) -> dict[str, str]:
    """The headers of a call that was signed some seconds ago."""
    request = AWSRequest("POST", facts["aws"] + "/", dict(TARGET), body)
    stamp = datetime.now(UTC) - timedelta(seconds=ago)
    auth = SigV4Auth(Credentials(facts["access_key_id"], facts["secret_access_key"]), "ecs", "us-east-1")
    request.context["timestamp"] = request.headers["X-Amz-Date"] = stamp.strftime("%Y%m%dT%H%M%SZ")
    canonical = auth.canonical_request(request)
    names = auth.signed_headers(auth.headers_to_sign(request))
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    said = f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={names}, Signature={signature}"
    return {**dict(request.headers.items()), "Authorization": said}


def posted(facts: dict[str, str], headers: dict[str, str], body: bytes) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(facts["aws"] + "/", body, headers), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_a_signature_is_for_its_content_and_its_time(world: tuple[Path, dict[str, str]]) -> None:
    facts = world[1]
    assert posted(facts, sign(facts, b"{}"), b"{}") == 200
    assert posted(facts, sign(facts, b"{}"), b'{"maxResults": 1}') == 400
    assert posted(facts, sign(facts, b"{}", ago=600), b"{}") == 400
    other = {**sign(facts, b"{}"), "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListServices"}
    assert posted(facts, other, b"{}") == 400
    unsigned = {name: value for name, value in sign(facts, b"{}").items() if name != "Authorization"}
    assert posted(facts, unsigned, b"{}") in (400, 403)
