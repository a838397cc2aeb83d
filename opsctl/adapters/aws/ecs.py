"""Amazon ECS: services, deployments, tasks, and two writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import NotFound
from opsctl.redaction import LINE, clean_text

AT_ONCE = 100
"""How many tasks DescribeTasks accepts."""


class Deployment(Struct, frozen=True):
    """One deployment of a service. `status`: PRIMARY, ACTIVE or INACTIVE; `rollout_state`: IN_PROGRESS, COMPLETED or FAILED."""

    id: str
    status: str
    rollout_state: str
    reason: str
    created: datetime
    updated: datetime
    desired: int
    running: int
    failed: int
    pending: int = 0


class ServiceEvent(Struct, frozen=True):
    """One line of a service's events."""

    id: str
    at: datetime
    message: str


class ServiceState(Struct, frozen=True):
    """The state of a service; `task_definition` is an ARN, `deployments` and `events` are newest first."""

    cluster: str
    service: str
    desired: int
    running: int
    pending: int
    task_definition: str
    deployments: list[Deployment]
    events: list[ServiceEvent]

    @property
    def primary(self) -> Deployment | None:
        """The PRIMARY deployment."""
        return next((d for d in self.deployments if d.status == "PRIMARY"), None)

    @property
    def rollout(self) -> str:
        """The state of the PRIMARY deployment: IN_PROGRESS, COMPLETED or FAILED; empty without one.

        ECS has no such state for a service behind a Classic Load Balancer; there the task counts decide.
        """
        wanted = self.primary
        if wanted is None or wanted.rollout_state:
            return wanted.rollout_state if wanted else ""
        alone = not any(d.status != "PRIMARY" and (d.running or d.pending) for d in self.deployments)
        return "COMPLETED" if alone and wanted.running == wanted.desired and not wanted.pending else "IN_PROGRESS"


class Container(Struct, frozen=True):
    """One container of a task (with the digest that it runs) or of a task definition (`digest` is None)."""

    name: str
    image: str
    digest: str | None = None


class Task(Struct, frozen=True):
    """A task that is not stopped yet; `deployment` is the id of the one that started it, `started` None until it runs."""

    id: str
    created: datetime
    started: datetime | None
    deployment: str
    status: str
    containers: tuple[Container, ...]

    def digest(self, container: str) -> str | None:
        """The digest that a container runs, once it was pulled; None for an unknown container."""
        return next((each.digest for each in self.containers if each.name == container), None)


class TaskDefinition(Struct, frozen=True):
    """A task definition."""

    arn: str
    family: str
    revision: int
    containers: tuple[Container, ...]


class Ecs(Adapter):
    """ECS in the environment's region."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def service(self, cluster: str, service: str) -> ServiceState:
        """Raises NotFound for a cluster or service that doesn't exist, or was deleted."""
        answer = self._aws.call("ecs", "describe_services", cluster=cluster, services=[service])
        found = next(iter(answer["services"]), None)
        if found is None or found.get("status") == "INACTIVE":
            raise NotFound(
                f"There is no ECS service {service} in cluster {cluster}, region {self._aws.config.region}.",
                "Correct the service in the configuration.",
            )
        return _service(cluster, found)

    def tasks(self, cluster: str, service: str, *, draining: bool = True) -> list[Task]:
        """The running tasks, oldest first, optionally with those that are draining."""
        arns: list[str] = []
        for wanted in ("RUNNING", "STOPPED") if draining else ("RUNNING",):
            for page in self._aws.pages("ecs", "list_tasks", cluster=cluster, serviceName=service, desiredStatus=wanted):
                arns += page["taskArns"]
        found = [_task(raw) for raw in self._described(cluster, arns) if raw.get("lastStatus") != "STOPPED"]
        return sorted(found, key=lambda task: task.created)

    def _described(self, cluster: str, arns: list[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(arns), AT_ONCE):
            answer = self._aws.call("ecs", "describe_tasks", cluster=cluster, tasks=arns[start : start + AT_ONCE])
            yield from answer["tasks"]

    def task_definition(self, arn: str) -> TaskDefinition:
        """Return the task definition `arn` (or `family:revision`)."""
        found = self._aws.call("ecs", "describe_task_definition", taskDefinition=arn)["taskDefinition"]
        containers = tuple(Container(c["name"], c["image"]) for c in found["containerDefinitions"])
        return TaskDefinition(found["taskDefinitionArn"], found["family"], found["revision"], containers)

    @writes
    def redeploy(self, cluster: str, service: str) -> ServiceState:
        """Start a new deployment of the current task definition; it is the new `primary`. ECS has no idempotency token here."""
        answer = self._aws.call("ecs", "update_service", cluster=cluster, service=service, forceNewDeployment=True)
        return _service(cluster, answer["service"])

    @writes
    def set_desired(self, cluster: str, service: str, count: int) -> ServiceState:
        """Set the desired count."""
        answer = self._aws.call("ecs", "update_service", cluster=cluster, service=service, desiredCount=count)
        return _service(cluster, answer["service"])


def _service(cluster: str, raw: dict[str, Any]) -> ServiceState:
    deployments = [
        Deployment(
            id=d["id"],
            status=d["status"],
            rollout_state=d.get("rolloutState", ""),
            reason=clean_text(d.get("rolloutStateReason", ""), LINE),
            created=utc(d["createdAt"]),
            updated=utc(d["updatedAt"]),
            desired=d["desiredCount"],
            running=d["runningCount"],
            failed=d.get("failedTasks", 0),
            pending=d.get("pendingCount", 0),
        )
        for d in raw.get("deployments", [])
    ]
    events = [ServiceEvent(e["id"], utc(e["createdAt"]), clean_text(e["message"], LINE)) for e in raw.get("events", [])]
    return ServiceState(
        cluster=cluster,
        service=raw["serviceName"],
        desired=raw["desiredCount"],
        running=raw["runningCount"],
        pending=raw["pendingCount"],
        task_definition=raw.get("taskDefinition", ""),
        deployments=sorted(deployments, key=lambda d: d.created, reverse=True),
        events=sorted(events, key=lambda e: e.at, reverse=True),
    )


def _task(raw: dict[str, Any]) -> Task:
    containers = tuple(Container(c["name"], c.get("image", ""), c.get("imageDigest")) for c in raw.get("containers", []))
    created = utc(raw["createdAt"])
    return Task(
        id=raw["taskArn"].rpartition("/")[2],
        created=created,
        started=utc(raw["startedAt"]) if raw.get("startedAt") else None,
        deployment=raw.get("startedBy", ""),
        status=raw.get("lastStatus", ""),
        containers=containers,
    )
