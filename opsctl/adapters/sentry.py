"""Sentry: how often the application fails, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsctl.adapters.base import Adapter

if TYPE_CHECKING:
    from opsctl.systems import Systems


class Sentry(Adapter):
    """The Sentry project that [sentry] names."""

    def __init__(self, systems: Systems) -> None:
        super().__init__(writing=systems.writing)
