"""The contacts of the HubSpot stand-in: their properties, with history, and what may be written to them.

Contact number N has record id FIRST + N and e-mail `contactN@example.com`. A few are seeded; the others of the
population come into being when first asked for, so that bulk work can be rehearsed on many.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opsctl.sandbox.web import iso

FIRST = 156855158284
SEEDED = 200
POPULATION = 100_000
CHECKBOXES = frozenset({"download_enabled", "download_requested"})
READ_ONLY = frozenset({"createdate", "hs_object_id", "lastmodifieddate"})
WRITABLE = CHECKBOXES | {"download_token", "email", "firstname", "lastname"}
ALWAYS_SHOWN = ("createdate", "hs_object_id", "lastmodifieddate")
SHOWN_UNASKED = ("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname")

_EMAIL = re.compile(r"contact(\d+)@example\.com")


class InvalidProperties(Exception):
    """Raised when a write is refused whole; `problems` are HubSpot's error objects, one a property."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(problem["message"] for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Value:
    """One value that a property had, from `at` (epoch seconds) on."""

    text: str
    at: float
    source: str

    def history(self) -> dict[str, Any]:
        """The entry of a property's history that HubSpot shows."""
        return {
            "value": self.text,
            "timestamp": iso(self.at),
            "sourceType": self.source,
            "sourceId": "sandbox",
            "sourceLabel": None,
            "updatedByUserId": None,
        }


@dataclass
class Contact:
    """One record. `values` holds each property's values, oldest first."""

    id: str
    created: float
    values: dict[str, list[Value]] = field(default_factory=dict)

    def value(self, name: str, at: float | None = None) -> str | None:
        """A property's value now, or as it was `at` a time; None where it is empty."""
        held = [value for value in self.values.get(name, []) if at is None or value.at <= at]
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
        told = {name: [value.history() for value in reversed(self.values.get(name, []))] for name in with_history}
        return {**body, "propertiesWithHistory": told} if told else body


class Contacts:
    """All contacts of the portal. Safe between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._records: dict[str, Contact] = {}
        self._emails: dict[str, str] = {}
        self._merged: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Put the seeded contacts back."""
        with self._lock:
            for held in (self._records, self._emails, self._merged):
                held.clear()
            for number in range(SEEDED):
                self._generate(number)

    def all(self) -> list[Contact]:
        """The contacts that exist so far, by id."""
        with self._lock:
            return [self._records[record_id] for record_id in sorted(self._records)]

    def find(self, key: str, by_email: bool = False) -> Contact | None:
        """A contact by record id, or by e-mail; the one it was merged into where it was merged away."""
        with self._lock:
            record_id = self._id_of(key) if by_email else key
            while record_id in self._merged:
                record_id = self._merged[record_id]
            return self._records.get(record_id) or self._generate(_number(record_id))

    def is_merged(self, id: str) -> bool:
        """Whether this record was merged into another one."""
        with self._lock:
            return id in self._merged

    def merge(self, loser: str, winner: str) -> None:
        """Merge one record into another; the loser's id lives on only as a name for the winner."""
        with self._lock:
            if self.find(loser) is None or self.find(winner) is None:
                raise KeyError(loser)
            self._merged[loser] = winner
            self._records.pop(loser)

    def write(self, id: str, properties: Mapping[str, Any], source: str = "INTEGRATION") -> Contact:
        """Set properties of one record; an empty string clears one, an equal value adds no history.

        Raises InvalidProperties for an unknown or read-only property or a wrong value: then nothing is written.
        """
        check(properties)
        with self._lock:
            contact = self.find(id)
            if contact is None:
                raise KeyError(id)
            now = self._clock()
            for name, text in properties.items():
                if (contact.value(name) or "") != text:
                    self._index(contact, name, text)
                    contact.values.setdefault(name, []).append(Value(text, now, source))
            contact.values["lastmodifieddate"] = [Value(iso(now), now, source)]
            return contact

    def _index(self, contact: Contact, name: str, text: str) -> None:
        if name == "email":
            self._emails.pop((contact.value("email") or "").lower(), None)
            self._emails[text.lower()] = contact.id

    def _id_of(self, email: str) -> str:
        held = self._emails.get(email.lower())
        if held is not None:
            return held
        match = _EMAIL.fullmatch(email.lower())
        record_id = str(FIRST + int(match[1])) if match else ""
        # A contact whose e-mail was changed no longer answers to the generated one.
        return "" if record_id in self._records else record_id

    def _generate(self, number: int | None) -> Contact | None:
        if number is None or not 0 <= number < POPULATION or str(FIRST + number) in self._merged:
            return None
        record_id, created = str(FIRST + number), self._clock()
        enabled = number % 10 != 9
        texts = {
            "createdate": iso(created),
            "hs_object_id": record_id,
            "lastmodifieddate": iso(created),
            "email": f"contact{number}@example.com",
            "firstname": f"Contact {number}",
            "lastname": "Example",
            "download_enabled": str(enabled).lower(),
            "download_requested": str(enabled).lower(),
            "download_token": _token(record_id) if enabled else "",
        }
        contact = Contact(record_id, created, {name: [Value(text, created, "IMPORT")] for name, text in texts.items()})
        self._records[record_id] = contact
        self._emails[texts["email"]] = record_id
        return contact


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
    return int(id) - FIRST if id.isascii() and id.isdecimal() else None


def _token(id: str) -> str:
    return f"{id}-{hashlib.sha256(f'seeded token of {id}'.encode()).hexdigest()[:32]}"
