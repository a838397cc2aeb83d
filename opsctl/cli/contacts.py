"""Naming HubSpot contacts: by record id or e-mail, on the command line or in a file of lines or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl import files
from opsctl.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from opsctl.systems import Systems

ID = re.compile(r"[0-9]{1,20}")
EMAIL = re.compile(r"[^@\s,;]++@[^@\s,;.]++(?:\.[^@\s,;.]++)++")
COLUMNS = ("id", "record id", "hs_object_id", "contact", "contactid", "contact_id", "email", "e-mail")
SHOWN = 5
ONE_PER_LINE = "Use a file with one id or e-mail per line, or a CSV."
MERGES = 100
AT_ONCE = 8


class ContactType(click.ParamType[str]):
    """A contact on the command line: a HubSpot record id or an e-mail address."""

    name = "contact"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value; raises a usage error if it is neither."""
        named = str(value).strip()
        if not (ID.fullmatch(named) or EMAIL.fullmatch(named)):
            self.fail(f"{value!r} is neither a record id nor an e-mail.", param, ctx)
        return named


CONTACT = ContactType()


def from_file(path: Path) -> list[str]:
    """The ids and e-mail addresses in a file: one per line, or a CSV with a column such as `id` or `email`. Skips blank and `#` lines.

    Raises ConfigurationError, which names the lines that are neither.
    """
    try:
        text = files.read(path, files.LARGEST_LIST, pipes=True).decode("utf-8-sig")
    except OSError as cause:
        raise ConfigurationError(f"{path} can't be read: {cause.strerror}.", ONE_PER_LINE) from cause
    except UnicodeDecodeError as cause:
        raise ConfigurationError(f"{path} can't be read as text: {cause}.", ONE_PER_LINE) from cause
    try:
        cells = list(_cells(text))
    except csv.Error as cause:
        raise ConfigurationError(f"{path} is not a valid CSV file: {cause}.", ONE_PER_LINE) from cause
    broken = [number for number, cell in cells if not (ID.fullmatch(cell) or EMAIL.fullmatch(cell))]
    if broken:
        lines = ", ".join(map(str, broken[:SHOWN]))
        more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise ConfigurationError(f"{path}: neither an id nor an e-mail in line {lines}{more}.", "Fix those lines.")
    if not cells:
        raise ConfigurationError(f"{path} contains no contact.", ONE_PER_LINE)
    return [cell for _, cell in cells]


def _cells(text: str) -> Iterator[tuple[int, str]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    column, first, line = 0, True, 1
    for row in reader:
        number, line = line, reader.line_num + 1
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        named = [place for place, cell in enumerate(cells) if cell.lower() in COLUMNS]
        if first and named:
            column = named[0]
        else:
            yield number, cells[column] if column < len(cells) else ""
        first = False


def ids(systems: Systems, contacts: Iterable[str], *, skip_missing: bool = False) -> list[str]:
    """The record ids of contacts named by id or e-mail, each once, in order. Raises NotFound, which names the unknown ones."""
    named = list(dict.fromkeys(contact.strip() for contact in contacts))
    emails = [contact for contact in named if "@" in contact]
    by_email: dict[str, str] = {}
    if emails:
        resolved = systems.hubspot.resolve(emails)
        alive, missing = resolve_merged(systems, resolved.missing)
        by_email = resolved.found | alive
        if missing and not skip_missing:
            raise unknown_contacts(missing)
    found = [by_email.get(contact, "") if "@" in contact else contact for contact in named]
    return list(dict.fromkeys(contact for contact in found if contact))


def resolve_merged(systems: Systems, missing: list[str]) -> tuple[dict[str, str], list[str]]:
    """The record ids of merged contacts among those missing in a batch answer, and the contacts that are really unknown.

    HubSpot resolves a merged contact only in a request for one contact. More than `MERGES` missing contacts mean a wrong list.
    """
    if not missing or len(missing) > MERGES:
        return {}, missing
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(missing, pool.map(lambda name: _merged_into(systems, name), missing), strict=True))
    return {name: id for name, id in found.items() if id}, [name for name, id in found.items() if not id]


def _merged_into(systems: Systems, name: str) -> str | None:
    try:
        return systems.hubspot.contact(name).id
    except NotFound:
        return None


def unknown_contacts(missing: list[str]) -> NotFound:
    """The error for contacts that HubSpot doesn't know."""
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    what = f"HubSpot knows no contact {', '.join(missing[:SHOWN])}{more}."
    return NotFound(what, "Check the id or the e-mail, or skip these with --skip-missing.")
