"""What is watched: thresholds of alerts, and Sentry."""

from __future__ import annotations

from opsctl.settings.values import Reference, Section


class SentrySettings(Section, frozen=True, kw_only=True):
    """The Sentry project of the application."""

    base: str = "https://sentry.io"
    organization: str
    project: str
    token: Reference
