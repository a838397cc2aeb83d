"""The contract between the sandbox's server process and its services.

A service is a WSGI application with a name; the server gives each a free loopback port. Services share one `SandboxContext`.
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
    """The state that the services of a running sandbox share. Times are seconds; `tempo` scales simulated waits."""

    folder: Path
    tempo: float = 1.0
    clock: Callable[[], float] = time.time
    ports: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    parts: dict[str, SandboxService] = field(default_factory=dict)

    def wait(self, seconds: float) -> float:
        """The duration in this sandbox of something that takes `seconds` in the demo."""
        return seconds * self.tempo


class SandboxService(Protocol):
    """A stand-in, or the AWS endpoint with moto behind it."""

    name: str

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        ...

    def operation(self, environ: Mapping[str, Any]) -> str:
        """The operation's name for faults: `ecs.UpdateService`, `POST /v1/auth/login`."""
        ...

    def reset(self) -> None:
        """Restore the seeded state."""
        ...
