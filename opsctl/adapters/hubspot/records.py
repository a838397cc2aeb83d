"""HubSpot's answers: contacts, their history, and results of batches.

Shapes: HubSpot, "CRM API: Contacts" (v3) and "Account information".
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import Struct

from opsctl.adapters.http.answers import moment
from opsctl.errors import ExternalError, OutcomeUnknown, Retry
from opsctl.redaction import clean_sentence

EMAIL, OTHER_EMAILS = "email", "hs_additional_emails"
COMPLETE, UNFINISHED = "COMPLETE", ("PENDING", "PROCESSING", "CANCELED")


@dataclass(frozen=True)
class PortalAccount:
    """The portal of a token; its daily limit resets at midnight in `time_zone`."""

    portal: int
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A value of a property since `at`; `source` is the kind of writer (`INTEGRATION`, `CRM_UI` ...)."""

    value: str
    at: datetime
    source: str


NO_HISTORY: Mapping[str, list[HistoryEntry]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class HubSpotContact:
    """A contact. An empty property is None; a history starts with the newest entry."""

    id: str
    email: str | None
    properties: dict[str, str | None] = field(repr=False)
    history: Mapping[str, list[HistoryEntry]] = field(default_factory=lambda: NO_HISTORY, repr=False)


class BatchReadResult(NamedTuple):
    """Contacts by id, and the ids that HubSpot didn't return: unknown, deleted or merged."""

    found: dict[str, HubSpotContact]
    missing: list[str]


class ResolvedContacts(NamedTuple):
    """Ids by e-mail, the unknown e-mails, and the e-mails of a contact that was already listed."""

    found: dict[str, str]
    missing: list[str]
    double: list[str]


class BatchUpdateResult(NamedTuple):
    """The updated ids, and the errors of the others."""

    done: list[str]
    errors: dict[str, str]


class Details(Struct, rename="camel"):
    """The account's details."""

    portal_id: int
    time_zone: str | None = None


class _Version(Struct, rename="camel"):
    value: str | int | float | bool | None
    timestamp: str
    source_type: str | None = None


class ContactRecord(Struct, rename="camel"):
    """A contact as HubSpot answers it."""

    id: str | int
    properties: dict[str, str | None]
    properties_with_history: dict[str, list[_Version]] | None = None


class BatchResponse(Struct):
    """What a batch that was read holds."""

    results: list[ContactRecord]
    status: Any = COMPLETE


class _Known(Struct):
    id: str | int | None = None


class _Refusal(Struct):
    category: Any = None
    message: Any = None
    context: dict[str, Any] | None = None


class BatchUpdateResponse(Struct):
    """How a batch that was sent went."""

    results: list[_Known]
    errors: list[_Refusal] | None = None
    status: Any = COMPLETE


def contact_of(found: ContactRecord, wanted: Collection[str]) -> HubSpotContact:
    """The contact in a record, with the wanted properties; raises Unreadable. Equal values are stored once."""
    key, given = str(found.id), found.properties
    properties = {name: _interned(given[name]) for name in wanted if name in given}
    history = {name: [_entry(each) for each in entries] for name, entries in (found.properties_with_history or {}).items()}
    return HubSpotContact(key, given.get(EMAIL), properties, history or NO_HISTORY)


def require_seen(found: HubSpotContact, wanted: Collection[str], history: Collection[str] = ()) -> None:
    """Raise ExternalError when a property is missing, or the history of one with a value.

    HubSpot silently omits properties that the portal doesn't define or the token may not read; they are not empty.
    """
    unseen = [name for name in wanted if name not in found.properties]
    if unseen:
        raise ExternalError(
            f"HubSpot returned no contact property {', '.join(unseen)}: the portal doesn't have it, or the token may not read it.",
            "Correct the name in [hubspot], or give the app the property's scope.",
        )
    untold = [name for name in history if found.properties.get(name) and not found.history.get(name)]
    if untold:
        raise ExternalError(f"HubSpot returned no history of {', '.join(untold)}, so the former value is unknown.", Retry())


def _interned(value: str | None) -> str | None:
    return value if value is None else sys.intern(value)


def _entry(found: _Version) -> HistoryEntry:
    return HistoryEntry(str(found.value), moment(found.timestamp), found.source_type or "")


def unfinished(status: Any) -> str | None:
    """The status of a batch that is not complete; its results don't count yet."""
    if status in (None, COMPLETE):
        return None
    return str(status) if status in UNFINISHED else "an unknown status"


def results_of(found: BatchResponse) -> list[ContactRecord]:
    """The records of a batch that was read."""
    if status := unfinished(found.status):
        raise ExternalError(f"HubSpot did not complete the batch: its status is {status}.", Retry("Wait a minute"))
    return found.results


def outcome_of(found: BatchUpdateResponse, ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The result of an update: each error has its ids; HubSpot silently omits some ids."""
    answered = {str(each.id) for each in found.results}
    reasons: dict[str, str] = {}
    for error in found.errors or ():
        named = (error.context or {}).get("ids")
        for key in named if isinstance(named, list) else ():
            reasons[str(key)] = f"{clean_sentence(error.category or 'refused')[:-1]}: {clean_sentence(error.message or '')[:-1]}"
    if (status := unfinished(found.status)) and set(ids) - answered - set(reasons):
        raise OutcomeUnknown(
            f"HubSpot accepted the update of {len(ids)} contacts with status {status}: it may change some of them later.",
            Retry(),
        )
    silent = "HubSpot skipped it and gave no reason: it was probably merged into another contact, or deleted."
    return [key for key in ids if key in answered], {key: reasons.get(key, silent) for key in ids if key not in answered}
