"""`opsctl bounces`: mail that came back."""

from __future__ import annotations

from opsctl.cli import group

bounces = group("bounces")
