"""What HubSpot's answers hold: contacts, their history, and how a batch went.

Shapes: HubSpot, "CRM API: Contacts" (v3) and "Account information".
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from opsctl.errors import OutcomeUnknown, SystemFailed

EMAIL, OTHER_EMAILS = "email", "hs_additional_emails"
COMPLETE, UNFINISHED = "COMPLETE", ("PENDING", "PROCESSING", "CANCELED")
CONVERSE = "Look at base and contacts in [hubspot]."


@dataclass(frozen=True)
class Account:
    """The portal that a token is for; its day ends at midnight in `time_zone`."""

    portal: int
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A value that a property had from `at` on; `source` is what kind of writer set it (`INTEGRATION`, `CRM_UI` ...)."""

    value: str
    at: datetime
    source: str


NO_HISTORY: Mapping[str, list[HistoryEntry]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Contact:
    """A record. A property that is empty is None, one that HubSpot doesn't define is left out; a history begins with the newest.

    `merged_from` is the id that was asked for where that record was merged into this one.
    """

    id: str
    email: str | None
    properties: dict[str, str | None] = field(repr=False)
    history: Mapping[str, list[HistoryEntry]] = field(default_factory=lambda: NO_HISTORY, repr=False)
    merged_from: str | None = None


class Read(NamedTuple):
    """Contacts by id, and the ids that HubSpot didn't answer: unknown, deleted or merged away."""

    found: dict[str, Contact]
    missing: list[str]


class Resolved(NamedTuple):
    """Ids by e-mail as it was asked for, the e-mails of nobody, and those of a contact that was named already."""

    found: dict[str, str]
    missing: list[str]
    double: list[str]


class Updated(NamedTuple):
    """The ids that were updated, and why each of the others wasn't."""

    done: list[str]
    errors: dict[str, str]


def contact_of(found: Any, wanted: Collection[str], asked: str | None = None, *, effect: bool = False) -> Contact:
    """A record that was answered where the id `asked` was named, with the properties that were wanted.

    One that can't be read is a doubt after an `effect`. Of a hundred thousand contacts few values differ, so that each is kept once.
    """
    try:
        key, given = str(found["id"]), dict(found["properties"])
        properties = {name: _kept(given[name]) for name in wanted if name in given}
        history = {name: [_entry(each) for each in entries] for name, entries in (found.get("propertiesWithHistory") or {}).items()}
    except (KeyError, TypeError, ValueError):
        if effect:
            raise OutcomeUnknown("HubSpot said yes in words that can't be read.", "Look at the contact in HubSpot.") from None
        raise SystemFailed("HubSpot sent a contact that can't be read.", CONVERSE) from None
    return Contact(key, given.get(EMAIL), properties, history or NO_HISTORY, asked if asked not in (None, key) else None)


def _kept(value: str | None) -> str | None:
    return value if value is None else sys.intern(value)


def _entry(found: Mapping[str, Any]) -> HistoryEntry:
    at = datetime.fromisoformat(found["timestamp"]).astimezone(UTC)
    return HistoryEntry(str(found["value"]), at, str(found.get("sourceType") or ""))


def unfinished(found: Mapping[str, Any]) -> str | None:
    """The status of a batch that HubSpot took and hasn't completed: its results are of no account yet."""
    status = found.get("status")
    if status in (None, COMPLETE):
        return None
    return status if status in UNFINISHED else "an unknown status"


def results_of(found: Mapping[str, Any]) -> list[Any]:
    """The records of a batch that was read."""
    if status := unfinished(found):
        raise SystemFailed(f"HubSpot hasn't read the batch to its end: it answered {status}.", "Run it again in a minute.")
    results = found.get("results")
    if not isinstance(results, list):
        raise SystemFailed("HubSpot answered a batch without results.", CONVERSE)
    return results


def outcome_of(found: Mapping[str, Any], ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Who was updated and who wasn't: each error object names its ids, and some ids are left out without a word."""
    results = found.get("results")
    if not isinstance(results, list):
        raise OutcomeUnknown("HubSpot answered an update without results.", "Resume the run, which looks first: opsctl runs resume ID")
    answered = {str(each.get("id")) for each in results if isinstance(each, dict)}
    told: dict[str, str] = {}
    for error in found.get("errors") or ():
        for key in (error.get("context") or {}).get("ids") or ():
            told[str(key)] = f"{error.get('category') or 'refused'}: {' '.join(str(error.get('message') or '').split())}"
    if (status := unfinished(found)) and set(ids) - answered - set(told):
        raise OutcomeUnknown(
            f"HubSpot took the update of {len(ids)} contacts and answered {status}, so that some may be changed later.",
            "Resume the run, which looks first: opsctl runs resume ID",
        )
    silent = "HubSpot left it out without a word: it was merged into another contact, or deleted."
    return [key for key in ids if key in answered], {key: told.get(key, silent) for key in ids if key not in answered}
