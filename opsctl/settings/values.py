"""What every table of the configuration is made of: durations, references to credentials, and bounded numbers."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated

from msgspec import Meta, Struct

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 36_500 * UNITS["d"]

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Duration(timedelta):
    """A time span, written `90s`, `5m`, `24h` or `7d`."""

    def __str__(self) -> str:
        seconds = int(self.total_seconds())
        unit = next(u for u in "dhms" if seconds % UNITS[u] == 0)
        return f"{seconds // UNITS[unit]}{unit}"

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError for anything but digits and one of s, m, h, d, and beyond a hundred years."""
        match = re.fullmatch(r"([0-9]{1,10})([smhd])", text.strip())
        if not match or (seconds := int(match[1]) * UNITS[match[2]]) > LONGEST:
            raise ValueError(f"expected a duration such as 90s, 5m, 24h or 7d, at most 36500d, got {text!r}")
        return cls(seconds=seconds)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A table of the configuration; an unknown key in it is an error."""


def address(text: str | None) -> tuple[str, int] | None:
    """Part `127.0.0.1:5433` or `[::1]:5433`; None for nothing. Raises ValueError for anything else: a name could lead elsewhere."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    try:
        found = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port)
    except ValueError:
        found = "", 0
    if not 0 < found[1] < 65_536:
        raise ValueError(f"expected tunnel to be ADDRESS:PORT, such as 127.0.0.1:5433, got {text!r}")
    return found


class Reference(Section, frozen=True, kw_only=True):
    """Where a credential is stored: an AWS secret, an environment variable or a file; exactly one of `aws`, `env` and `file`."""

    aws: str | None = None
    """The name or ARN of a secret in AWS Secrets Manager."""
    key: str | None = None
    """The member of the secret's JSON object; with `aws` only."""
    region: str | None = None
    """The secret's region, if it differs from [aws]."""
    env: str | None = None
    """The name of an environment variable."""
    file: str | None = None
    """The path of a file that holds it."""

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.aws, self.env, self.file)) != 1:
            raise ValueError("expected exactly one of aws, env, file")

    def __str__(self) -> str:
        return f"secret {self.aws}" if self.aws else f"variable {self.env}" if self.env else f"file {self.file}"
