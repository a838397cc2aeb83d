"""`opsctl maintenance`: telling users of maintenance."""

from __future__ import annotations

from opsctl.cli import group

maintenance = group("maintenance")
