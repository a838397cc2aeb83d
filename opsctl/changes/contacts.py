"""Changes to the properties of HubSpot contacts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec.structs import replace

from opsctl.changes import raw
from opsctl.changes.raw.hubspot import UPDATE
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, Pending, Skipped
from opsctl.errors import DriftError, ExternalError, PartialFailure
from opsctl.permissions import Permissions, needs
from opsctl.shell import File, Filled, Must, Put, When, piped, run

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

SHOWN = 3
TRUE, FALSE = "true", "false"


class SetContactProperties(Change, frozen=True, kw_only=True):
    """A property of up to a hundred contacts has its `after` value; each contact's former value is kept.

    Undo sets `where_ours`: it skips contacts that somebody else has changed, merged or deleted since.
    """

    max_parallel: ClassVar[int] = 8
    read_lag: ClassVar[float] = 2
    timeout: ClassVar[float] = 60
    permissions: ClassVar[Permissions] = needs(check="hubspot:contacts.read", apply="hubspot:contacts.read hubspot:contacts.write")

    name: str
    contacts: tuple[tuple[str, str | None, str | None], ...]
    where_ours: bool = False

    @property
    def target(self) -> str:
        """`contact/ID`, or `contacts/FIRST..LAST` for several."""
        ids = [id for id, _, _ in self.contacts]
        return f"contact/{ids[0]}" if len(ids) == 1 else f"contacts/{ids[0]}..{ids[-1]}"

    @property
    def extra_locks(self) -> frozenset[str]:
        """Each contact."""
        return frozenset(f"contact/{id}" for id, _, _ in self.contacts)

    @property
    def summary(self) -> str:
        """The value, and for how many contacts."""
        values = sorted({after or "nothing" for _, _, after in self.contacts})
        whose = f"contact {self.contacts[0][0]}" if len(self.contacts) == 1 else f"{len(self.contacts)} contacts"
        return f"set {self.name} of {whose} to {' or '.join(values)}"

    def difference(self) -> tuple[Any, Any]:
        """The contact's values, if there is only one contact."""
        if len(self.contacts) > 1:
            return None, None
        _, before, after = self.contacts[0]
        return before, after

    def check(self, read: Systems) -> Finding:
        """Reads all contacts in one request."""
        todo, gone, moved = self._sort_contacts(read)
        count, left = len(self._part()), len(gone) + len(moved)
        if not self.where_ours and gone:
            return Drifted(f"deleted or merged since: {_first_ids(gone)}")
        if not self.where_ours and moved:
            return Drifted(self._theirs(moved))
        if left == count:
            return Skipped(f"{self.name} of {_first_ids([*gone, *moved])} was changed by somebody else since the plan")
        note = f"{left} skipped, because somebody else changed, merged or deleted them: {_first_ids([*gone, *moved])}" if left else ""
        if todo:
            return Pending(len(todo), "contacts", note)
        return Done(f"{self.name} has the wanted value for all {count - left}{note and '; '}{note}")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One batch update of the contacts that need it. A partial refusal by HubSpot raises an error that names the contacts."""
        todo, gone, moved = self._sort_contacts(write)
        if moved and not self.where_ours:
            raise DriftError(f"{self._theirs(moved)}. These contacts were not changed.", "Make a new plan: run the command again.")
        after = {id: {self.name: after or ""} for id, _, after in self.contacts}
        answer = write.hubspot.update({id: after[id] for id in (todo if self.where_ours else [*todo, *gone])})
        if answer.errors:
            why = next(iter(answer.errors.values()))
            changed = f"HubSpot changed {len(answer.done)} of {len(answer.done) + len(answer.errors)} contacts"
            refused, look = f"{changed}, and refused {_first_ids(list(answer.errors))}: {why}", "Check those contacts in HubSpot."
            raise PartialFailure(refused, look, parts=answer.done) if answer.done else ExternalError(refused, look)
        return {"updated": len(answer.done)}

    def inverse(self) -> SetContactProperties:
        """Restores each contact's former value, if this change set the present one."""
        back = tuple((id, after, before) for id, before, after in self.contacts)
        return SetContactProperties(name=self.name, contacts=back, where_ours=True)

    def restricted_to(self, parts: Sequence[str]) -> SetContactProperties:
        """The same change for `parts` only. An attempt without an answer names no contacts, so that all of them stay in the change."""
        if not {id for id, _, _ in self.contacts}.issuperset(parts):
            return self
        return replace(self, contacts=tuple(each for each in self.contacts if each[0] in parts))

    def _part(self) -> list[tuple[str, str | None, str | None]]:
        """The contacts that the change covers; on undo only those that were changed."""
        return [(id, before or None, after or None) for id, before, after in self.contacts if not self.where_ours or before != after]

    def _sort_contacts(self, systems: Systems) -> tuple[list[str], list[str], list[str]]:
        """Contacts to change, contacts that are gone, and contacts that somebody else has changed."""
        part = self._part()
        found, gone = systems.hubspot.read([id for id, _, _ in part], (self.name,))
        now = {id: contact.properties.get(self.name) or None for id, contact in found.items()}
        here = [each for each in part if each[0] in now]
        moved = [id for id, before, after in here if now[id] not in (before, after)]
        return [id for id, before, after in here if before == now[id] != after], gone, moved

    def _theirs(self, moved: list[str]) -> str:
        return f"{self.name} of {_first_ids(moved)} is neither the value in the plan nor the wanted one"

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (HH, Temporarily disable downloads), for all contacts at once, if they are as reviewed."""
        settings = environment.hubspot
        base, header, wanted, body = f"{settings.base}{settings.contacts}/batch", File("header"), File("wanted"), File("update")
        part = self._part()
        ask = {"inputs": [{"id": id} for id, _, _ in part], "properties": [self.name]}
        read = raw.curl("POST", f"{base}/read", headers=[header], body=json.dumps(ask))
        update = raw.curl("POST", f"{base}/update", headers=[header], body=body)
        return [
            *raw.hubspot(environment, header),
            Put(file=wanted, words=(json.dumps(part),)),
            piped(read, run(UPDATE, self.name, wanted, "where-ours" if self.where_ours else "as-reviewed"), output=body),
            When(
                test=Filled(file=body),
                then=(Must(test=piped(update, run(raw.IS, "status", "COMPLETE")), otherwise="HubSpot changed only some of the contacts."),),
            ),
        ]


def _first_ids(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{', '.join(ids[:SHOWN])}{more}"
