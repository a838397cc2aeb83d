"""Snapshots of the database: what they are called."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from opsctl.settings.values import Section

Prefix = Annotated[str, Meta(pattern=r"^[A-Za-z](-?[A-Za-z0-9])*$", max_length=200)]
"""What RDS takes at the beginning of a name."""


class SnapshotSettings(Section, frozen=True, kw_only=True):
    """Manual snapshots of the database."""

    prefix: Prefix = "opsctl-manual"
    """How the names of opsctl's snapshots start; the time follows."""
