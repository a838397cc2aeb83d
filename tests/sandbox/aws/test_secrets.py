from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from stand_in import JWT, Aws

Refused = Callable[..., str]


@pytest.fixture
def secrets(aws: Aws) -> Any:
    return aws.client("secretsmanager")


def put(secrets: Any, value: str, *stages: str, token: str = "") -> str:
    arguments = {"VersionStages": list(stages)} if stages else {}
    answer = secrets.put_secret_value(SecretId=JWT, SecretString=value, ClientRequestToken=token or str(uuid.uuid4()), **arguments)
    return str(answer["VersionId"])


def value(secrets: Any, **which: str) -> str:
    return str(secrets.get_secret_value(SecretId=JWT, **which)["SecretString"])


def labels(secrets: Any) -> dict[str, list[str]]:
    return dict(secrets.describe_secret(SecretId=JWT)["VersionIdsToStages"])


def holder(secrets: Any, stage: str) -> str:
    (found,) = (version for version, stages in labels(secrets).items() if stage in stages)
    return found


def test_a_put_makes_the_new_value_current_and_the_old_one_previous(secrets: Any) -> None:
    before = holder(secrets, "AWSCURRENT")
    after = put(secrets, "new")
    assert value(secrets) == "new"
    assert labels(secrets) == {before: ["AWSPREVIOUS"], after: ["AWSCURRENT"]}


def test_a_pending_version_leaves_the_current_one(secrets: Any) -> None:
    former = value(secrets)
    staged = put(secrets, "staged", "AWSPENDING")
    assert value(secrets) == former
    assert value(secrets, VersionStage="AWSPENDING") == value(secrets, VersionId=staged) == "staged"


def test_moving_current_takes_previous_along(secrets: Any) -> None:
    before = holder(secrets, "AWSCURRENT")
    staged = put(secrets, "staged", "AWSPENDING")
    secrets.update_secret_version_stage(SecretId=JWT, VersionStage="AWSCURRENT", MoveToVersionId=staged, RemoveFromVersionId=before)
    assert value(secrets) == "staged"
    assert holder(secrets, "AWSPREVIOUS") == before
    put(secrets, "third")
    assert holder(secrets, "AWSPREVIOUS") == staged
    assert max(Counter(stage for stages in labels(secrets).values() for stage in stages).values()) == 1


def test_current_moves_only_from_the_version_that_has_it(secrets: Any, refused: Refused) -> None:
    first = holder(secrets, "AWSCURRENT")
    second = put(secrets, "second")
    move = {"SecretId": JWT, "VersionStage": "AWSCURRENT", "MoveToVersionId": first}
    assert refused(secrets.update_secret_version_stage, **move) == "InvalidParameterException"
    stale = {**move, "RemoveFromVersionId": first}
    assert refused(secrets.update_secret_version_stage, **stale) == "InvalidParameterException"
    assert value(secrets) == "second"
    removal = {"SecretId": JWT, "VersionStage": "AWSCURRENT", "RemoveFromVersionId": second}
    assert refused(secrets.update_secret_version_stage, **removal) == "InvalidParameterException"


def test_a_version_without_labels_stays_readable_by_its_id(secrets: Any) -> None:
    first = holder(secrets, "AWSCURRENT")
    former = value(secrets)
    put(secrets, "second")
    put(secrets, "third")
    assert first not in labels(secrets)
    assert value(secrets, VersionId=first) == former
    listed = secrets.list_secret_version_ids(SecretId=JWT, IncludeDeprecated=True)["Versions"]
    assert {version["VersionId"] for version in listed} >= {first}
    assert all(version["CreatedDate"] for version in listed)


def test_the_same_token_and_value_is_one_version(secrets: Any, refused: Refused) -> None:
    token = str(uuid.uuid4())
    put(secrets, "once", token=token)
    later = put(secrets, "later")
    assert put(secrets, "once", token=token) == token
    assert holder(secrets, "AWSCURRENT") == later
    again = {"SecretId": JWT, "SecretString": "other", "ClientRequestToken": token}
    assert refused(secrets.put_secret_value, **again) == "ResourceExistsException"


def test_a_deleted_secret_takes_no_value(secrets: Any, refused: Refused) -> None:
    secrets.delete_secret(SecretId=JWT)
    assert refused(secrets.put_secret_value, SecretId=JWT, SecretString="x") == "InvalidRequestException"
    secrets.restore_secret(SecretId=JWT)
    put(secrets, "back")


def test_unknown_secrets_and_versions_are_not_found(secrets: Any, refused: Refused) -> None:
    assert refused(secrets.get_secret_value, SecretId="nobody") == "ResourceNotFoundException"
    assert refused(secrets.get_secret_value, SecretId=JWT, VersionId="0" * 32) == "ResourceNotFoundException"
    assert refused(secrets.get_secret_value, SecretId=JWT, VersionStage="AWSPENDING") == "ResourceNotFoundException"


def test_a_secret_answers_to_its_full_and_its_partial_arn(aws: Aws, secrets: Any) -> None:
    full = secrets.describe_secret(SecretId=JWT)["ARN"]
    assert value(secrets) == secrets.get_secret_value(SecretId=full)["SecretString"]
    login = secrets.get_secret_value(SecretId=aws.world.facts["db_secret_arn"])
    assert json.loads(login["SecretString"])["username"] == "safawinet"


def test_a_binary_secret_has_no_text(aws: Aws, secrets: Any) -> None:
    found = secrets.get_secret_value(SecretId="safawinet/prod/tls-pin")
    assert found["SecretBinary"] == bytes.fromhex(aws.world.facts["tls_pin"])
    assert "SecretString" not in found


def test_regions_are_apart(aws: Aws, secrets: Any, refused: Refused) -> None:
    west = aws.client("secretsmanager", "us-west-2")
    token = json.loads(west.get_secret_value(SecretId="/hh/prod/hubspot/token")["SecretString"])
    assert token == {"token": aws.world.facts["hs_token"]}
    assert refused(secrets.get_secret_value, SecretId="/hh/prod/hubspot/token") == "ResourceNotFoundException"


def test_reset_puts_the_seeded_values_back(aws: Aws, secrets: Any) -> None:
    put(secrets, "gone")
    aws.part.reset()
    assert json.loads(value(secrets)) == {"secret": aws.world.facts["jwt_secret"]}


def test_a_rotation_of_its_own_is_pending_for_a_while_and_then_current(aws: Aws, secrets: Any, refused: Refused) -> None:
    name, token = "safawinet/prod/partner-key", str(uuid.uuid4())

    def versions() -> dict[str, list[str]]:
        return dict(secrets.describe_secret(SecretId=name)["VersionIdsToStages"])

    (before,) = versions()
    for _ in range(2):
        assert secrets.rotate_secret(SecretId=name, ClientRequestToken=token)["VersionId"] == token
    assert versions() == {before: ["AWSCURRENT"], token: ["AWSPENDING"]}
    assert refused(secrets.rotate_secret, SecretId=name, ClientRequestToken=str(uuid.uuid4())) == "InvalidRequestException"
    aws.clock.pass_by(3)
    assert versions() == {before: ["AWSPREVIOUS"], token: ["AWSPENDING", "AWSCURRENT"]}


def test_a_secret_without_a_rotation_of_its_own_is_not_rotated(secrets: Any, refused: Refused) -> None:
    assert refused(secrets.rotate_secret, SecretId=JWT) == "InvalidRequestException"
