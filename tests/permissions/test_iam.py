"""The policies are what IAM takes: its own action names, the resources that each action has, and this environment's ARNs."""

from __future__ import annotations

import ast
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
import evidence
import msgspec
import pytest
from botocore import xform_name

from opsctl import adapters
from opsctl.changes import all_kinds
from opsctl.commands.permissions import of
from opsctl.config import Environment
from opsctl.permissions import Permissions, iam, needs
from opsctl.settings import Settings

ACTIONS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "service_authorization.json").read_text())
"""AWS's Service Authorization Reference: of each action its access level, and the ARNs of the resources that it takes."""

UNNAMED = {
    "ecr:DescribeImages": "a task definition names the repository, which may be another account's",
    "ecs:ListTasks": "what it takes is a container instance, and Fargate has none",
    "lambda:InvokeFunction": "Secrets Manager knows the function that rotates a secret",
}
"""Actions that take a resource which no configuration names, and why."""

MANAGED_POLICY = 6144
"""The characters that a managed policy may have, white space not counted (IAM documentation, "IAM and AWS STS quotas")."""


def statements(settings: Settings, permissions: Permissions) -> list[dict[str, Any]]:
    return [each for policy in iam.policies(settings, permissions).values() for each in policy["Statement"]]


def resources(settings: Settings, action: str) -> list[str]:
    """The resources of an action that a reader needs."""
    policy = iam.policies(settings, needs(check=action))["read"]
    return [arn for each in policy["Statement"] if action in each["Action"] for arn in each["Resource"]]


def fits(arn: str, pattern: str) -> bool:
    """Whether an ARN, with its own wildcards, is one of a type's: text for each variable of the pattern."""
    wanted = re.sub(r"\\\$\\\{(\w+)\\\}", r".+", re.escape(pattern).replace(r"\{", r"\{"))
    return re.fullmatch(wanted, re.sub(r":\*$", "", arn)) is not None or re.fullmatch(wanted, arn) is not None


@pytest.fixture
def whole(environment: Environment) -> list[dict[str, Any]]:
    return statements(environment.settings, of(""))


def test_every_action_is_in_the_service_authorization_reference(whole: list[dict[str, Any]]) -> None:
    named = {action for each in whole for action in each["Action"]}
    assert len(named) > 70
    assert named - set(ACTIONS) == set()


def test_an_action_has_resources_of_its_own_types(whole: list[dict[str, Any]]) -> None:
    for each in whole:
        for action in each["Action"]:
            types = ACTIONS[action]["resources"]
            if each["Resource"] == ["*"]:
                assert not types or action in UNNAMED, f"{action} takes {types}"
            else:
                assert [arn for arn in each["Resource"] if not any(fits(arn, pattern) for pattern in types)] == [], action


def test_what_reads_is_allowed_nothing_that_writes(environment: Environment) -> None:
    reading = {action for each in iam.policies(environment.settings, of(""))["read"]["Statement"] for action in each["Action"]}
    assert {action for action in reading if ACTIONS[action]["access"] not in ("List", "Read")} == set()


def test_a_managed_policy_has_room_for_each_document(environment: Environment) -> None:
    for side, policy in iam.policies(environment.settings, of("")).items():
        assert policy["Version"] == "2012-10-17"
        assert len(re.sub(r"\s", "", json.dumps(policy))) <= MANAGED_POLICY, side


def test_no_statement_allows_twice_what_another_one_does(environment: Environment) -> None:
    policies = iam.policies(environment.settings, of(""))
    pairs = [(a, r) for policy in policies.values() for each in policy["Statement"] for a in each["Action"] for r in each["Resource"]]
    assert len(pairs) == len(set(pairs))


def test_resources_are_the_configured_ones(environment: Environment) -> None:
    settings = environment.settings
    assert resources(settings, "rds:DescribeDBClusters") == ["arn:aws:rds:us-east-1:123456789012:cluster:safawinet-prod"]
    assert resources(settings, "ecs:DescribeServices") == [
        f"arn:aws:ecs:us-east-1:123456789012:service/safawinet-prod/safawinet-{name}-prod" for name in ("api", "worker")
    ]
    token = "arn:aws:secretsmanager:us-west-2:123456789012:secret:/hh/prod/hubspot/token-aBcDeF"
    assert any(fnmatchcase(token, each) for each in resources(settings, "secretsmanager:GetSecretValue"))
    assert resources(settings, "sqs:GetQueueUrl") == ["arn:aws:sqs:us-east-1:123456789012:ses-notifications"]


def test_what_is_not_configured_is_not_asked_for(environment: Environment) -> None:
    bare = msgspec.structs.replace(environment.settings, bounces=None, protection=None, redis=None)
    for action in ("sqs:GetQueueUrl", "wafv2:GetWebACL", "rds:RebootDBInstance", "cloudfront:ListDistributionsByWebACLId"):
        assert resources(bare, action) == []


def test_a_partition_follows_from_its_region(environment: Environment) -> None:
    aws = environment.settings.aws
    assert aws is not None
    china = msgspec.structs.replace(environment.settings, aws=msgspec.structs.replace(aws, region="cn-north-1"))
    assert resources(china, "ecs:DescribeTasks")[0].startswith("arn:aws-cn:ecs:cn-north-1:")


def test_a_system_brings_its_endpoint_and_its_credential(environment: Environment) -> None:
    found = iam.policies(environment.settings, needs(check="postgres", apply="postgres:temporary redis:sessions.unlink"))
    pairs = {side: {(a, r) for each in p["Statement"] for a in each["Action"] for r in each["Resource"]} for side, p in found.items()}
    secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:safawinet/prod/{}-??????"
    assert pairs["read"] == {
        ("rds:DescribeDBClusters", "arn:aws:rds:us-east-1:123456789012:cluster:safawinet-prod"),
        ("secretsmanager:GetSecretValue", secret.format("database-reader")),
    }
    assert ("secretsmanager:GetSecretValue", secret.format("database")) in pairs["write"]
    assert ("secretsmanager:GetSecretValue", secret.format("redis")) in pairs["write"]
    assert not pairs["read"] & pairs["write"]


def test_over_the_data_api_a_reader_may_not_commit(environment: Environment) -> None:
    database = environment.settings.database
    assert database is not None
    over = msgspec.structs.replace(environment.settings, database=msgspec.structs.replace(database, driver="rds-data"))
    found = iam.policies(over, needs(check="postgres", apply="postgres:temporary"))
    allowed = {side: {action for each in policy["Statement"] for action in each["Action"]} for side, policy in found.items()}
    assert "rds-data:ExecuteStatement" in allowed["read"]
    assert "rds-data:CommitTransaction" not in allowed["read"]
    assert "rds-data:CommitTransaction" in allowed["write"]


def test_a_customers_own_key_may_be_used_through_the_services_that_it_encrypts_for(environment: Environment) -> None:
    aws, key = environment.settings.aws, "arn:aws:kms:us-east-1:123456789012:key/1234"
    assert aws is not None
    assert not any("Condition" in each for each in statements(environment.settings, of("")))
    keyed = msgspec.structs.replace(environment.settings, aws=msgspec.structs.replace(aws, kms_keys=[key]))
    found = iam.policies(keyed, of(""))
    (reading,), (writing,) = ([each for each in found[side]["Statement"] if each["Resource"] == [key]] for side in ("read", "write"))
    assert reading["Action"] == ["kms:Decrypt"]
    assert writing["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert "secretsmanager.us-west-2.amazonaws.com" in reading["Condition"]["StringEquals"]["kms:ViaService"]


def test_every_operation_that_an_adapter_names_is_declared() -> None:
    """A call that no rehearsal makes is found by its name in the source."""
    everything = of("")
    found = {need.removesuffix(iam.ANY) for need in everything.read | everything.write if need.removesuffix(iam.ANY) in ACTIONS}
    found |= {"elasticache:DescribeCacheClusters", "elasticache:DescribeReplicationGroups", *iam.DATA_API, *evidence.UNASKED}
    session, operations = botocore.session.get_session(), dict[str, set[str]]()
    for service in {action.partition(":")[0] for action in found} | {"sesv2"}:
        for operation in session.get_service_model(service).operation_names:
            operations.setdefault(xform_name(operation), set()).add(evidence.action(f"{service}:{operation}"))
    trees = [ast.parse(path.read_text()) for path in Path(adapters.__path__[0]).rglob("*.py")]
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = texts & set(operations)
    assert len(named) > 50
    assert {text for text in named if not operations[text] & found} == set()


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__name__)
def test_a_kind_needs_what_policies_grants_and_scopes_know(kind: Any) -> None:
    from opsctl.permissions.grants import COMMANDS, MEMBERSHIPS, TABLES
    from opsctl.permissions.scopes import SCOPES

    known = {*COMMANDS, *MEMBERSHIPS, *TABLES, *SCOPES, "postgres", "postgres:temporary", "hubspot:portal"}
    unknown = {need for need in kind.permissions.read | kind.permissions.write if need not in known}
    assert {need for need in unknown if need.removesuffix(iam.ANY) not in ACTIONS} == set()
