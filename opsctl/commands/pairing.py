"""`opsctl pairing`: mint and revoke the tokens with which customers' machines are paired."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from opsctl import fingerprints
from opsctl.cli import contacts as naming
from opsctl.cli.app import group
from opsctl.cli.command import mutating, requires
from opsctl.contract import Change, Planning

if TYPE_CHECKING:
    from opsctl.systems import Systems

pairing = group("pairing")


class FingerprintType(click.ParamType[str]):
    """A token's fingerprint, as `downloads show` names it."""

    name = "fingerprint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises a usage error for anything else, since a mistyped one would pass for a token that is gone already."""
        if not re.fullmatch(fingerprints.PATTERN, value):
            self.fail("expected what `opsctl downloads show CONTACT` calls token, such as 1a2b3c-0123456789ab.", param, ctx)
        return str(value)


FINGERPRINT = FingerprintType()


@pairing.command()
@requires("hubspot:contacts.read", changes="end-token-request mint-token")
@click.argument("contacts", nargs=-1, required=True, type=naming.CONTACT, metavar="CONTACT...")
@click.option(
    "--via",
    type=click.Choice(["property", "webhook"]),
    default="property",
    show_default=True,
    help="How to request it: set the HubSpot property, or send a signed webhook event.",
)
@mutating
def mint(planning: Planning, contacts: tuple[str, ...], via: str) -> Iterator[Change]:
    """Create a new pairing code for contacts; the former code stops working.

    Examples:
        opsctl pairing mint jane@example.com -n
        opsctl pairing mint jane@example.com --via webhook
    """
    from opsctl.changes.tokens import EndTokenRequest, MintToken

    for pinned in pins(planning.systems, contacts):
        if via == "property":
            yield EndTokenRequest(**pinned)
            yield MintToken(**pinned)
        else:
            yield MintToken(**pinned, event=random.getrandbits(48), at=planning.now)


@pairing.command()
@requires("hubspot:contacts.read", changes="mint-token revoke-token")
@click.argument("contacts", nargs=-1, required=True, type=naming.CONTACT, metavar="CONTACT...")
@click.option(
    "--if-token", type=FINGERPRINT, metavar="FINGERPRINT", help="Only if the code still has this fingerprint (see: downloads show)."
)
@mutating
def revoke(planning: Planning, contacts: tuple[str, ...], if_token: str | None) -> Iterator[Change]:
    """Revoke contacts' pairing codes; each contact gets a new code.

    Examples:
        opsctl pairing revoke jane@example.com
        opsctl pairing revoke jane@example.com -n
    """
    from opsctl.changes.tokens import MintToken, RevokeToken

    if if_token and len(contacts) > 1:
        raise click.UsageError("--if-token goes with one contact.")
    pinned_all = pins(planning.systems, contacts)
    for pinned in pinned_all:
        yield RevokeToken(**{**pinned, "before": if_token or pinned["before"]})
    for pinned in pinned_all:
        if pinned["before"] and (if_token is None or fingerprints.same(if_token, pinned["before"])):
            yield MintToken(**pinned)


def pins(systems: Systems, contacts: tuple[str, ...]) -> list[dict[str, Any]]:
    """What each contact's change rests on; an id that was merged away is the contact that lives on, once."""
    found = [pin(systems, contact) for contact in naming.ids(systems, contacts)]
    return list({pinned["contact"]: pinned for pinned in found}.values())


def pin(systems: Systems, contact: str) -> dict[str, Any]:
    """What a change to a contact's token rests on: its fingerprint now, and the newest write of the request."""
    from opsctl.changes.tokens import fingerprint

    settings = systems.environment.hubspot
    found = systems.hubspot.contact(contact, (settings.minted,), (settings.requested,))
    history = found.history.get(settings.requested, [])
    return {"contact": found.id, "before": fingerprint(found, systems), "seen": max((entry.at for entry in history), default=None)}
