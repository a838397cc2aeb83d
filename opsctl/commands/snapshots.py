"""`opsctl snapshots`: snapshots of the database."""

from __future__ import annotations

from opsctl.cli import group

snapshots = group("snapshots")
