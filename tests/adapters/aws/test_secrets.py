from __future__ import annotations

import json
import uuid

import pytest
from moto.secretsmanager import secretsmanager_backends

from opsctl.adapters.aws.secrets import Secrets
from opsctl.adapters.aws.session import AwsSession
from opsctl.errors import ExternalError, NotFound, ReadOnly, Refused
from opsctl.redaction import Secret

NAME = "safawinet/prod/jwt"


@pytest.fixture
def stored(writing: AwsSession) -> str:
    writing.call("secretsmanager", "create_secret", Name=NAME, SecretString=json.dumps({"secret": "old-value", "port": 5432}))
    return NAME


def version() -> str:
    return str(uuid.uuid4())


def test_a_version_is_staged_then_made_current(reading: AwsSession, writing: AwsSession, stored: str) -> None:
    read, write = Secrets(reading), Secrets(writing)
    old, new = read.describe(stored).current, version()
    assert write.stage(stored, new, Secret("new-value"), "AWSPENDING") == new
    state = read.describe(stored)
    assert (state.id, state.current, state.pending) == (NAME, old, new)
    assert read.value(stored, version=new) == Secret("new-value")
    write.move(stored, "AWSCURRENT", new, old)
    state = read.describe(stored)
    assert state.current == new
    assert state.versions[new].created.tzinfo is not None
    assert state.versions[new].created.utcoffset().total_seconds() == 0


def test_staging_the_same_version_twice_has_one_effect(reading: AwsSession, writing: AwsSession, stored: str) -> None:
    new = version()
    for _ in range(2):
        Secrets(writing).stage(stored, new, Secret("new-value"), "AWSPENDING")
    assert len(Secrets(reading).describe(stored).versions) == 2


def test_a_key_of_a_json_value(reading: AwsSession, stored: str) -> None:
    secrets = Secrets(reading)
    assert secrets.text(stored, "secret") == "old-value"
    assert secrets.text(stored, "port") == "5432"
    assert json.loads(secrets.text(stored))["secret"] == "old-value"
    with pytest.raises(ExternalError, match="no key 'password'; it has: port, secret"):
        secrets.value(stored, "password")


def test_a_key_of_what_is_no_json_object_says_so_without_the_value(reading: AwsSession, writing: AwsSession) -> None:
    for name, content in {"plain": "hunter22 {", "list": '["hunter22"]'}.items():
        writing.call("secretsmanager", "create_secret", Name=name, SecretString=content)
        with pytest.raises(ExternalError, match="not a JSON object") as caught:
            Secrets(reading).value(name, "key")
        assert "hunter22" not in str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_a_binary_value_is_bytes(reading: AwsSession, writing: AwsSession) -> None:
    writing.call("secretsmanager", "create_secret", Name="pin", SecretBinary=b"\xff\x00\xfe-pin")
    value = Secrets(reading).value("pin")
    assert value.raw() == b"\xff\x00\xfe-pin"
    with pytest.raises(Refused):
        Secrets(reading).text("pin")
    new = version()
    Secrets(writing).stage("pin", new, Secret(b"\xff\x01"), "AWSPENDING")
    assert Secrets(reading).value("pin", version=new).raw() == b"\xff\x01"


def test_a_secret_of_another_region(reading: AwsSession, writing: AwsSession) -> None:
    writing.call("secretsmanager", "create_secret", region="us-west-2", Name="/hh/token", SecretString="west")
    assert Secrets(reading).text("/hh/token", region="us-west-2") == "west"
    with pytest.raises(NotFound):
        Secrets(reading).describe("/hh/token")


def test_replicas_and_deletion_are_told(reading: AwsSession, writing: AwsSession, stored: str) -> None:
    writing.call("secretsmanager", "replicate_secret_to_regions", SecretId=stored, AddReplicaRegions=[{"Region": "us-west-2"}])
    assert Secrets(reading).describe(stored).replicas == [("us-west-2", "InSync")]
    writing.call("secretsmanager", "remove_regions_from_replication", SecretId=stored, RemoveReplicaRegions=["us-west-2"])
    assert Secrets(reading).describe(stored).deleted is None
    writing.call("secretsmanager", "delete_secret", SecretId=stored)
    assert Secrets(reading).describe(stored).deleted is not None


def test_an_unknown_secret_is_not_found(reading: AwsSession) -> None:
    for ask in (Secrets(reading).describe, Secrets(reading).value):
        with pytest.raises(NotFound):
            ask("nothing")


def test_a_managed_rotation_carries_its_token(fake) -> None:
    token = version()
    fake.answer = lambda: (200, json.dumps({"VersionId": token}))
    writing = AwsSession(fake.config, sandbox=True, writing=True)
    assert Secrets(writing).rotate_managed(NAME, token) == token
    assert json.loads(fake.bodies["secretsmanager"]) == {"SecretId": NAME, "ClientRequestToken": token}


def test_reading_refuses_to_write(reading: AwsSession, stored: str) -> None:
    secrets = Secrets(reading)
    with pytest.raises(ReadOnly):
        secrets.stage(stored, version(), Secret("new-value"), "AWSPENDING")
    with pytest.raises(ReadOnly):
        secrets.move(stored, "AWSCURRENT", "a", "b")
    with pytest.raises(ReadOnly):
        secrets.rotate_managed(stored, version())
    assert len(secretsmanager_backends["123456789012"]["us-east-1"].secrets[stored].versions) == 1
