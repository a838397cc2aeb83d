"""`opsctl bounces`: mail that came back."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opsctl.changes.base import Change
from opsctl.changes.bounces import STDIN, CountNotifications, CountQueue, MarkAddress
from opsctl.cli import changes, group
from opsctl.config import state_folder
from opsctl.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from opsctl.systems import Systems

IDENTIFIER = re.compile(r"[\x21-\x7e]{1,256}")

bounces = group("bounces")


@bounces.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="[FILE|-]")
@click.option("--queue", is_flag=True, help="Take them from the SQS queue in the configuration, and delete what was counted.")
@click.option("--aside", type=click.Path(dir_okay=False, path_type=Path), help="Keep in this file what can't be read.")
@changes
def process(systems: Systems, file: str | None, queue: bool, aside: Path | None) -> Iterator[Change]:
    """Count SES's bounces and complaints from a file, standard input (-) or the queue, each once."""
    if queue == (file is not None):
        raise click.UsageError("Name a file, - for standard input, or --queue; one of them.")
    settings = systems.environment.need("bounces")
    if queue:
        if not settings.queue:
            raise ConfigurationError("[bounces] names no queue.", f"Add queue = NAME to it in {systems.environment.path}.")
        yield CountQueue(queue=settings.queue, region=settings.region, aside=_aside(aside, settings.queue))
        return
    pinned = systems.notifications.pin(file or STDIN)
    name = "stdin" if pinned.source == STDIN else Path(pinned.source).stem
    kept = _aside(aside, f"{name}-{pinned.digest[:12]}")
    if kept == pinned.source:
        raise click.UsageError("--aside is the file that is read; name another.")
    yield CountNotifications(source=pinned.source, digest=pinned.digest, size=pinned.size, aside=kept)


@bounces.command()
@click.argument("email")
@click.option("--hard", is_flag=True, help="The address doesn't exist: mark it as bounced.")
@click.option("--soft", is_flag=True, help="Mail came back for the time being: add one to the count.")
@click.option("--notification", required=True, metavar="ID", help="SES's feedbackId, so that it is counted once.")
@changes
def mark(systems: Systems, email: str, hard: bool, soft: bool, notification: str) -> Iterator[Change]:
    """Count one bounce of one address by hand, under its notification's id."""
    if hard == soft:
        raise click.UsageError("Say --hard or --soft; one of them.")
    if not IDENTIFIER.fullmatch(notification):
        raise click.UsageError("--notification is SES's feedbackId: up to 256 characters, none of them a space.")
    systems.environment.need("bounces")
    try:
        address = systems.notifications.address(email)
    except ValueError as cause:
        raise click.UsageError(f"{email!r} is no e-mail address.") from cause
    if ">" in email:
        raise click.UsageError("Give the bare address, without the name: the ledger keeps the command.")
    holders = systems.bounced.holders(address)
    if not holders:
        raise NotFound(f"No user has the address {address.recipient}; nothing was changed.", "Check the address; case doesn't matter.")
    before = tuple((each.id, each.status) for each in holders)
    yield MarkAddress(notification=notification, address=unicodedata.normalize("NFC", email.strip()), hard=hard, before=before)


def _aside(given: Path | None, name: str) -> str:
    """Where to keep what can't be read: in the state folder, unless somebody says otherwise."""
    if given is None:
        return str(state_folder().resolve() / f"aside-{name}.jsonl")
    if not given.resolve().parent.is_dir():
        raise ConfigurationError(f"There is no folder {given.resolve().parent} for --aside.", "Make it, or name another file.")
    return str(given.resolve())
