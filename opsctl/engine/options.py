"""The options that every changing command has."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from msgspec import Struct


class Options(Struct, kw_only=True, frozen=True):
    """The shared options. `confirm` is the target's name, given on the command line instead of at the prompt."""

    dry_run: bool = False
    save: Path | None = None
    force: bool = False
    as_shell: bool = False
    yes: bool = False
    confirm: str | None = None
    reason: str = ""
    incident: str = ""
    max_affected: int | None = None
    timeout: timedelta | None = None
    no_wait: bool = False
    again: bool = False
