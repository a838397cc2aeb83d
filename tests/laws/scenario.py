"""What a rehearsal of a changing command is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from world import World

CANARY = "canary-7f3a9c51e0d84b26a5c1f09e3d7b6482"


def nothing(world: World) -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Scenario:
    """One line of a command and what is known about it.

    `so` tells from the world itself whether what the line wants is so. `meddle` is somebody else who changes what the line is about,
    where a change of it has a value before. `reversible`: undo puts the world back. `typed` is what a person answers. A `variant`
    makes the same kinds of change as the one before it; what is `alike` makes those that another command's scenario makes too.
    """

    line: str
    so: Callable[[World], bool]
    prepare: Callable[[World], None] = nothing
    meddle: Callable[[World], None] | None = None
    reversible: bool = False
    config: str = ""
    env: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    typed: str | None = None
    blind: bool = False
    variant: bool = False
    alike: bool = False
