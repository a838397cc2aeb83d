"""What is watched: thresholds of alerts, and Sentry."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from opsctl.settings.values import Duration, Reference, Section, Share

Percent = Annotated[float, Meta(gt=0, le=100)]
Whole = Annotated[int, Meta(ge=1)]


class Level(Section, frozen=True, kw_only=True):
    """An alert that fires when something stands `above` so many percent now."""

    above: Percent


class Rate(Section, frozen=True, kw_only=True):
    """An alert that fires when something was `above` so many percent over a while."""

    above: Percent
    over: Duration = Duration(minutes=5)

    def __post_init__(self) -> None:
        """CloudWatch keeps a figure a minute for 15 days; a day of them is what it gives at once."""
        if not 60 <= self.over.total_seconds() <= 86_400 or self.over.total_seconds() % 60:
            raise ValueError(f"expected whole minutes in `over`, from 1m to 24h, got {self.over}")


class Connections(Level, frozen=True, kw_only=True):
    """The database's connections; `most` is its max_connections, counted with when the database itself can't be asked."""

    most: Whole | None = None


class AlertSettings(Section, frozen=True, kw_only=True):
    """The critical alerts, as the Safawinet runbook has them (6.1)."""

    alb_5xx: Rate = Rate(above=1.0)
    ecs_cpu: Rate = Rate(above=70.0)
    rds_connections: Connections = Connections(above=80.0)
    redis_memory: Level = Level(above=80.0)
    sentry_errors: Level = Level(above=5.0)


class SentrySettings(Section, frozen=True, kw_only=True):
    """The Sentry project of the application, by its slug or its id; `ca` as in [database].

    `sample` is the share of requests of which the application sends a transaction (traces-sample-rate). An issue whose title or place
    matches one of the patterns in `suspicious` is flagged; they are regular expressions, and case doesn't matter.
    """

    base: str = "https://sentry.io"
    ca: str = "system"
    organization: str
    project: str
    token: Reference
    sample: Share = 1.0
    suspicious: tuple[str, ...] = ("auth", "login", "password", "token", "permission", "injection")

    def __post_init__(self) -> None:
        """Every pattern has to be one."""
        for pattern in self.suspicious:
            try:
                re.compile(pattern)
            except re.error as cause:
                raise ValueError(f"expected regular expressions in `suspicious`, got {pattern!r}: {cause}") from None
