"""Performance Insights: what moto lacks or does otherwise than AWS; the rest is moto's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opsctl.sandbox.aws.moto_app import Moto
from opsctl.sandbox.aws.timeline import Timeline
from opsctl.sandbox.aws.wire import Answer, Request

Operation = Callable[[Request], Mapping[str, Any] | Answer]


class Performance:
    """The calls of Performance Insights that the sandbox answers itself, by the service that signs them."""

    def __init__(self, timeline: Timeline, moto: Moto) -> None:
        self._timeline = timeline
        self._moto = moto
        self.services: dict[str, dict[str, Operation]] = {"pi": {}}

    def seed(self) -> None:
        """Fill it, at its first call."""
