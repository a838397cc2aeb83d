"""The contract between the sandbox's server process and its parts.

A part is a WSGI application with a name; the server gives each its own free loopback port. Parts share one `SandboxContext`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class SandboxContext:
    """What every part of one running sandbox knows of it. Times are seconds; `tempo` scales every pretended wait."""

    folder: Path
    tempo: float = 1.0
    clock: Callable[[], float] = time.time
    ports: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    parts: dict[str, SandboxService] = field(default_factory=dict)

    def wait(self, seconds: float) -> float:
        """How long something that takes `seconds` in the demo takes in this world."""
        return seconds * self.tempo


class SandboxService(Protocol):
    """One stand-in, or the front before moto."""

    name: str

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        ...

    def operation(self, environ: Mapping[str, Any]) -> str:
        """The name that a fault is set on: `ecs.UpdateService`, `POST /v1/auth/login`."""
        ...

    def reset(self) -> None:
        """Put the seeded state back."""
        ...
