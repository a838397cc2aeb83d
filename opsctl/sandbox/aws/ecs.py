"""ECS: clusters, services, tasks and task definitions, with rollouts that take a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.ecs_model import EcsDeployment, EcsRollouts, EcsService, EcsTask
from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.names import ACCOUNT, REGION
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

_ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"


class FakeEcs:
    """The whole of ECS that the sandbox has; nothing of it is moto's.

    `resolve` reads a container secret's `valueFrom`; `digest` tells what an image reference means now.
    """

    def __init__(
        self,
        timeline: EventLog,
        wait: Callable[[float], float],
        resolve: Callable[[str], str],
        digest: Callable[[str], str],
    ) -> None:
        self._timeline = timeline
        self._resolve = resolve
        self._digest = digest
        self._rollouts = EcsRollouts(timeline, wait, self._prepare)
        self._clusters: list[str] = []
        self._services: dict[tuple[str, str], EcsService] = {}
        self._definitions: dict[str, list[dict[str, Any]]] = {}
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "DescribeClusters": self._describe_clusters,
            "ListClusters": self._list_clusters,
            "DescribeServices": self._describe_services,
            "ListServices": self._list_services,
            "UpdateService": self._update_service,
            "ListTasks": self._list_tasks,
            "DescribeTasks": self._describe_tasks,
            "StopTask": self._stop_task,
            "RegisterTaskDefinition": self._register,
            "DescribeTaskDefinition": self._describe_definition,
            "ListTaskDefinitions": self._list_definitions,
        }

    def add_definition(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """Register the next revision of a task definition; it has `family` and `containerDefinitions`."""
        revisions = self._definitions.setdefault(definition["family"], [])
        revision = len(revisions) + 1
        arn = f"{_ARN}:task-definition/{definition['family']}:{revision}"
        kept = {**definition, "taskDefinitionArn": arn, "revision": revision, "status": "ACTIVE"}
        revisions.append(kept)
        return kept

    def add_service(self, cluster: str, name: str, definition: str, desired: int, started_at: float) -> None:
        """Have a settled service run since `started_at` (epoch seconds)."""
        if cluster not in self._clusters:
            self._clusters.append(cluster)
        arn = str(self._definition(definition)["taskDefinitionArn"])
        service = EcsService(cluster, name, desired, arn, started_at)
        self._services[cluster, name] = service
        self._rollouts.seed(service, started_at)

    def service(self, cluster: str, name: str) -> EcsService | None:
        """A service by name or ARN; None where there is none."""
        return self._services.get((_short(cluster), _short(name)))

    def scale(self, service: EcsService, desired: int) -> None:
        """Set the desired count, as Application Auto Scaling does."""
        service.desired = desired
        self._rollouts.adjust(service, self._timeline.now())

    def _prepare(self, definition_arn: str) -> tuple[dict[str, str], dict[str, str]]:
        containers = self._definition(definition_arn)["containerDefinitions"]
        environment = {pair["name"]: pair["value"] for pair in containers[0].get("environment", [])}
        environment |= {secret["name"]: self._resolve(secret["valueFrom"]) for secret in containers[0].get("secrets", [])}
        return environment, {each["name"]: self._digest(each["image"]) for each in containers}

    def _definition(self, name: str) -> dict[str, Any]:
        family, _, revision = _short(name).partition(":")
        revisions = self._definitions.get(family, [])
        wanted = int(revision) if revision.isdigit() else len(revisions)
        if not 1 <= wanted <= len(revisions):
            raise AwsError("ClientException", "Unable to describe task definition.")
        return revisions[wanted - 1]

    def _cluster(self, request: Request) -> str:
        name = _short(str(request.params.get("cluster", "default")))
        if name not in self._clusters:
            raise AwsError("ClusterNotFoundException", "Cluster not found.")
        return name

    def _need_service(self, request: Request, key: str) -> EcsService:
        service = self._services.get((self._cluster(request), _short(str(request.params[key]))))
        if service is None:
            raise AwsError("ServiceNotFoundException", "Service not found.")
        return service

    def _describe_clusters(self, request: Request) -> dict[str, Any]:
        names = [_short(name) for name in request.params.get("clusters", ["default"])]
        found = [self._show_cluster(name) for name in names if name in self._clusters]
        missing = [_missing("cluster", name) for name in names if name not in self._clusters]
        return {"clusters": found, "failures": missing}

    def _show_cluster(self, name: str) -> dict[str, Any]:
        services = [service for (cluster, _), service in self._services.items() if cluster == name]
        return {
            "clusterArn": f"{_ARN}:cluster/{name}",
            "clusterName": name,
            "status": "ACTIVE",
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": sum(len(service.running()) for service in services),
            "pendingTasksCount": sum(len(_pending(service.tasks)) for service in services),
            "activeServicesCount": len(services),
        }

    def _list_clusters(self, request: Request) -> dict[str, Any]:
        return {"clusterArns": [f"{_ARN}:cluster/{name}" for name in self._clusters]}

    def _describe_services(self, request: Request) -> dict[str, Any]:
        cluster = self._cluster(request)
        names = request.params.get("services", [])
        if not 1 <= len(names) <= 10:
            raise AwsError("InvalidParameterException", "Services must have between 1 and 10 entries.")
        found = [(name, self._services.get((cluster, _short(name)))) for name in names]
        missing = [_missing("service", f"{cluster}/{_short(name)}") for name, service in found if service is None]
        return {"services": [show_service(service) for _, service in found if service], "failures": missing}

    def _list_services(self, request: Request) -> dict[str, Any]:
        wanted = self._cluster(request)
        return {"serviceArns": [_service_arn(each) for (cluster, _), each in self._services.items() if cluster == wanted]}

    def _update_service(self, request: Request) -> dict[str, Any]:
        service = self._need_service(request, "service")
        desired = request.params.get("desiredCount")
        if desired is not None and desired < 0:
            raise AwsError("InvalidParameterException", "desiredCount must be greater than or equal to 0.")
        arn = service.task_definition
        if given := request.params.get("taskDefinition"):
            arn = self._definition(given)["taskDefinitionArn"]
        changed = arn != service.task_definition or request.params.get("forceNewDeployment", False)
        rescaled = desired is not None and desired != service.desired
        service.task_definition = arn
        if desired is not None:
            service.desired = int(desired)
        if changed:
            self._rollouts.deploy(service)
        elif rescaled:
            self._rollouts.adjust(service, self._timeline.now())
        return {"service": show_service(service)}

    def _list_tasks(self, request: Request) -> dict[str, Any]:
        cluster, params = self._cluster(request), request.params
        if params.get("serviceName"):
            services = [self._need_service(request, "serviceName")]
        else:
            services = [service for (owner, _), service in self._services.items() if owner == cluster]
        stopped = params.get("desiredStatus", "RUNNING") == "STOPPED"
        family, started_by = params.get("family"), params.get("startedBy")
        arns = [
            _task_arn(service, task)
            for service in services
            for task in service.tasks
            if task.alive != stopped
            and started_by in (None, task.deployment)
            and family in (None, _short(task.task_definition).partition(":")[0])
        ]
        return {"taskArns": arns}

    def _describe_tasks(self, request: Request) -> dict[str, Any]:
        found, missing = [], []
        for name in request.params.get("tasks", []):
            if pair := self._find_task(request, name):
                found.append(self._show_task(*pair))
            else:
                missing.append(_missing("task", f"{self._cluster(request)}/{_short(name)}"))
        return {"tasks": found, "failures": missing}

    def _find_task(self, request: Request, name: str) -> tuple[EcsService, EcsTask] | None:
        cluster = self._cluster(request)
        for (owner, _), service in self._services.items():
            for task in service.tasks:
                if owner == cluster and task.id == _short(name):
                    return service, task
        return None

    def _stop_task(self, request: Request) -> dict[str, Any]:
        pair = self._find_task(request, str(request.params["task"]))
        if pair is None:
            raise AwsError("InvalidParameterException", "The referenced task was not found.")
        self._rollouts.stop(*pair, str(request.params.get("reason", "Task stopped by user")))
        return {"task": self._show_task(*pair)}

    def _register(self, request: Request) -> dict[str, Any]:
        if not request.params.get("containerDefinitions"):
            raise AwsError("ClientException", "Container list cannot be empty.")
        return {"taskDefinition": self.add_definition(request.params)}

    def _describe_definition(self, request: Request) -> dict[str, Any]:
        return {"taskDefinition": self._definition(str(request.params["taskDefinition"])), "tags": []}

    def _list_definitions(self, request: Request) -> dict[str, Any]:
        wanted = request.params.get("familyPrefix")
        kept = [each for family, every in self._definitions.items() if wanted in (None, family) for each in every]
        return {"taskDefinitionArns": [each["taskDefinitionArn"] for each in kept]}

    def _show_task(self, service: EcsService, task: EcsTask) -> dict[str, Any]:
        containers = self._definition(task.task_definition)["containerDefinitions"]
        arn = _task_arn(service, task)
        shown: dict[str, Any] = {
            "taskArn": arn,
            "clusterArn": f"{_ARN}:cluster/{service.cluster}",
            "taskDefinitionArn": task.task_definition,
            "group": f"service:{service.name}",
            "startedBy": task.deployment,
            "launchType": "FARGATE",
            "lastStatus": task.status,
            "desiredStatus": "RUNNING" if task.alive else "STOPPED",
            "createdAt": task.created_at,
            "containers": [
                {
                    "containerArn": f"{_ARN}:container/{service.cluster}/{task.id}",
                    "taskArn": arn,
                    "name": container["name"],
                    "image": container["image"],
                    **({"imageDigest": task.digests[container["name"]]} if task.digests else {}),
                    "lastStatus": task.status,
                    "healthStatus": "HEALTHY" if task.status == "RUNNING" else "UNKNOWN",
                }
                for container in containers
            ],
        }
        times = {"startedAt": task.started_at, "stoppedAt": task.stopped_at, "stoppedReason": task.stopped_reason}
        return {**shown, **{key: value for key, value in times.items() if value}}


def show_service(service: EcsService) -> dict[str, Any]:
    """A service as DescribeServices and UpdateService give it."""
    return {
        "serviceArn": _service_arn(service),
        "serviceName": service.name,
        "clusterArn": f"{_ARN}:cluster/{service.cluster}",
        "status": "ACTIVE",
        "desiredCount": service.desired,
        "runningCount": len(service.running()),
        "pendingCount": len(_pending(service.tasks)),
        "launchType": "FARGATE",
        "platformVersion": "LATEST",
        "taskDefinition": service.task_definition,
        "createdAt": service.created_at,
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "deploymentConfiguration": {
            "deploymentCircuitBreaker": {"enable": True, "rollback": True},
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
        },
        "loadBalancers": [],
        "serviceRegistries": [],
        "deployments": [_show_deployment(service, deployment) for deployment in service.deployments],
        "events": list(service.events),
    }


def _show_deployment(service: EcsService, deployment: EcsDeployment) -> dict[str, Any]:
    tasks = [task for task in service.tasks if task.deployment == deployment.id]
    return {
        "id": deployment.id,
        "status": deployment.status,
        "taskDefinition": deployment.task_definition,
        "desiredCount": service.desired if deployment.status == "PRIMARY" else 0,
        "pendingCount": len(_pending(tasks)),
        "runningCount": sum(task.status == "RUNNING" for task in tasks),
        "failedTasks": deployment.failed_tasks,
        "createdAt": deployment.created_at,
        "updatedAt": deployment.updated_at,
        "launchType": "FARGATE",
        "rolloutState": deployment.rollout,
        "rolloutStateReason": deployment.reason,
    }


def _pending(tasks: list[EcsTask]) -> list[EcsTask]:
    return [task for task in tasks if task.status in ("PROVISIONING", "PENDING")]


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _missing(kind: str, path: str) -> dict[str, str]:
    return {"arn": f"{_ARN}:{kind}/{path}", "reason": "MISSING"}


def _service_arn(service: EcsService) -> str:
    return f"{_ARN}:service/{service.cluster}/{service.name}"


def _task_arn(service: EcsService, task: EcsTask) -> str:
    return f"{_ARN}:task/{service.cluster}/{task.id}"
