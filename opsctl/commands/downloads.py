"""`opsctl downloads`: allow or stop a contact's downloads, for one contact or a hundred thousand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opsctl.cli import contacts as naming
from opsctl.cli.app import group
from opsctl.cli.command import mutating, read_only, requires
from opsctl.contract import Change, Planning
from opsctl.errors import ConfigurationError

if TYPE_CHECKING:
    from opsctl.systems import Systems

BATCH = 100

downloads = group("downloads")

F = TypeVar("F", bound=Callable[..., Any])


def named(command: F) -> F:
    """Give a command its contacts: as arguments, from a file, or both."""
    missing = click.option("--skip-missing", is_flag=True, help="Skip contacts that HubSpot doesn't know.")
    file = click.option(
        "--from-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file of ids or e-mails, one per line, or a CSV.",
    )
    return click.argument("contacts", nargs=-1, type=naming.CONTACT, metavar="CONTACT...")(file(missing(command)))


@downloads.command()
@requires("hubspot:contacts.read")
@click.argument("contact", type=naming.CONTACT)
@read_only
def show(systems: Systems, contact: str) -> dict[str, Any]:
    """Show whether a contact may download, and who changed that last. The pairing code is shown as a fingerprint.

    Examples:
        opsctl downloads show jane@example.com
    """
    from opsctl.changes.tokens import fingerprint

    settings = systems.environment.hubspot
    found = systems.hubspot.contact(contact, (settings.enabled, settings.requested, settings.minted), (settings.enabled,))
    last = max(found.history.get(settings.enabled, []), key=lambda entry: entry.at, default=None)
    return {
        "contact": found.id,
        "email": found.email,
        settings.enabled: found.properties.get(settings.enabled),
        settings.requested: found.properties.get(settings.requested),
        "token": fingerprint(found, systems) or "none",
        "decided": last.at if last else None,
        "by": last.source if last else None,
    }


@downloads.command()
@requires("hubspot:contacts.read", changes="set-contact-properties")
@named
@mutating
def disable(planning: Planning, contacts: tuple[str, ...], from_file: Path | None, skip_missing: bool) -> Iterator[Change]:
    """Stop contacts' downloads: the lease endpoint answers 403 from then on.

    Examples:
        opsctl downloads disable jane@example.com -n
        opsctl downloads disable --from-file contacts.csv --skip-missing
    """
    from opsctl.changes.contacts import FALSE

    yield from setting(planning.systems, FALSE, contacts, from_file, skip_missing)


@downloads.command()
@requires("hubspot:contacts.read", changes="set-contact-properties")
@named
@mutating
def enable(planning: Planning, contacts: tuple[str, ...], from_file: Path | None, skip_missing: bool) -> Iterator[Change]:
    """Allow contacts' downloads again.

    Examples:
        opsctl downloads enable jane@example.com
        opsctl downloads enable --from-file contacts.csv
    """
    from opsctl.changes.contacts import TRUE

    yield from setting(planning.systems, TRUE, contacts, from_file, skip_missing)


def setting(systems: Systems, after: str, contacts: tuple[str, ...], file: Path | None, skip_missing: bool) -> Iterator[Change]:
    """A change for each hundred contacts, with what each has now."""
    from opsctl.changes.contacts import SetContactProperties

    if not contacts and file is None:
        raise click.UsageError("Name at least one contact, or a file with --from-file.")
    enabled = systems.environment.hubspot.enabled
    ids = naming.ids(systems, [*contacts, *(naming.from_file(file) if file else [])], skip_missing=skip_missing)
    read, left_out = now(systems, enabled, ids)
    alive, missing = naming.resolve_merged(systems, left_out)
    if missing and not skip_missing:
        raise naming.unknown_contacts(missing)
    if len(missing) == len(ids):
        raise ConfigurationError("None of the contacts named is in HubSpot.", "Check the ids.")
    named = set(ids)
    merged, _ = now(systems, enabled, [id for id in dict.fromkeys(alive.values()) if id not in named])
    for found in (*read, *merged):
        if found:
            yield SetContactProperties(name=enabled, contacts=tuple((contact, before, after) for contact, before in found))


Found = list[tuple[str, str | None]]


def now(systems: Systems, name: str, ids: list[str]) -> tuple[list[Found], list[str]]:
    """What a property is for each contact, by hundreds, and whom HubSpot left out: some of them may have been merged into others."""
    batches = [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]
    with ThreadPoolExecutor(naming.AT_ONCE) as pool:
        read = list(pool.map(lambda batch: _batch(systems, name, batch), batches))
    return [found for found, _ in read], [contact for _, gone in read for contact in gone]


def _batch(systems: Systems, name: str, batch: list[str]) -> tuple[Found, list[str]]:
    """Of each contact what is needed and nothing else, as there may be many."""
    found, missing = systems.hubspot.read(batch, (name,))
    values = ((contact.id, contact.properties.get(name)) for contact in found.values())
    return [(contact, sys.intern(value) if value else None) for contact, value in values], missing
