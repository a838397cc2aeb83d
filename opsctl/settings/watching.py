"""What is watched: thresholds of alerts, and Sentry."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from opsctl.settings.values import Duration, Reference, Section, Share

Percent = Annotated[float, Meta(gt=0, le=100)]
Whole = Annotated[int, Meta(ge=1)]


class LevelAlert(Section, frozen=True, kw_only=True):
    """An alert that fires when the value is above a limit now."""

    above: Percent
    """The limit, in percent."""


class RateAlert(Section, frozen=True, kw_only=True):
    """An alert that fires when the average over a while is above a limit."""

    above: Percent
    """The limit, in percent."""
    over: Duration = Duration(minutes=5)
    """The time to average over: whole minutes, from 1m to 24h."""

    def __post_init__(self) -> None:
        """CloudWatch keeps a figure a minute for 15 days; a day of them is what it gives at once."""
        if not 60 <= self.over.total_seconds() <= 86_400 or self.over.total_seconds() % 60:
            raise ValueError(f"expected whole minutes in `over`, from 1m to 24h, got {self.over}")


class ConnectionAlert(LevelAlert, frozen=True, kw_only=True):
    """The alert on the database's connections."""

    most: Whole | None = None
    """max_connections, for when the database can't be queried."""


class AlertSettings(Section, frozen=True, kw_only=True):
    """When the critical alerts fire, for `opsctl status` and `opsctl alarms check`."""

    alb_5xx: RateAlert = RateAlert(above=1.0)
    ecs_cpu: RateAlert = RateAlert(above=70.0)
    rds_connections: ConnectionAlert = ConnectionAlert(above=80.0)
    redis_memory: LevelAlert = LevelAlert(above=80.0)
    sentry_errors: LevelAlert = LevelAlert(above=5.0)


class SentrySettings(Section, frozen=True, kw_only=True):
    """The application's project in Sentry."""

    base: str = "https://sentry.io"
    """Sentry's address."""
    ca: str = "system"
    """`system`, or a PEM file of certificate authorities; a relative path starts at this file's folder."""
    organization: str
    """The organization's slug."""
    project: str
    """The project's slug or id."""
    token: Reference
    """An auth token with org:read, project:read and event:read."""
    sample: Share = 1.0
    """The share of requests that the application reports as transactions (traces-sample-rate)."""
    suspicious: tuple[str, ...] = ("auth", "login", "password", "token", "permission", "injection")
    """Regular expressions, case ignored: an issue whose title or location matches is flagged."""

    def __post_init__(self) -> None:
        """Every pattern has to be one."""
        for pattern in self.suspicious:
            try:
                re.compile(pattern)
            except re.error as cause:
                raise ValueError(f"expected regular expressions in `suspicious`, got {pattern!r}: {cause}") from None
