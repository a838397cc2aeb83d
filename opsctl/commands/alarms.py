"""`opsctl alarms`: what fires, and who looks after it."""

from __future__ import annotations

from opsctl.cli import group

alarms = group("alarms")
