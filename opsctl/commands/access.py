"""`opsctl access`: who may do what, and taking it away."""

from __future__ import annotations

from opsctl.cli import group

access = group("access")
