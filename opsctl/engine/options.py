"""The options that every changing command has."""

from __future__ import annotations

import shlex
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

    def typed(self, command: str) -> str:
        """The command line as typed: with the shared options that change what is applied, which `command`, a run's identity, lacks."""
        limit = [] if self.max_affected is None else ["--max-affected", str(self.max_affected)]
        words, added = shlex.split(command), [*limit, *(["--again"] if self.again else [])]
        end = words.index("--") if "--" in words else len(words)
        return shlex.join([*words[:end], *added, *words[end:]]) if added else command
