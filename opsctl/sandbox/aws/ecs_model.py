"""What runs in a cluster, and how a rollout moves through it: tasks started, old ones drained, the deployment completed.

Nothing runs by itself: steps wait on the timeline, and happen when somebody reads after they were due. A rollout takes four
seconds at tempo 1.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.wire import AwsError

ROLLOUT_SECONDS = 4.0
# A failed deployment stays listed this long after its rollback, so that whoever polls can see it.
FAILED_SHOWN_SECONDS = 10.0

Environment = dict[str, str]
Prepare = Callable[[str], tuple[Environment, dict[str, str]]]


@dataclass
class EcsTask:
    """One task. Times are epoch seconds; `environment` and `digests` (by container) are what it resolved when it started."""

    id: str
    deployment: str
    task_definition: str
    created_at: float
    status: str = "PROVISIONING"
    started_at: float = 0.0
    stopped_at: float = 0.0
    stopped_reason: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    environment: Environment = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether it has not stopped."""
        return self.status != "STOPPED"


@dataclass
class EcsDeployment:
    """One deployment of a service. Times are epoch seconds."""

    id: str
    task_definition: str
    created_at: float
    updated_at: float
    status: str = "PRIMARY"
    rollout: str = "IN_PROGRESS"
    reason: str = ""
    failed_tasks: int = 0


@dataclass
class EcsService:
    """One service: what it should be, what runs, and what happened (newest event first)."""

    cluster: str
    name: str
    desired: int
    task_definition: str
    created_at: float
    deployments: list[EcsDeployment] = field(default_factory=list)
    tasks: list[EcsTask] = field(default_factory=list)
    events: list[dict[str, str | float]] = field(default_factory=list)
    fail_next: bool = False
    plan: int = 0

    @property
    def primary(self) -> EcsDeployment:
        """The deployment that should be running."""
        return next(deployment for deployment in self.deployments if deployment.status == "PRIMARY")

    def running(self) -> list[EcsTask]:
        """The tasks that run, oldest first."""
        return [task for task in self.tasks if task.status == "RUNNING"]

    def note(self, when: float, text: str) -> None:
        """Add an event."""
        self.events.insert(0, {"id": str(uuid.uuid4()), "createdAt": when, "message": f"(service {self.name}) {text}"})
        del self.events[100:]


class EcsRollouts:
    """Brings services to what they should be. `prepare` gives a starting task its environment and each container's image digest."""

    def __init__(self, timeline: EventLog, wait: Callable[[float], float], prepare: Prepare) -> None:
        self._timeline = timeline
        self._wait = wait
        self._prepare = prepare

    def seed(self, service: EcsService, started_at: float) -> None:
        """Have the service run, settled, since `started_at`."""
        deployment = self._new_deployment(service, started_at)
        for _ in range(service.desired):
            task = EcsTask(_task_id(), deployment.id, deployment.task_definition, started_at)
            service.tasks.append(task)
            self._run(task, started_at)
        self._complete(service, deployment, started_at)

    def deploy(self, service: EcsService) -> None:
        """Begin a new deployment of the service's task definition."""
        now = self._timeline.now()
        for old in service.deployments:
            if old.status == "PRIMARY":
                old.status, old.updated_at = "ACTIVE", now
        self._new_deployment(service, now)
        if service.fail_next:
            service.fail_next = False
            self._plan_failure(service, now)
        else:
            self.adjust(service, now)

    def adjust(self, service: EcsService, now: float) -> None:
        """Plan the steps from what runs to what should run, in place of any earlier plan."""
        service.plan += 1
        primary = service.primary
        mine = [task for task in service.tasks if task.alive and task.deployment == primary.id]
        missing = service.desired - len(mine)
        surplus = mine[service.desired :] if missing < 0 else []
        waiting = [task for task in mine if task.status != "RUNNING" and task not in surplus]
        starts: list[EcsTask | None] = [*waiting, *[None] * max(missing, 0)]
        stops = [task for task in service.tasks if task.alive and task.deployment != primary.id] + surplus
        rounds = max(len(starts), len(stops), 1)
        for number in range(rounds):
            moment = 0.1 + 0.7 * number / rounds
            if number < len(starts):
                self._plan_start(service, primary, starts[number], now, moment)
            if number < len(stops):
                self._later(service, now, moment + 0.12, partial(self._stop, service, stops[number], "Scaling activity"))
        self._later(service, now, 1.0, partial(self._complete, service, primary))

    def stop(self, service: EcsService, task: EcsTask, reason: str) -> None:
        """Stop one task now; the service replaces it."""
        now = self._timeline.now()
        self._stop(service, task, reason, now)
        self.adjust(service, now)

    def _later(self, service: EcsService, now: float, fraction: float, step: Callable[[float], None]) -> None:
        plan = service.plan

        def run(due: float) -> None:
            if service.plan == plan:
                step(due)

        self._timeline.at(now + self._wait(ROLLOUT_SECONDS * fraction), run)

    def _plan_start(self, service: EcsService, deployment: EcsDeployment, waiting: EcsTask | None, now: float, moment: float) -> None:
        launched = [waiting] if waiting else []

        def launch(due: float) -> None:
            task = EcsTask(_task_id(), deployment.id, deployment.task_definition, due, "PENDING")
            service.tasks.append(task)
            launched.append(task)
            service.note(due, f"has started 1 tasks: (task {task.id}).")

        def run(due: float) -> None:
            try:
                self._run(launched[0], due)
            except AwsError as error:
                deployment.failed_tasks += 1
                self._stop(service, launched[0], f"ResourceInitializationError: {error.message}", due)
                self._fail(service, deployment, due)

        if not waiting:
            self._later(service, now, moment - 0.1, launch)
        self._later(service, now, moment, run)

    def _plan_failure(self, service: EcsService, now: float) -> None:
        service.plan += 1
        deployment = service.primary
        for number in range(3):

            def crash(due: float) -> None:
                task = EcsTask(_task_id(), deployment.id, deployment.task_definition, due, "PENDING")
                service.tasks.append(task)
                deployment.failed_tasks += 1
                service.note(due, f"has started 1 tasks: (task {task.id}).")
                self._stop(service, task, "Essential container in task exited", due)

            self._later(service, now, 0.1 + 0.2 * number, crash)
        self._later(service, now, 0.75, partial(self._fail, service, deployment))

    def _fail(self, service: EcsService, failed: EcsDeployment, due: float) -> None:
        failed.rollout, failed.updated_at = "FAILED", due
        failed.reason = "ECS deployment circuit breaker: tasks failed to start."
        service.note(due, f"(deployment {failed.id}) deployment failed: tasks failed to start.")
        others = [old for old in service.deployments if old is not failed and old.rollout != "FAILED"]
        former = next((old for old in others if old.rollout == "COMPLETED"), others[0] if others else None)
        if former is None:
            service.plan += 1
            return
        failed.status, former.status = "ACTIVE", "PRIMARY"
        former.rollout, former.updated_at = "IN_PROGRESS", due
        former.reason = f"ECS deployment circuit breaker: rolling back to deploymentId {former.id}."
        service.task_definition = former.task_definition
        service.note(due, f"rolling back to deployment {former.id}.")
        self.adjust(service, due)

    def _complete(self, service: EcsService, deployment: EcsDeployment, due: float) -> None:
        if deployment.rollout == "IN_PROGRESS":
            deployment.rollout, deployment.updated_at = "COMPLETED", due
            if not deployment.reason.startswith("ECS deployment circuit breaker"):
                deployment.reason = f"ECS deployment {deployment.id} completed."
            service.note(due, f"(deployment {deployment.id}) deployment completed.")
        failed = [old for old in service.deployments if old.rollout == "FAILED" and old is not deployment]
        service.deployments = [deployment, *failed]
        for old in failed:
            self._timeline.at(old.updated_at + FAILED_SHOWN_SECONDS, partial(_forget, service, old))
        service.note(due, "has reached a steady state.")

    def _new_deployment(self, service: EcsService, now: float) -> EcsDeployment:
        identifier = f"ecs-svc/{random.randint(10**18, 10**19 - 1)}"  # an id, not a secret
        deployment = EcsDeployment(identifier, service.task_definition, now, now)
        deployment.reason = f"ECS deployment {identifier} in progress."
        service.deployments.insert(0, deployment)
        return deployment

    def _run(self, task: EcsTask, due: float) -> None:
        task.environment, task.digests = self._prepare(task.task_definition)
        task.status, task.started_at = "RUNNING", due

    def _stop(self, service: EcsService, task: EcsTask, reason: str, due: float) -> None:
        if not task.alive:
            return
        task.status, task.stopped_at, task.stopped_reason = "STOPPED", due, reason
        service.note(due, f"has stopped 1 running tasks: (task {task.id}).")
        stopped = [other for other in service.tasks if not other.alive]
        for oldest in stopped[:-50]:
            service.tasks.remove(oldest)


def _forget(service: EcsService, deployment: EcsDeployment, due: float) -> None:
    if deployment in service.deployments and deployment.status != "PRIMARY":
        service.deployments.remove(deployment)


def _task_id() -> str:
    return uuid.uuid4().hex
