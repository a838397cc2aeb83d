"""`opsctl lease`: verify a user's report against the lease endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from opsctl.cli import contacts as naming
from opsctl.cli.app import group
from opsctl.cli.command import gives_verdict, mutating, requires
from opsctl.cli.types import GIVEN
from opsctl.contract import Change, Planning

if TYPE_CHECKING:
    from opsctl.systems import Systems

lease = group("lease")


@lease.command()
@requires(changes="take-lease")
@click.argument("contact", type=naming.CONTACT)
@click.option(
    "--code-from", type=GIVEN, metavar="-|env:VAR|file:PATH", help="Where to read the customer's pairing code; by default HubSpot."
)
@click.option(
    "--expect",
    type=click.IntRange(100, 599),
    metavar="STATUS",
    default=200,
    show_default=True,
    help="Fail unless the endpoint answers with this status.",
)
@gives_verdict()
@mutating
def verify(planning: Planning, contact: str, code_from: str | None, expect: int) -> Iterator[Change]:
    """Request a lease as a customer's machine would, and explain the answer. A granted lease is recorded at the endpoint.

    Examples:
        opsctl lease verify jane@example.com
        opsctl lease verify jane@example.com --expect 403
    """
    from opsctl.changes.lease import TakeLease

    (id,) = naming.ids(planning.systems, [contact])
    yield TakeLease(contact=id, source=code_from, expect=expect, reads=_read_on_the_way(planning.systems))


def _read_on_the_way(systems: Systems) -> tuple[str, ...]:
    """The secrets that the endpoint's function and its authorizer read, as targets."""
    endpoint = systems.environment.lease
    read = {
        name
        for name, secret in systems.config.secrets.items()
        if secret.function == endpoint.authorizer or endpoint.function in secret.caches
    }
    return tuple(f"secret/{name}/AWSCURRENT" for name in sorted(read))
