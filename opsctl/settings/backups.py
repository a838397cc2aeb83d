"""Snapshots of the database: what they are called and what a restored instance is like."""

from __future__ import annotations

from opsctl.settings.values import Section


class SnapshotSettings(Section, frozen=True, kw_only=True):
    """How manual snapshots are named; only those that carry our tag are ever pruned."""

    prefix: str = "safawinet-manual"
