"""Access for adapters under test."""

from __future__ import annotations

from collections.abc import Callable

from opsctl.adapters.access import Access
from opsctl.redaction import Secret
from opsctl.settings import Reference


def no_credential(reference: Reference) -> Secret:
    raise AssertionError(f"{reference} was read")


def access(
    *, writing: bool, sandbox: bool = True, resolve: Callable[[Reference], Secret] = no_credential, proxy: str | None = None
) -> Access:
    """Access that resolves no reference unless `resolve` does."""
    return Access(writing, sandbox, resolve, proxy)
