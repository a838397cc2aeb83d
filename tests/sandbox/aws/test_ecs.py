from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from stand_in import API, CLUSTER, JWT, Aws

Refused = Callable[..., str]
SERVICE = {"cluster": CLUSTER, "service": API}


@pytest.fixture
def ecs(aws: Aws) -> Any:
    return aws.client("ecs")


def keys(aws: Aws) -> set[str]:
    return {task.environment["JWT_SECRET"] for task in aws.part.running_tasks(CLUSTER, API)}


def shown_tasks(ecs: Any) -> list[dict[str, Any]]:
    arns = ecs.list_tasks(cluster=CLUSTER, serviceName=API)["taskArns"]
    return list(ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"])


def test_a_seeded_service_is_steady(aws: Aws, ecs: Any) -> None:
    service = aws.service()
    assert (service["desiredCount"], service["runningCount"], service["pendingCount"]) == (2, 2, 0)
    assert [each["rolloutState"] for each in service["deployments"]] == ["COMPLETED"]
    assert keys(aws) == {aws.world.facts["jwt_secret"]}
    secret = aws.client("secretsmanager").describe_secret(SecretId=JWT)
    assert all(task["startedAt"] > secret["LastChangedDate"] for task in shown_tasks(ecs))


def test_a_rollout_takes_a_while_and_never_runs_fewer_than_desired(aws: Aws, ecs: Any) -> None:
    before = {task["taskArn"] for task in shown_tasks(ecs)}
    begun = ecs.update_service(**SERVICE, forceNewDeployment=True)["service"]
    assert [(each["status"], each["rolloutState"]) for each in begun["deployments"]] == [
        ("PRIMARY", "IN_PROGRESS"),
        ("ACTIVE", "COMPLETED"),
    ]
    seen = []
    for _ in range(10):
        aws.clock.pass_by(0.5)
        seen.append(aws.service())
    assert min(service["runningCount"] for service in seen) == 2
    assert max(service["runningCount"] + service["pendingCount"] for service in seen) > 2
    assert "IN_PROGRESS" in {service["deployments"][0]["rolloutState"] for service in seen}
    (deployment,) = seen[-1]["deployments"]
    assert (deployment["rolloutState"], deployment["id"]) == ("COMPLETED", begun["deployments"][0]["id"])
    tasks = shown_tasks(ecs)
    assert before.isdisjoint(task["taskArn"] for task in tasks)
    for task in tasks:
        assert task["startedBy"] == deployment["id"]
        assert deployment["createdAt"] <= task["createdAt"] <= task["startedAt"] <= deployment["updatedAt"]
        assert task["containers"][0]["imageDigest"].startswith("sha256:")
    messages = [event["message"] for event in seen[-1]["events"]]
    assert messages[0] == f"(service {API}) has reached a steady state."
    assert any("has started 1 tasks" in message for message in messages)


def test_tasks_keep_the_secret_that_they_started_with(aws: Aws, ecs: Any) -> None:
    former = aws.world.facts["jwt_secret"]
    aws.client("secretsmanager").put_secret_value(SecretId=JWT, SecretString=json.dumps({"secret": "new"}))
    assert keys(aws) == {former}
    ecs.update_service(**SERVICE, forceNewDeployment=True)
    mixed = set()
    for _ in range(10):
        aws.clock.pass_by(0.5)
        mixed |= {frozenset(keys(aws))}
    assert frozenset({former, "new"}) in mixed
    assert keys(aws) == {"new"}


def test_a_task_takes_the_secret_of_its_start_also_when_nobody_looked_then(aws: Aws, ecs: Any) -> None:
    ecs.update_service(**SERVICE, forceNewDeployment=True)
    aws.clock.pass_by(10)
    aws.client("secretsmanager").put_secret_value(SecretId=JWT, SecretString=json.dumps({"secret": "too late"}))
    assert keys(aws) == {aws.world.facts["jwt_secret"]}


def test_at_tempo_zero_the_next_look_finds_it_settled(aws: Aws, ecs: Any) -> None:
    aws.world.tempo = 0.0
    begun = ecs.update_service(**SERVICE, forceNewDeployment=True)["service"]["deployments"][0]
    assert begun["rolloutState"] == "IN_PROGRESS"
    service = aws.service()
    assert [each["id"] for each in service["deployments"]] == [begun["id"]]
    assert service["deployments"][0]["rolloutState"] == "COMPLETED"
    assert all(task["startedAt"] >= begun["createdAt"] for task in shown_tasks(ecs))


def test_scaling_keeps_the_deployment(aws: Aws, ecs: Any) -> None:
    former = aws.service()["deployments"][0]["id"]
    ecs.update_service(**SERVICE, desiredCount=5)
    assert aws.service()["runningCount"] == 2
    aws.clock.pass_by(5)
    service = aws.service()
    assert (service["runningCount"], [each["id"] for each in service["deployments"]]) == (5, [former])
    ecs.update_service(**SERVICE, desiredCount=1)
    aws.clock.pass_by(5)
    assert len(aws.part.running_tasks(CLUSTER, API)) == 1


def test_a_second_rollout_takes_over_from_the_first(aws: Aws, ecs: Any) -> None:
    ecs.update_service(**SERVICE, forceNewDeployment=True)
    aws.clock.pass_by(1)
    second = ecs.update_service(**SERVICE, forceNewDeployment=True)["service"]["deployments"][0]["id"]
    aws.clock.pass_by(5)
    assert [each["id"] for each in aws.service()["deployments"]] == [second]
    assert {task.deployment for task in aws.part.running_tasks(CLUSTER, API)} == {second}


@pytest.mark.parametrize("tempo", [0.0, 1.0])
def test_a_failed_rollout_is_rolled_back(aws: Aws, ecs: Any, tempo: float) -> None:
    aws.world.tempo = tempo
    former = aws.service()["deployments"][0]["id"]
    running = {task.id for task in aws.part.running_tasks(CLUSTER, API)}
    aws.part.fail_next_rollout(API)
    failing = ecs.update_service(**SERVICE, forceNewDeployment=True)["service"]["deployments"][0]["id"]
    aws.clock.pass_by(8 * tempo)
    found = {each["id"]: each for each in aws.service()["deployments"]}
    assert found[failing]["rolloutState"] == "FAILED"
    assert "circuit breaker" in found[failing]["rolloutStateReason"]
    assert found[failing]["failedTasks"] > 0
    assert (found[former]["status"], found[former]["rolloutState"]) == ("PRIMARY", "COMPLETED")
    assert {task.id for task in aws.part.running_tasks(CLUSTER, API)} == running
    aws.clock.pass_by(30)
    assert [each["id"] for each in aws.service()["deployments"]] == [former]
    ecs.update_service(**SERVICE, forceNewDeployment=True)
    aws.clock.pass_by(8)
    assert aws.service()["deployments"][0]["rolloutState"] == "COMPLETED"


def test_a_rollout_fails_when_the_secret_cannot_be_read(aws: Aws, ecs: Any) -> None:
    aws.client("secretsmanager").put_secret_value(SecretId=JWT, SecretString="not json")
    running = {task.id for task in aws.part.running_tasks(CLUSTER, API)}
    ecs.update_service(**SERVICE, forceNewDeployment=True)
    aws.clock.pass_by(8)
    assert "FAILED" in {each["rolloutState"] for each in aws.service()["deployments"]}
    assert {task.id for task in aws.part.running_tasks(CLUSTER, API)} == running
    (stopped, *_) = ecs.list_tasks(cluster=CLUSTER, serviceName=API, desiredStatus="STOPPED")["taskArns"]
    reason = ecs.describe_tasks(cluster=CLUSTER, tasks=[stopped])["tasks"][0]["stoppedReason"]
    assert reason.startswith("ResourceInitializationError")


def test_a_stopped_task_is_replaced(aws: Aws, ecs: Any) -> None:
    task = aws.part.running_tasks(CLUSTER, API)[0]
    ecs.stop_task(cluster=CLUSTER, task=task.id)
    assert aws.service()["runningCount"] == 1
    aws.clock.pass_by(5)
    assert aws.service()["runningCount"] == 2


def test_what_is_not_there_is_said_as_aws_says_it(aws: Aws, ecs: Any, refused: Refused) -> None:
    missing = ecs.describe_services(cluster=CLUSTER, services=["nope"])["failures"]
    assert [failure["reason"] for failure in missing] == ["MISSING"]
    unknown = {"cluster": CLUSTER, "service": "nope", "desiredCount": 1}
    assert refused(ecs.update_service, **unknown) == "ServiceNotFoundException"
    assert refused(ecs.describe_services, cluster="nope", services=[API]) == "ClusterNotFoundException"
    assert refused(ecs.update_service, **SERVICE, desiredCount=-1) == "InvalidParameterException"
    assert refused(ecs.run_task, taskDefinition="safawinet-api") == "NotImplemented"


def test_a_scalable_target_holds_the_count(aws: Aws, ecs: Any, refused: Refused) -> None:
    scaling = aws.client("application-autoscaling")
    target = {
        "ServiceNamespace": "ecs",
        "ResourceId": f"service/{CLUSTER}/{API}",
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    (seeded,) = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    assert (seeded["MinCapacity"], seeded["MaxCapacity"]) == (2, 10)
    scaling.register_scalable_target(**target, MinCapacity=4)
    aws.clock.pass_by(5)
    assert (aws.service()["desiredCount"], aws.service()["runningCount"]) == (4, 4)
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=3)
    assert aws.service()["desiredCount"] == 3
    assert len(scaling.describe_scaling_activities(ServiceNamespace="ecs")["ScalingActivities"]) == 2
    assert refused(scaling.register_scalable_target, **target, MinCapacity=9, MaxCapacity=3) == "ValidationException"


def test_the_running_image_is_what_the_tag_means_until_it_moves(aws: Aws, ecs: Any) -> None:
    def pushed() -> str:
        images = aws.client("ecr").describe_images(repositoryName="safawinet-api", imageIds=[{"imageTag": "prod"}])
        return str(images["imageDetails"][0]["imageDigest"])

    running = {task["containers"][0]["imageDigest"] for task in shown_tasks(ecs)}
    assert running == {pushed()}
    aws.part.move_image_tag("safawinet-api", "prod", "sha256:" + "a" * 64)
    assert pushed() not in {task["containers"][0]["imageDigest"] for task in shown_tasks(ecs)}
    ecs.update_service(**SERVICE, forceNewDeployment=True)
    aws.clock.pass_by(5)
    assert {task["containers"][0]["imageDigest"] for task in shown_tasks(ecs)} == {pushed()}
