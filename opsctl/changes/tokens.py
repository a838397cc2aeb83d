"""Changes to the pairing tokens of HubSpot contacts: mint, revoke, and the request that precedes a mint."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from opsctl import fingerprints
from opsctl.changes import raw
from opsctl.changes.contacts import FALSE, TRUE
from opsctl.changes.raw.hubspot import SIGNATURES
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, InProgress, Pending
from opsctl.errors import ExternalError
from opsctl.permissions import Permissions, needs
from opsctl.redaction import Secret
from opsctl.shell import Either, Equal, File, Forever, Put, Stop, Variable, capture, piped, run

if TYPE_CHECKING:
    from opsctl.adapters.hubspot.records import HubSpotContact
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.settings import HubSpotSettings
    from opsctl.shell import Command, Statement
    from opsctl.systems import Systems

SKEW = timedelta(minutes=5)
"""By how much the clocks of HubSpot, AWS and this machine may differ."""
LINES = 20
"""How many mints of one contact may have been logged meanwhile."""


class TokenChange(Change, frozen=True, kw_only=True):
    """A change to one contact's pairing token, known by its fingerprint; `seen` is the request's newest write, by HubSpot's clock."""

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"before", "seen"})
    poll: ClassVar[float] = 1
    read_lag: ClassVar[float] = 5
    timeout: ClassVar[float] = 120
    target_template: ClassVar[str] = "contact/{contact}"
    proven_by_history: ClassVar[bool] = True

    contact: str
    before: str | None
    seen: datetime | None = None

    def _held(self, systems: Systems) -> HubSpotContact:
        settings = systems.environment.hubspot
        wanted = (settings.enabled, settings.requested, settings.minted)
        return systems.hubspot.contact(self.contact, wanted, (settings.requested, settings.minted))

    def _asked(self, held: HubSpotContact, settings: HubSpotSettings) -> datetime | None:
        """When the request was last set to `true` since the plan was made; None if it wasn't."""
        history = held.history.get(settings.requested, [])
        return max((e.at for e in history if e.value == TRUE and (self.seen is None or e.at > self.seen)), default=None)

    def _minted(self, held: HubSpotContact, systems: Systems) -> str | None:
        """The fingerprint of a token other than the one in the plan; None if there is none."""
        now = fingerprint(held, systems)
        return None if now is None or fingerprints.same(now, self.before) else now


class EndTokenRequest(TokenChange, frozen=True, kw_only=True):
    """The token request is off, so that turning it on is a property change that HubSpot sends to the webhook."""

    permissions: ClassVar[Permissions] = needs(check="hubspot:contacts.read", apply="hubspot:contacts.write")
    target_template: ClassVar[str] = "contact/{contact}/request"
    summary_template: ClassVar[str] = "clear the token request of contact {contact}, so that the next change can set it"
    irreversible: ClassVar[str] = "the next change sets the request again"

    def difference(self) -> tuple[Any, Any]:
        """The request's values."""
        return TRUE, FALSE

    def check(self, read: Systems) -> Finding:
        """Reads the request and its history. A request that was set again, or answered, is never turned off."""
        settings = read.environment.hubspot
        held = self._held(read)
        if held.properties.get(settings.requested) != TRUE:
            return Done("the token request is cleared")
        if self._asked(held, settings):
            return Done("the token request was set since the plan")
        if minted := self._minted(held, read):
            return Done(f"the token is now {minted}")
        return Pending(1, "contacts")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One PATCH."""
        write.hubspot.set(self.contact, {write.environment.hubspot.requested: FALSE})
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The same PATCH."""
        header = File("header")
        off = {environment.hubspot.requested: FALSE}
        return [*raw.hubspot(environment, header), _patch(environment, self.contact, off, header)]


class MintToken(TokenChange, frozen=True, kw_only=True):
    """The contact's token is no longer the one with fingerprint `before`.

    It is requested by the property, or by a signed event with the id `event` and the occurrence time `at`.
    """

    permissions: ClassVar[Permissions] = needs(
        check="hubspot:contacts.read logs:FilterLogEvents",
        apply="hubspot:contacts.write hubspot:webhook",
    )
    volatile_fields: ClassVar[frozenset[str]] = TokenChange.volatile_fields | {"event", "at"}
    irreversible: ClassVar[str] = "the former token is replaced, and HubSpot keeps no reliable copy of it"

    event: int | None = None
    at: datetime | None = None

    @property
    def depends_on(self) -> frozenset[str]:
        """The request, which must be off first."""
        return frozenset() if self.event else frozenset({f"contact/{self.contact}/request"})

    @property
    def summary(self) -> str:
        """Which contact, and how."""
        return f"mint a token for contact {self.contact}{' by a signed webhook event' if self.event else ''}"

    def difference(self) -> tuple[Any, Any]:
        """The former fingerprint, and that another one follows."""
        return self.before, "another"

    def check(self, read: Systems) -> Finding:
        """Reads the token; once a token was requested, waits for it."""
        settings = read.environment.hubspot
        held = self._held(read)
        asked = self.at if self.event else self._asked(held, settings)
        if minted := self._minted(held, read):
            return self._confirmed(read, held, minted, asked)
        if self.event is None and asked:
            return InProgress("requested; waiting for the webhook to mint the token")
        off = held.properties.get(settings.enabled) == FALSE
        return Pending(1, "tokens", f"downloads are disabled for contact {self.contact}: the token won't work" if off else "")

    def _confirmed(self, read: Systems, held: HubSpotContact, minted: str, asked: datetime | None) -> Finding:
        """Done once the webhook's log confirms the mint: another token alone doesn't show who minted it."""
        if asked is None:
            return Done(f"the token is now {minted}: somebody else changed it, and no token was requested")
        confirmation = logged(read, held, asked)
        if confirmation is None:
            return InProgress(f"the token is now {minted}; waiting for its minted_token line in the webhook's log")
        return Done(f"the token is now {minted}{confirmation}")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One PATCH, or one signed event, which the webhook processes once for each id."""
        if self.event is None:
            write.hubspot.set(self.contact, {write.environment.hubspot.requested: TRUE})
        else:
            write.webhook.send(self.contact, write.environment.hubspot.requested, TRUE, event=self.event, at=self.at)
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's commands (HH, Mint), until there is another token."""
        settings = environment.hubspot
        header = File("header")
        look = raw.curl("GET", f"{_contact(settings, self.contact)}?properties={quote(settings.minted, safe='')}", headers=[header])
        held = piped(look, run(raw.ITS, "properties", settings.minted))
        ask = [_patch(environment, self.contact, {settings.requested: TRUE}, header)]
        another = (Equal(one=Variable("now"), other=Variable("former"), differ=True), Equal(one=Variable("now"), other="", differ=True))
        return [
            *raw.hubspot(environment, header),
            capture("former", held),
            *(self._signed(environment) if self.event else ask),
            Forever(
                statements=(capture("now", held),),
                until=Either(tests=another, together=True),
                seconds=int(self.timeout),
                otherwise=f"The webhook minted no token for contact {self.contact}.",
            ),
        ]

    def _signed(self, environment: Environment) -> list[Statement]:
        """The event as HubSpot would send it, signed with the app's secret. The secret itself is not sent."""
        settings = environment.hubspot
        if settings.webhook is None or settings.app_secret is None:
            return [Stop(why="The configuration sets no webhook or no app-secret.")]
        event = {
            "eventId": self.event,
            "subscriptionId": settings.subscription_id,
            "portalId": settings.portal,
            "appId": settings.app_id,
            "occurredAt": round(self.at.timestamp() * 1000) if self.at else 0,
            "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0,
            "objectId": int(self.contact),
            "propertyName": settings.requested,
            "propertyValue": TRUE,
            "changeSource": "CRM_UI",
            "sourceId": "opsctl",
        }
        secret, body, headers = File("app-secret"), File("event"), File("signatures")
        return [
            *raw.credential(environment, settings.app_secret, secret),
            Put(file=body, words=(json.dumps([event]),)),
            run(SIGNATURES, settings.webhook, secret, body, output=headers),
            raw.curl("POST", settings.webhook, headers=[headers], body=body),
        ]


class RevokeToken(TokenChange, frozen=True, kw_only=True):
    """The contact's token is no longer the one with fingerprint `before`: it is cleared, and the request is turned off."""

    permissions: ClassVar[Permissions] = needs(check="hubspot:contacts.read", apply="hubspot:contacts.write")
    irreversible: ClassVar[str] = "the old token can't be restored; mint a new one"

    @property
    def summary(self) -> str:
        """Which contact, and which token."""
        which = f" {self.before}" if self.before else ""
        return f"revoke the pairing code{which} of contact {self.contact}"

    def difference(self) -> tuple[Any, Any]:
        """The token's fingerprint."""
        return self.before, None

    def check(self, read: Systems) -> Finding:
        """Compares the fingerprint. Another token is not enough: the history has to show that the revoked token was this contact's."""
        held = self._held(read)
        now = fingerprint(held, read)
        if now is not None and fingerprints.same(now, self.before):
            return Pending(1, "tokens", "the customer's pairing code stops working at once")
        if self.before is None:
            return Done("there was no token" if now else "there is no token")
        if not self._was_held(held, read):
            here = f"the token is {now}" if now else "there is no token"
            return Drifted(f"{here}, and {self.before} is not among the earlier tokens that HubSpot lists for this contact")
        return Done(f"the token is {now}, no longer {self.before}" if now else "that token is deleted")

    def _was_held(self, held: HubSpotContact, read: Systems) -> bool:
        former = held.history.get(read.environment.hubspot.minted, [])
        return any(fingerprints.same(token_fingerprint(read, entry.value), self.before) for entry in former if entry.value)

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One PATCH that also turns the request off: HubSpot doesn't notify the webhook about a request that is already on."""
        write.hubspot.set(self.contact, _cleared(write.environment.hubspot))
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The first half of the runbook's command (HH, Revoke a pairing code); minting again is the second."""
        header = File("header")
        return [*raw.hubspot(environment, header), _patch(environment, self.contact, _cleared(environment.hubspot), header)]


def fingerprint(contact: HubSpotContact, systems: Systems) -> str | None:
    """The keyed fingerprint of a contact's token; None without one."""
    minted = contact.properties.get(systems.environment.hubspot.minted)
    return token_fingerprint(systems, minted) if minted else None


def token_fingerprint(systems: Systems, value: str) -> str:
    """The keyed fingerprint of a pairing token."""
    return systems.fingerprint(Secret(value).raw())


def logged(systems: Systems, contact: HubSpotContact, asked: datetime) -> str | None:
    """When the webhook logged `minted_token` with the contact's token, in words; None if it hasn't yet.

    For a log that can't be read, the error in words. The token is never shown, and it isn't part of the log query.
    """
    function = next((f for name, f in systems.config.functions.items() if "webhook" in name), None)
    token = contact.properties.get(systems.environment.hubspot.minted)
    if function is None or not token:
        return ""
    try:
        lines = systems.logs.recent(function.log_group, asked - SKEW, LINES, f'"minted_token {contact.id}"', function.region)
    except ExternalError as failed:
        return f"; its log could not be read: {failed.what}"
    at = next((line.at for line in reversed(lines) if token in line.message), None)
    return f"; minted_token was logged {at:%Y-%m-%d %H:%M:%S} UTC" if at else None


def _cleared(settings: HubSpotSettings) -> dict[str, str]:
    return {settings.minted: "", settings.requested: FALSE}


def _patch(environment: Environment, contact: str, properties: dict[str, str], header: File) -> Command:
    body = json.dumps({"properties": properties})
    return raw.curl("PATCH", _contact(environment.hubspot, contact), headers=[header], body=body)


def _contact(settings: HubSpotSettings, contact: str) -> str:
    return f"{settings.base}{settings.contacts}{raw.path(contact)}"
