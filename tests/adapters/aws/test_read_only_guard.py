"""The wall alone: what a reading session lets through, over every operation of every service that opsctl uses."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import botocore.session
import pytest

from opsctl.adapters.aws.read_only_guard import guard, reads
from opsctl.adapters.aws.session import AwsSession
from opsctl.errors import ReadOnly

SERVICES = [
    "application-autoscaling",
    "cloudtrail",
    "cloudwatch",
    "ecr",
    "ecs",
    "elasticache",
    "events",
    "health",
    "iam",
    "lambda",
    "logs",
    "rds",
    "rds-data",
    "secretsmanager",
    "ses",
    "sesv2",
    "shield",
    "sns",
    "sqs",
    "sts",
    "wafv2",
]

USED_FOR_READING = [
    ("application-autoscaling", "DescribeScalableTargets"),
    ("cloudwatch", "DescribeAlarms"),
    ("cloudwatch", "GetMetricStatistics"),
    ("ecr", "DescribeImages"),
    ("ecs", "DescribeServices"),
    ("ecs", "DescribeTaskDefinition"),
    ("ecs", "DescribeTasks"),
    ("ecs", "ListTasks"),
    ("elasticache", "DescribeCacheClusters"),
    ("elasticache", "DescribeReplicationGroups"),
    ("logs", "FilterLogEvents"),
    ("logs", "StartQuery"),
    ("rds", "DescribeDBClusters"),
    ("rds", "DescribeDBInstances"),
    ("rds-data", "BeginTransaction"),
    ("rds-data", "RollbackTransaction"),
    ("secretsmanager", "DescribeSecret"),
    ("secretsmanager", "GetSecretValue"),
    ("secretsmanager", "ListSecretVersionIds"),
    ("sts", "AssumeRole"),
    ("sts", "AssumeRoleWithWebIdentity"),
    ("sts", "GetCallerIdentity"),
    ("sso-oidc", "CreateToken"),
]

VERBS_THAT_WRITE = re.compile(
    r"(Add|Apply|Associate|Attach|Authorize|Batch|Cancel|Change|Commit|Confirm|Copy|Create|Deactivate|Delete|Deregister|Detach|Disable|Disassociate|Enable|Execute|Failover|Import"
    r"|Increase|Invoke|Modify|Promote|Publish|Purge|Put|Reactivate|Reboot|Receive|Register|Remove|Replicate|Reset|Restore|Revoke|Rotate|Run|Send|Set|Start|Stop"
    r"|Subscribe|Switchover|Tag|Terminate|Test|Untag|Update|Upload)[A-Z]"
)

READS_IN_SPITE_OF_THEIR_VERB = {
    "ecr:BatchGetImage",
    "ecr:BatchGetRepositoryScanningConfiguration",
    "ecr:BatchCheckLayerAvailability",
    "logs:StartLiveTail",
    "logs:StartQuery",
    "logs:StopQuery",
    "secretsmanager:BatchGetSecretValue",
    "sesv2:BatchGetMetricData",
}


@pytest.fixture(scope="module")
def models():
    session = botocore.session.Session()
    return {name: session.get_service_model(name) for name in SERVICES}


def call(service: str, operation: str, body: object = None) -> None:
    model = SimpleNamespace(name=operation, service_model=SimpleNamespace(service_name=service))
    guard(model=model, params={"body": json.dumps(body or {}).encode()})


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_that_is_not_for_reading_is_refused(service: str, models) -> None:
    refused = 0
    for operation in models[service].operation_names:
        if not reads(service, operation):
            refused += 1
            with pytest.raises(ReadOnly, match=f"{service}:{operation} writes"):
                call(service, operation)
    assert refused or service in ("cloudtrail", "health", "sts")


@pytest.mark.parametrize("service", SERVICES)
def test_no_operation_whose_verb_writes_counts_as_reading(service: str, models) -> None:
    allowed = {("rds-data", "BeginTransaction"), ("rds-data", "RollbackTransaction")}
    for operation in models[service].operation_names:
        name = f"{service}:{operation}"
        if VERBS_THAT_WRITE.match(operation) and name not in READS_IN_SPITE_OF_THEIR_VERB:
            assert not reads(service, operation) or (service, operation) in allowed, name


@pytest.mark.parametrize(("service", "operation"), USED_FOR_READING)
def test_what_reading_methods_use_passes(service: str, operation: str) -> None:
    call(service, operation)


def test_taking_a_message_from_a_queue_is_a_write() -> None:
    with pytest.raises(ReadOnly):
        call("sqs", "ReceiveMessage")


def test_data_api_statements_pass_only_inside_a_transaction_that_is_never_committed() -> None:
    call("rds-data", "ExecuteStatement", {"sql": "SELECT 1", "transactionId": "t"})
    for operation, body in [
        ("ExecuteStatement", {"sql": "DELETE FROM users"}),
        ("ExecuteStatement", {"sql": " commit", "transactionId": "t"}),
        ("CommitTransaction", {"transactionId": "t"}),
        ("BatchExecuteStatement", {"sql": "x", "transactionId": "t"}),
        ("ExecuteSql", {}),
    ]:
        with pytest.raises(ReadOnly):
            call("rds-data", operation, body)


WRITES = [
    ("ecs", "update_service", {"service": "api", "desiredCount": 0}),
    ("secretsmanager", "put_secret_value", {"SecretId": "s", "SecretString": "x"}),
    ("sqs", "receive_message", {"QueueUrl": "http://127.0.0.1/q"}),
    ("lambda", "invoke", {"FunctionName": "f"}),
    ("rds-data", "execute_statement", {"resourceArn": "a" * 11, "secretArn": "a" * 11, "sql": "DELETE FROM users"}),
    ("rds-data", "commit_transaction", {"resourceArn": "a" * 11, "secretArn": "a" * 11, "transactionId": "t"}),
]


@pytest.mark.parametrize(("service", "operation", "parameters"), WRITES)
def test_a_client_of_a_reading_session_sends_no_write(fake, service: str, operation: str, parameters) -> None:
    session = AwsSession(fake.config, sandbox=True, writing=False)
    client = session.client(service)
    with pytest.raises(ReadOnly):
        getattr(client, operation)(**parameters)
    assert set(fake.seen) == {"sts"}


def test_a_data_api_statement_in_a_transaction_is_sent(fake) -> None:
    session = AwsSession(fake.config, sandbox=True, writing=False)
    given = {"resourceArn": "a" * 11, "secretArn": "a" * 11, "sql": "SELECT 1", "transactionId": "t"}
    session.call("rds-data", "execute_statement", **given)
    assert fake.seen["rds-data"] == 1


def test_paginators_and_waiters_run_into_the_wall_too(fake) -> None:
    session = AwsSession(fake.config, sandbox=True, writing=False)
    paginator = session.client("rds").get_paginator("download_db_log_file_portion")
    with pytest.raises(ReadOnly):
        next(iter(paginator.paginate(DBInstanceIdentifier="i", LogFileName="f")))
    client = session.client("ecs")
    waiter = client.get_waiter("services_stable")
    waiter._operation_method = lambda **_: client.delete_cluster(cluster="c")
    with pytest.raises(ReadOnly):
        waiter.wait(services=["s"])
    assert set(fake.seen) == {"sts"}


def test_a_writing_session_writes(fake) -> None:
    session = AwsSession(fake.config, sandbox=True, writing=True)
    fake.answer = lambda: (200, '{"service": {}}')
    session.call("ecs", "update_service", service="api", desiredCount=1)
    assert fake.seen["ecs"] == 1
