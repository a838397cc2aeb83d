"""Application Auto Scaling for ECS services: a service's count is kept between its target's bounds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.ecs import FakeEcs
from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

_KEYS = ("ServiceNamespace", "ResourceId", "ScalableDimension")
_ARN = "arn:aws:application-autoscaling:us-east-1:123456789012:scalable-target"

Key = tuple[str, str, str]


class FakeAutoScaling:
    """Scalable targets and what they did; nothing of it is moto's."""

    def __init__(self, timeline: EventLog, ecs: FakeEcs) -> None:
        self._timeline = timeline
        self._ecs = ecs
        self._targets: dict[Key, dict[str, Any]] = {}
        self._activities: list[dict[str, Any]] = []
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "RegisterScalableTarget": self._register,
            "DeregisterScalableTarget": self._deregister,
            "DescribeScalableTargets": self._describe,
            "DescribeScalingActivities": self._describe_activities,
            "DescribeScalingPolicies": lambda request: {"ScalingPolicies": []},
        }

    def add(self, resource: str, low: int, high: int) -> None:
        """Register a target for an ECS service, `service/<cluster>/<name>`."""
        self._put(("ecs", resource, "ecs:service:DesiredCount"), {"MinCapacity": low, "MaxCapacity": high})

    def _register(self, request: Request) -> dict[str, Any]:
        given = {name: value for name, value in request.params.items() if name not in _KEYS}
        return {"ScalableTargetARN": self._put(_key(request), given)["ScalableTargetARN"]}

    def _put(self, key: Key, given: Mapping[str, Any]) -> dict[str, Any]:
        _, cluster, name = [*key[1].split("/"), "", ""][:3]
        service = self._ecs.service(cluster, name)
        if service is None:
            raise AwsError("ValidationException", f"ECS service doesn't exist: {key[1]}")
        default = {"CreationTime": self._timeline.now(), "ScalableTargetARN": f"{_ARN}/{uuid.uuid4().hex}"}
        target = {**self._targets.get(key, default), **dict(zip(_KEYS, key, strict=True)), **given}
        low, high = target.get("MinCapacity"), target.get("MaxCapacity")
        if low is None or high is None or not 0 <= low <= high:
            message = "Maximum capacity cannot be less than minimum capacity, and both are needed."
            raise AwsError("ValidationException", message)
        self._targets[key] = target
        within = min(max(service.desired, low), high)
        if within != service.desired:
            self._note(key, f"Setting desired count to {within}.")
            self._ecs.scale(service, within)
        return target

    def _note(self, key: Key, description: str) -> None:
        now = self._timeline.now()
        activity = {"ActivityId": str(uuid.uuid4()), "Description": description, "StartTime": now, "EndTime": now}
        activity |= {"Cause": "minimum or maximum capacity was changed", "StatusCode": "Successful"}
        self._activities.insert(0, {**activity, **dict(zip(_KEYS, key, strict=True))})

    def _deregister(self, request: Request) -> dict[str, Any]:
        if self._targets.pop(_key(request), None) is None:
            raise AwsError("ObjectNotFoundException", f"No scalable target found for {_key(request)[1]}")
        return {}

    def _describe(self, request: Request) -> dict[str, Any]:
        wanted = request.params.get("ResourceIds")
        found = [target for key, target in self._targets.items() if not wanted or key[1] in wanted]
        return {"ScalableTargets": found}

    def _describe_activities(self, request: Request) -> dict[str, Any]:
        wanted = request.params.get("ResourceId")
        return {"ScalingActivities": [each for each in self._activities if wanted in (None, each["ResourceId"])]}


def _key(request: Request) -> Key:
    namespace, resource, dimension = (str(request.params.get(name, "")) for name in _KEYS)
    return namespace, resource, dimension
