"""HubSpot: the contacts and the account of one portal.

Shapes: HubSpot, "CRM API: Contacts" (v3) and "Account information". Search is never used: its index is updated late.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.http.answers import decoded
from opsctl.adapters.hubspot.http import HubSpotHttp
from opsctl.adapters.hubspot.records import (
    EMAIL,
    OTHER_EMAILS,
    BatchReadResult,
    BatchResponse,
    BatchUpdateResponse,
    BatchUpdateResult,
    ContactRecord,
    Details,
    HubSpotContact,
    PortalAccount,
    ResolvedContacts,
    contact_of,
    outcome_of,
    require_seen,
    results_of,
)
from opsctl.errors import ExternalError, OutcomeUnknown, WrongPlace
from opsctl.redaction import Secret, vault

if TYPE_CHECKING:
    import httpx

    from opsctl.adapters.access import Access
    from opsctl.adapters.hubspot.limiter import Limiter
    from opsctl.settings import HubSpotSettings

BATCH = 100
ACCOUNT = "/account-info/v3/details"


class HubSpot(Adapter):
    """One portal's contacts. Safe between threads.

    Before the first call the token's portal is compared with the environment's (WrongPlace). Raises Denied with the missing scope,
    CredentialsInvalid, NotFound, Throttled, ExternalError, and OutcomeUnknown for a write without an answer. `token` replaces the
    configured one, to verify a new one before it is stored.
    """

    def __init__(
        self, access: Access, settings: HubSpotSettings, limiter: Limiter, *, environment: str, token: Secret | None = None
    ) -> None:
        super().__init__(writing=access.writing)
        self._config, self._name = settings, environment
        self._read, self._update = f"{settings.contacts}/batch/read", f"{settings.contacts}/batch/update"
        self._http = HubSpotHttp(
            settings.base, access, token=token or access.resolve(settings.token), limiter=limiter, reading_posts=(self._read,)
        )
        self._proving = threading.Lock()
        self._account: PortalAccount | None = None

    def account(self) -> PortalAccount:
        """The account of the token, whichever portal it is."""
        found = self._http.read(self._http.call("GET", ACCOUNT, "the account's details"), Details)
        account = PortalAccount(found.portal_id, found.time_zone or "UTC")
        self._http.time_zone = account.time_zone
        return account

    def verify_portal(self) -> PortalAccount:
        """Raise WrongPlace unless the token is for the environment's portal; cached."""
        with self._proving:
            if self._account is None:
                found = self.account()
                if found.portal != self._config.portal:
                    ours = f"{self._name} is portal {self._config.portal}"
                    raise WrongPlace(
                        f"The HubSpot token is for portal {found.portal}, but {ours}.",
                        f"Check {self._config.token}, and portal in [hubspot].",
                    )
                self._account = found
        return self._account

    def contact(self, id_or_email: str, properties: Sequence[str] = (), history: Sequence[str] = ()) -> HubSpotContact:
        """One contact by record id or e-mail, with the `history` of some properties; raises NotFound.

        The id of a merged contact returns the contact that it was merged into. Raises ExternalError for a missing property.
        """
        self.verify_portal()
        by_email = "@" in id_or_email
        params = {"properties": ",".join(dict.fromkeys((EMAIL, *properties)))}
        if history:
            params["propertiesWithHistory"] = ",".join(history)
        if by_email:
            params["idProperty"] = EMAIL
        answer = self._http.call("GET", self._path(id_or_email), f"contact {id_or_email}", params=params)
        found = self._contact(answer, properties)
        require_seen(found, properties, history)
        return found

    def read(self, ids: Iterable[str], properties: Sequence[str] = ()) -> BatchReadResult:
        """Contacts by record id, a hundred per call, without duplicates.

        Raises ExternalError for a missing property.
        """
        wanted = list(dict.fromkeys(ids))
        found: dict[str, HubSpotContact] = {}
        for some in _batches(wanted):
            found |= {contact.id: contact for contact in self._batch(some, properties, {})}
        for contact in found.values():
            require_seen(contact, properties)
        return BatchReadResult({key: found[key] for key in wanted if key in found}, [key for key in wanted if key not in found])

    def resolve(self, emails: Iterable[str]) -> ResolvedContacts:
        """Record ids by e-mail, a hundred per call, ignoring case; secondary e-mails match too."""
        asked: dict[str, str] = {}
        double = []
        for email in emails:
            if _fold_case(email) in asked:
                double.append(email)
            else:
                asked[_fold_case(email)] = email
        return self._resolved(asked, double)

    @writes
    def update(self, changes: Mapping[str, Mapping[str, str]]) -> BatchUpdateResult:
        """Set properties of contacts by record id, a hundred per call; an empty text clears one.

        `errors` has the contacts that HubSpot refused or silently skipped. Raises ExternalError when the first call failed completely.
        """
        self.verify_portal()
        done: list[str] = []
        errors: dict[str, str] = {}
        for ids in _batches(list(changes)):
            inputs = [{"id": key, "properties": dict(changes[key])} for key in ids]
            try:
                answer = self._http.call("POST", self._update, f"the update of {len(ids)} contacts", json={"inputs": inputs})
            except ExternalError as failed:
                if not done:
                    raise
                # An error of this call does not undo the calls before it.
                raise OutcomeUnknown(f"{failed.what} {len(done)} contacts had been updated before that.", failed.next) from failed
            answered, refused = outcome_of(self._http.read(answer, BatchUpdateResponse, effect=True), ids)
            done += answered
            errors |= refused
        return BatchUpdateResult(done, errors)

    @writes
    def set(self, id: str, properties: Mapping[str, str]) -> HubSpotContact:
        """Set properties of one contact and return their new values; raises NotFound."""
        self.verify_portal()
        answer = self._http.call("PATCH", self._path(id), f"the change of contact {id}", json={"properties": dict(properties)})
        return self._contact(answer, properties, effect=True)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _path(self, id_or_email: str) -> str:
        return f"{self._config.contacts}/{quote(id_or_email, safe='')}"

    def _batch(self, keys: Sequence[str], properties: Sequence[str], how: Mapping[str, Any]) -> list[HubSpotContact]:
        self.verify_portal()
        body = {"inputs": [{"id": key} for key in keys], "properties": list(dict.fromkeys((EMAIL, *properties))), **how}
        answer = self._http.call("POST", self._read, f"{len(keys)} contacts", json=body)
        with self._http.reading():
            return [self._hide_tokens(contact_of(each, properties)) for each in results_of(decoded(answer.content, BatchResponse))]

    def _contact(self, answer: httpx.Response, properties: Collection[str], *, effect: bool = False) -> HubSpotContact:
        with self._http.reading(effect=effect):
            return self._hide_tokens(contact_of(decoded(answer.content, ContactRecord), properties))

    def _hide_tokens(self, contact: HubSpotContact) -> HubSpotContact:
        """The same contact; its pairing tokens are registered as secrets."""
        minted = self._config.minted
        for token in (contact.properties.get(minted), *(entry.value for entry in contact.history.get(minted, ()))):
            if token:
                vault.remember(token.encode())
        return contact

    def _resolved(self, asked: Mapping[str, str], double: list[str]) -> ResolvedContacts:
        ids: dict[str, str] = {}
        for some in _batches(list(asked)):
            for contact in self._batch(some, (OTHER_EMAILS,), {"idProperty": EMAIL}):
                others = (contact.properties.get(OTHER_EMAILS) or "").split(";")
                ids |= {_fold_case(email): contact.id for email in (contact.email or "", *others) if email}
        found: dict[str, str] = {}
        known: set[str] = set()
        for folded, email in asked.items():
            if folded in ids and ids[folded] in known:
                double.append(email)
            elif folded in ids:
                found[email] = ids[folded]
                known.add(ids[folded])
        return ResolvedContacts(found, [email for folded, email in asked.items() if folded not in ids], double)


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[first : first + BATCH] for first in range(0, len(keys), BATCH))


def _fold_case(email: str) -> str:
    return email.strip().lower()
