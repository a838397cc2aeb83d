"""The contacts of the HubSpot stand-in: their properties, with history, and what may be written to them.

Contact number N has record id FIRST + N and e-mail `contactN@example.com`. A few are seeded; the others are
created on first use, so that bulk changes can be tried on many.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opsctl.sandbox.web import iso

FIRST = 156855158284
SEEDED = 200
POPULATION = 100_000
AGE = 30 * 86_400
"""Seconds since which the seeded contacts have been as they are."""
CHECKBOXES = frozenset({"download_enabled", "download_requested"})
READ_ONLY = frozenset({"createdate", "hs_object_id", "lastmodifieddate"})
WRITABLE = CHECKBOXES | {"download_token", "email", "firstname", "lastname"}
ALWAYS_SHOWN = ("createdate", "hs_object_id", "lastmodifieddate")
SHOWN_UNASKED = ("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname")

_EMAIL = re.compile(r"contact(\d+)@example\.com")


class InvalidProperties(Exception):
    """Raised when a write is refused; `problems` are HubSpot's error objects, one a property."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(problem["message"] for problem in problems))
        self.problems = problems


class DuplicateEmail(Exception):
    """Raised where a new contact has the e-mail of another, whose id is `held_by`."""

    def __init__(self, held_by: str) -> None:
        super().__init__(held_by)
        self.held_by = held_by


class PropertyAuthor(NamedTuple):
    """Who wrote a value: HubSpot's source type and id (an app's number, `userId:N`), and the user where it was one."""

    type: str
    id: str
    user: int | None = None


IMPORT = PropertyAuthor("IMPORT", "sandbox")
APP = PropertyAuthor("INTEGRATION", "7906213")
PERSON = PropertyAuthor("CRM_UI", "userId:9586504", 9586504)


@dataclass(frozen=True, slots=True)
class PropertyValue:
    """One value that a property had, from `at` (epoch seconds) on."""

    text: str
    at: float
    author: PropertyAuthor

    def history(self) -> dict[str, Any]:
        """The entry of a property's history that HubSpot shows."""
        return {
            "value": self.text,
            "timestamp": iso(self.at),
            "sourceType": self.author.type,
            "sourceId": self.author.id,
            "sourceLabel": None,
            "updatedByUserId": self.author.user,
        }


@dataclass(slots=True)
class StoredContact:
    """One record. `written` holds the values of properties that were written since it began, oldest first."""

    id: str
    created: float
    written: dict[str, list[PropertyValue]] = field(default_factory=dict)

    def values(self, name: str) -> list[PropertyValue]:
        """The values of a property, oldest first."""
        if name in self.written:
            return self.written[name]
        # Created on each call: a hundred thousand of them would fill the memory.
        text = _seeded(self.id, self.created).get(name)
        return [] if text is None else [PropertyValue(text, self.created, IMPORT)]

    def value(self, name: str, at: float | None = None) -> str | None:
        """A property's value now, or as it was `at` a time; None where it is empty."""
        held = [value for value in self.values(name) if at is None or value.at <= at]
        return held[-1].text or None if held else None

    def shown(self, wanted: Iterable[str], with_history: Iterable[str] = ()) -> dict[str, Any]:
        """The record as HubSpot answers it: a property that is defined but empty is null, an undefined one left out."""
        names = {*(wanted or SHOWN_UNASKED), *ALWAYS_SHOWN} & (WRITABLE | READ_ONLY)
        body: dict[str, Any] = {
            "id": self.id,
            "properties": {name: self.value(name) for name in sorted(names)},
            "createdAt": iso(self.created),
            "updatedAt": self.value("lastmodifieddate"),
            "archived": False,
        }
        told = {name: [value.history() for value in reversed(self.values(name))] for name in with_history}
        return {**body, "propertiesWithHistory": told} if told else body


class PropertyWrite(NamedTuple):
    """A record after a write, and the names of the properties that it changed."""

    contact: StoredContact
    changed: tuple[str, ...]


class ContactStore:
    """All contacts of the portal. Safe between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._records: dict[str, StoredContact] = {}
        self._emails: dict[str, str] = {}
        self._merged: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Restore the seeded contacts."""
        with self._lock:
            for held in (self._records, self._emails, self._merged):
                held.clear()
            self._began = self._clock() - AGE
            self._next = FIRST + POPULATION
            for number in range(SEEDED):
                self._generate(str(FIRST + number))

    def all(self) -> list[StoredContact]:
        """The contacts that exist so far, by id."""
        with self._lock:
            return [self._records[record_id] for record_id in sorted(self._records)]

    def find(self, key: str, by_email: bool = False) -> StoredContact | None:
        """A contact by record id, or by e-mail; the one it was merged into where it was merged away."""
        with self._lock:
            record_id = self._id_of(key) if by_email else key
            while record_id in self._merged:
                record_id = self._merged[record_id]
            return self._records.get(record_id) or self._generate(record_id)

    def is_merged(self, id: str) -> bool:
        """Whether this record was merged into another one."""
        with self._lock:
            return id in self._merged

    def merge(self, loser: str, winner: str) -> None:
        """Merge one record into another; the loser's id and e-mail live on only as names for the winner.

        Raises KeyError where either isn't there, or both are one.
        """
        with self._lock:
            lost, won = self.find(loser), self.find(winner)
            if lost is None or won is None or lost.id == won.id:
                raise KeyError(loser)
            self._emails[(lost.value("email") or "").lower()] = won.id
            self._merged[lost.id] = won.id
            self._records.pop(lost.id)

    def create(self, properties: Mapping[str, Any], author: PropertyAuthor = APP) -> StoredContact:
        """Add a record. Raises DuplicateEmail, InvalidProperties."""
        check(properties)
        with self._lock:
            other = self.find(str(properties.get("email") or ""), by_email=True)
            if other is not None:
                raise DuplicateEmail(other.id)
            record_id, now = str(self._next), self._clock()
            self._next += 1
            fixed = {"createdate": iso(now), "hs_object_id": record_id, "lastmodifieddate": iso(now)}
            contact = StoredContact(record_id, now, {name: [PropertyValue(text, now, author)] for name, text in fixed.items()})
            self._records[record_id] = contact
            return self.write(record_id, properties, author).contact

    def write(self, id: str, properties: Mapping[str, Any], author: PropertyAuthor = APP) -> PropertyWrite:
        """Set properties of one record; an empty string clears one, an equal value adds no history.

        Raises InvalidProperties for an unknown or read-only property, a wrong value, or another contact's e-mail: then
        nothing is written.
        """
        check(properties)
        with self._lock:
            contact = self.find(id)
            if contact is None:
                raise KeyError(id)
            self._check_email(contact, properties.get("email"))
            now = self._clock()
            changed = tuple(name for name, text in properties.items() if (contact.value(name) or "") != text)
            if "email" in changed:
                self._emails.pop((contact.value("email") or "").lower(), None)
                self._emails[properties["email"].lower()] = contact.id
            for name in changed:
                contact.written[name] = [*contact.values(name), PropertyValue(properties[name], now, author)]
            contact.written["lastmodifieddate"] = [PropertyValue(iso(now), now, author)]
            return PropertyWrite(contact, changed)

    def _check_email(self, contact: StoredContact, email: str | None) -> None:
        other = self.find(email, by_email=True) if email else None
        if other is not None and other.id != contact.id:
            context = {"propertyName": ["email"], "existingObjectId": [other.id]}
            message = f'A contact with the email "{email}" already exists.'
            raise InvalidProperties([{"message": message, "code": "CONFLICTING_UNIQUE_VALUE", "context": context}])

    def _id_of(self, email: str) -> str:
        held = self._emails.get(email.lower())
        if held is not None:
            return held
        match = _EMAIL.fullmatch(email.lower())
        record_id = str(FIRST + int(match[1])) if match else ""
        # A contact whose e-mail was changed no longer answers to the generated one.
        changed = record_id in self._records and "email" in self._records[record_id].written
        return "" if changed else record_id

    def _generate(self, id: str) -> StoredContact | None:
        number = _number(id)
        if number is None or not 0 <= number < POPULATION or id in self._merged:
            return None
        contact = self._records[id] = StoredContact(id, self._began + number)
        return contact


def _seeded(id: str, created: float) -> dict[str, str]:
    number = _number(id)
    if number is None or number >= POPULATION:
        return {}
    enabled = number % 10 != 9
    return {
        "createdate": iso(created),
        "hs_object_id": id,
        "lastmodifieddate": iso(created),
        "email": f"contact{number}@example.com",
        "firstname": f"Contact {number}",
        "lastname": "Example",
        "download_enabled": str(enabled).lower(),
        "download_requested": str(enabled).lower(),
        "download_token": _token(id) if enabled else "",
    }


def check(properties: Mapping[str, Any]) -> None:
    """Raise InvalidProperties unless all of these may be written."""
    problems = [problem for name, text in properties.items() if (problem := _problem(name, text))]
    if problems:
        raise InvalidProperties(problems)


def _problem(name: str, text: Any) -> dict[str, Any] | None:
    context = {"propertyName": [name]}
    if name in READ_ONLY:
        return {"message": f'"{name}" is a read only property', "code": "READ_ONLY_VALUE", "context": context}
    if name not in WRITABLE:
        return {"message": f'Property "{name}" does not exist', "code": "PROPERTY_DOESNT_EXIST", "context": context}
    if not isinstance(text, str):
        return {"message": f'The value of "{name}" is not a string', "code": "INVALID_STRING", "context": context}
    if name in CHECKBOXES and text not in ("true", "false", ""):
        return {"message": f"{text} was not one of the allowed options", "code": "INVALID_OPTION", "context": context}
    return None


def _number(id: str) -> int | None:
    number = int(id) - FIRST if id.isascii() and id.isdecimal() and not id.startswith("0") else -1
    return number if number >= 0 else None


def _token(id: str) -> str:
    return f"{id}-{hashlib.sha256(f'seeded token of {id}'.encode()).hexdigest()[:32]}"
