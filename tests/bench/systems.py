"""A change over the real adapters and the bench's sandbox, as a command line hands it to the engine."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from opsctl import config
from opsctl.cli.context import AppContext
from opsctl.protocols import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opsctl.contract import Change


@contextmanager
def context(folder: Path, database: str = "safawinet") -> Iterator[AppContext]:
    """The sandbox's reading and writing systems, over another database of the same server."""
    shipped = config.shipped("config") / "sandbox.toml"
    place = folder / f"config-{database}"
    place.mkdir(exist_ok=True)
    (place / shipped.name).write_text(shipped.read_text().replace('name = "safawinet"', f'name = "{database}"'))
    with AppContext(name="sandbox", folder=str(place)) as made:
        yield made


def applied(change: Change, systems: AppContext) -> float:
    """The seconds that a change's one effect takes."""
    began = time.perf_counter()
    change.apply(systems.write, "bench-1", no_progress)
    return time.perf_counter() - began
