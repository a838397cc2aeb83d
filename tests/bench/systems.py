"""The real adapters, writing and reading, over the bench's sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opsctl import config
from opsctl.adapters.host.prompt import Person
from opsctl.adapters.host.secret_sources import Values
from opsctl.systems import Systems


@dataclass
class Beats:
    """Counts the calls between batches."""

    count: int = 0

    def __call__(self, done: int, total: int | None = None, unit: str = "") -> None:
        self.count += 1


def both(folder: Path, database: str = "safawinet") -> tuple[Systems, Systems]:
    """The reading and the writing set, over another database of the same server."""
    shipped = config.shipped("config") / "sandbox.toml"
    place = folder / f"config-{database}"
    place.mkdir(exist_ok=True)
    (place / shipped.name).write_text(shipped.read_text().replace('name = "safawinet"', f'name = "{database}"'))
    environment = config.load("sandbox", str(place))
    made = [Systems(environment, writing=w, person=Person(), values=Values(), memory=Nothing()) for w in (False, True)]
    return made[0], made[1]


class Nothing:
    """A memory of nothing."""

    def last_rotation(self, secret: str) -> tuple[str, str] | None:
        return None

    def fingerprint(self, value: bytes) -> str:
        return ""
