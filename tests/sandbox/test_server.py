"""The server's parts and its control port, over real connections and clients."""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from opsctl.errors import ConfigurationError
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Path, dict[str, str]]]:
    place = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
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
    with pytest.raises(ConfigurationError, match="no part"):
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
