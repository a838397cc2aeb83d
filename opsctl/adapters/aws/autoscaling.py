"""Application Auto Scaling: the bounds within which it moves a service's desired count."""

from __future__ import annotations

from msgspec import Struct

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter, writes

SERVICE = "application-autoscaling"
DIMENSION = "ecs:service:DesiredCount"


class Bounds(Struct, frozen=True):
    """The fewest and the most tasks."""

    min: int
    max: int


class Autoscaling(Adapter):
    """Scalable targets of ECS services."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def bounds(self, cluster: str, service: str) -> Bounds | None:
        """Return the bounds, or None for a service that isn't scaled automatically."""
        answer = self._aws.call(
            SERVICE,
            "describe_scalable_targets",
            ServiceNamespace="ecs",
            ResourceIds=[f"service/{cluster}/{service}"],
            ScalableDimension=DIMENSION,
        )
        found = answer["ScalableTargets"]
        return Bounds(found[0]["MinCapacity"], found[0]["MaxCapacity"]) if found else None

    @writes
    def set_bounds(self, cluster: str, service: str, minimum: int, maximum: int) -> None:
        """Set the bounds; what else the target has (its role, what is suspended) stays, as AWS keeps what is left out."""
        self._aws.call(
            SERVICE,
            "register_scalable_target",
            ServiceNamespace="ecs",
            ResourceId=f"service/{cluster}/{service}",
            ScalableDimension=DIMENSION,
            MinCapacity=minimum,
            MaxCapacity=maximum,
        )
