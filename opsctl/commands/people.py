"""`opsctl people`: who to call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from opsctl.cli.app import root_command
from opsctl.cli.command import read_only

if TYPE_CHECKING:
    from opsctl.systems import Systems


@root_command("people")
@read_only
def people(systems: Systems) -> list[dict[str, Any]]:
    """List who to call, and how.

    Examples:
        opsctl people
    """
    return [msgspec.structs.asdict(contact) for contact in systems.config.people]
