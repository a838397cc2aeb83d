"""ECS services, their scaling and their images."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.adapters.aws.autoscaling import Autoscaling, Bounds
from opsctl.adapters.aws.ecr import Ecr
from opsctl.adapters.aws.ecs import Ecs
from opsctl.adapters.aws.session import AwsSession
from opsctl.errors import NotFound, ReadOnly

CLUSTER, SERVICE = "safawinet-prod", "safawinet-api-prod"
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
PINNED = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
def service(writing: AwsSession) -> None:
    writing.call("ecs", "create_cluster", clusterName=CLUSTER)
    container = {"name": "api", "image": f"{REGISTRY}/api:prod", "memory": 128}
    writing.call("ecs", "register_task_definition", family="api", containerDefinitions=[container])
    writing.call("ecs", "create_service", cluster=CLUSTER, serviceName=SERVICE, taskDefinition="api", desiredCount=2)


@pytest.mark.usefixtures("service")
def test_a_service_its_deployment_and_its_definition(reading: AwsSession) -> None:
    found = Ecs(reading).service(CLUSTER, SERVICE)
    assert (found.cluster, found.service, found.desired) == (CLUSTER, SERVICE, 2)
    assert found.primary is not None
    assert found.primary.created.utcoffset().total_seconds() == 0
    definition = Ecs(reading).task_definition(found.task_definition)
    assert [(c.name, c.image) for c in definition.containers] == [("api", f"{REGISTRY}/api:prod")]
    assert (definition.family, definition.revision) == ("api", 1)


@pytest.mark.usefixtures("service")
def test_scaling_and_redeploying(writing: AwsSession) -> None:
    ecs = Ecs(writing)
    assert ecs.set_desired(CLUSTER, SERVICE, 4).desired == 4
    assert ecs.redeploy(CLUSTER, SERVICE).primary is not None
    assert ecs.service(CLUSTER, SERVICE).desired == 4


@pytest.mark.usefixtures("service")
def test_an_unknown_or_deleted_service_is_not_found(reading: AwsSession, writing: AwsSession) -> None:
    for cluster, service in [(CLUSTER, "nothing"), ("nowhere", SERVICE)]:
        with pytest.raises(NotFound):
            Ecs(reading).service(cluster, service)
    writing.call("ecs", "delete_service", cluster=CLUSTER, service=SERVICE, force=True)
    with pytest.raises(NotFound):
        Ecs(reading).service(CLUSTER, SERVICE)


@pytest.mark.usefixtures("service")
def test_reading_refuses_to_write(reading: AwsSession) -> None:
    for write in (
        lambda: Ecs(reading).redeploy(CLUSTER, SERVICE),
        lambda: Ecs(reading).set_desired(CLUSTER, SERVICE, 0),
        lambda: Autoscaling(reading).set_bounds(CLUSTER, SERVICE, 1, 2),
    ):
        with pytest.raises(ReadOnly):
            write()
    assert Ecs(reading).service(CLUSTER, SERVICE).desired == 2


class Tasks:
    """Answers ListTasks and DescribeTasks for `count` running tasks, one draining and one stopped, in pages of 100."""

    def __init__(self, count: int) -> None:
        self.running = [f"arn:aws:ecs:us-east-1:123456789012:task/c/run{n:04}" for n in range(count)]
        self.others = ["arn:aws:ecs:us-east-1:123456789012:task/c/draining", "arn:aws:ecs:us-east-1:123456789012:task/c/gone"]
        self.asked: list[int] = []

    def call(self, service: str, operation: str, *, cluster: str, tasks: list[str]) -> dict:
        self.asked.append(len(tasks))
        return {"tasks": [self.shown(arn) for arn in tasks]}

    def pages(self, service: str, operation: str, *, cluster: str, serviceName: str, desiredStatus: str):  # noqa: N803
        arns = self.running if desiredStatus == "RUNNING" else self.others
        for start in range(0, len(arns), 100):
            yield {"taskArns": arns[start : start + 100]}

    def shown(self, arn: str) -> dict:
        return {
            "taskArn": arn,
            "createdAt": datetime(2026, 1, 1, tzinfo=UTC),
            "startedAt": None if arn.endswith("run0000") else datetime(2026, 1, 2, tzinfo=UTC),
            "startedBy": "ecs-svc/1",
            "lastStatus": "STOPPED" if arn.endswith("gone") else "RUNNING",
            "containers": [{"name": "api", "image": "api:prod", "imageDigest": PINNED}],
        }


def test_tasks_come_in_hundreds_with_those_that_drain_and_without_those_that_stopped() -> None:
    aws = Tasks(150)
    aws.writing = False
    found = Ecs(aws).tasks(CLUSTER, SERVICE)
    assert len(found) == 151
    assert "draining" in {task.id for task in found}
    assert "gone" not in {task.id for task in found}
    assert max(aws.asked) <= 100
    first = next(task for task in found if task.id == "run0000")
    assert (first.started, first.deployment, first.containers[0].image, first.digest(first.containers[0].name)) == (
        None,
        "ecs-svc/1",
        "api:prod",
        PINNED,
    )


@pytest.mark.usefixtures("service")
def test_bounds_are_none_until_set(reading: AwsSession, writing: AwsSession) -> None:
    assert Autoscaling(reading).bounds(CLUSTER, SERVICE) is None
    Autoscaling(writing).set_bounds(CLUSTER, SERVICE, 2, 10)
    assert Autoscaling(reading).bounds(CLUSTER, SERVICE) == Bounds(2, 10)
    Autoscaling(writing).set_bounds(CLUSTER, SERVICE, 4, 12)
    assert Autoscaling(reading).bounds(CLUSTER, SERVICE) == Bounds(4, 12)


def test_what_a_tag_means(reading: AwsSession, writing: AwsSession) -> None:
    writing.call("ecr", "create_repository", repositoryName="team/api")
    for tag, digest in (("v1", PINNED), ("v2", OTHER)):
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"digest": tag}, "layers": []})
        given = {"repositoryName": "team/api", "imageManifest": manifest, "imageTag": tag, "imageDigest": digest}
        writing.call("ecr", "put_image", **given)
    ecr = Ecr(reading)
    assert ecr.digest(f"{REGISTRY}/team/api:v1") == PINNED
    assert ecr.digest(f"{REGISTRY}/team/api:v2") == OTHER


def test_images_that_have_no_tag_to_ask_about(reading: AwsSession, writing: AwsSession) -> None:
    ecr = Ecr(reading)
    assert ecr.digest("ghcr.io/team/api:prod") is None
    assert ecr.digest("nginx") is None
    assert ecr.digest(f"{REGISTRY}/team/api@{PINNED}") == PINNED
    assert ecr.digest(f"{REGISTRY}/team/api:v1@{PINNED}") == PINNED
    assert ecr.digest(f"{REGISTRY}/unknown:v1") is None
    writing.call("ecr", "create_repository", repositoryName="team/api")
    with pytest.raises(NotFound, match="no new task can start"):
        ecr.digest(f"{REGISTRY}/team/api:gone")


NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = {
    "111122223333.dkr.ecr.us-east-1.amazonaws.com": "us-east-1",
    "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn": "cn-north-1",
    "111122223333.dkr.ecr-fips.us-gov-west-1.amazonaws.com": "us-gov-west-1",
    "111122223333.dkr-ecr.eu-central-1.on.aws": "eu-central-1",
    "111122223333.dkr-ecr-fips.us-east-2.on.aws": "us-east-2",
    "111122223333.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn": "cn-northwest-1",
    "111122223333.dkr.ecr.us-iso-east-1.c2s.ic.gov": "us-iso-east-1",
    "111122223333.dkr.ecr.eusc-de-east-1.amazonaws.eu": "eusc-de-east-1",
}


class Registry:
    """Answers DescribeImages, and remembers how it was asked."""

    writing = False

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        return {"imageDetails": [{"imageDigest": PINNED}]}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("tag", ["", ":v1"])
def test_every_name_of_a_registry_is_asked(host: str, tag: str) -> None:
    asked = Registry()
    assert Ecr(asked).digest(f"{host}/team/api{tag}") == PINNED  # type: ignore[arg-type]
    assert asked.asked == [
        {
            "region": HOSTS[host],
            "registryId": "111122223333",
            "repositoryName": "team/api",
            "imageIds": [{"imageTag": tag[1:] or "latest"}],
        }
    ]


@pytest.mark.parametrize(
    "image",
    [
        "nginx",
        "nginx:1.27",
        "docker.io/library/nginx:1.27",
        "ghcr.io/team/api:prod",
        "public.ecr.aws/nginx/nginx:latest",
        "localhost:5000/api:v1",
        "11112222333.dkr.ecr.us-east-1.amazonaws.com/api:v1",
        "111122223333.dkr.ecr.us-east-1.evil.example/api:v1",
        "111122223333.dkr.ecr.us-east-1.amazonaws.com.evil.example/api:v1",
        "evil.example/111122223333.dkr.ecr.us-east-1.amazonaws.com/api:v1",
        "",
    ],
)
def test_another_registry_is_not_asked(image: str) -> None:
    asked = Registry()
    ecr = Ecr(asked)  # type: ignore[arg-type]
    assert ecr.digest(image) is None
    assert ecr.digest(f"{image}@{PINNED}") == (PINNED if image else None)
    assert asked.asked == []


@pytest.mark.parametrize(
    ("primary", "others", "rollout"),
    [
        ({"runningCount": 2}, [], "COMPLETED"),
        ({"runningCount": 1}, [], "IN_PROGRESS"),
        ({"runningCount": 2, "pendingCount": 1}, [], "IN_PROGRESS"),
        ({"runningCount": 2}, [{"runningCount": 1}], "IN_PROGRESS"),
        ({"runningCount": 2}, [{"runningCount": 0}], "COMPLETED"),
        ({"runningCount": 2, "rolloutState": "IN_PROGRESS"}, [], "IN_PROGRESS"),
        ({"runningCount": 2, "rolloutState": "FAILED"}, [], "FAILED"),
        ({"runningCount": 0, "rolloutState": "COMPLETED"}, [], "COMPLETED"),
    ],
)
def test_a_rollout_that_ecs_doesnt_tell_of_is_told_by_its_counts(
    primary: dict[str, Any], others: list[dict[str, Any]], rollout: str
) -> None:
    """ECS gives no rolloutState of a service behind a Classic Load Balancer (the model of Deployment says so)."""
    common = {"createdAt": NOW, "updatedAt": NOW, "desiredCount": 2, "runningCount": 0}
    deployments = [{**common, "id": "new", "status": "PRIMARY", **primary}]
    deployments += [{**common, "id": "old", "status": "ACTIVE", **each} for each in others]
    raw = {"serviceName": "api", "desiredCount": 2, "runningCount": 2, "pendingCount": 0, "deployments": deployments}
    aws = SimpleNamespace(writing=False, call=lambda *a, **k: {"services": [raw]})
    assert Ecs(aws).service(CLUSTER, SERVICE).rollout == rollout  # type: ignore[arg-type]
