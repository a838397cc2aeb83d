"""What an adapter needs besides its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opsctl.redaction import Secret
    from opsctl.settings import Reference


class Access(NamedTuple):
    """Whether an adapter may write, whether every endpoint must be on this machine, how it reads a credential, and its HTTPS proxy."""

    writing: bool
    sandbox: bool
    resolve: Callable[[Reference], Secret]
    proxy: str | None = None

    @property
    def read_only(self) -> Access:
        """The same access without the right to write."""
        return self._replace(writing=False)
