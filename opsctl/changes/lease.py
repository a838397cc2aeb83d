"""Asking the lease endpoint as a customer does: a lease that it grants is an effect, and is declared as one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct

from opsctl.changes.base import Change, Evidence, Finding, Never, Pending, Telling
from opsctl.errors import CheckFailed, SystemFailed
from opsctl.redaction import Secret, vault

if TYPE_CHECKING:
    from opsctl.adapters.hubspot import Contact
    from opsctl.adapters.lease import LeaseAnswer
    from opsctl.config import Environment
    from opsctl.systems import Systems

LINES = 3
RECENT = timedelta(minutes=15)


class Cause(Struct, frozen=True):
    """What a status means, and the command that comes next."""

    why: str
    next: str


def cause(answer: LeaseAnswer, contact: str) -> Cause:
    """The runbook's table (HH, HTTP Response Codes; Verify a user report) as a cause and the next command."""
    match answer.status, answer.reason:
        case 200, _:
            return Cause("downloads work for this contact", "Ask the customer to run: hh login; then see: opsctl client doctor ({contact})")
        case 401, _:
            return Cause("X-Edge-Auth is missing or wrong: the client is misconfigured, or the secret was rotated", "opsctl client doctor")
        case 403, "disabled":
            return Cause("the checkbox is No: download_enabled is false", f"opsctl downloads enable {contact}")
        case 403, _:
            return Cause("the pairing code is wrong, expired or revoked", f"opsctl pairing mint {contact}")
        case 502, _:
            return Cause("HubSpot answered the function with an error", "opsctl secrets verify hubspot-token")
        case _:
            return Cause("the function failed", "opsctl logs query lease-errors")


class TakeLease(Change, frozen=True, kw_only=True):
    """The lease endpoint has answered for a contact; `source` is where the pairing code is, the contact's own token when null."""

    telling: ClassVar[Telling] = "token"

    contact: str
    source: str | None = None
    expect: int | None = None

    @property
    def target(self) -> str:
        """`lease/CONTACT`."""
        return f"lease/{self.contact}"

    @property
    def remembered(self) -> bool:
        """An answer leaves no state."""
        return True

    @property
    def summary(self) -> str:
        """Says whose."""
        return f"ask the lease endpoint as contact {self.contact}; if it works, a lease is granted"

    def check(self, read: Systems) -> Finding:
        """Show what HubSpot has of the contact."""
        return Pending(1, "leases", told(self._held(read), read))

    def _held(self, systems: Systems) -> Contact:
        settings = systems.environment.need("hubspot")
        return systems.hubspot.contact(self.contact, (settings.enabled, settings.requested, settings.minted))

    def apply(self, write: Systems, token: str) -> Evidence:
        """Send the request and map its status; the log lines beside it. CheckFailed when another status was expected."""
        lease, hubspot = write.environment.need("lease"), write.environment.need("hubspot")
        held = self._held(write)
        code = write.values.read(self.source) if self.source else Secret(held.properties.get(hubspot.minted) or "no-token")
        began = write.now()
        answer = write.lease.take(code, write.resolve(lease.edge_auth))
        found = cause(answer, self.contact)
        why = f"{answer.status}{f' {answer.reason}' if answer.reason else ''}: {found.why}"
        if self.expect is not None and answer.status != self.expect:
            raise CheckFailed(f"The lease endpoint answered {why}; {self.expect} was expected.", found.next)
        lines = seen(write, held, began - RECENT, lease.authorizer if answer.status == 401 else lease.function)
        return {"status": answer.status, "why": f"{why}. Next: {found.next}", "log": lines, "contact": told(held, write)}

    def inverse(self) -> Never:
        """None."""
        return Never("a lease ends by itself")

    def as_shell(self, environment: Environment) -> list[str]:
        """The same request, the secrets by way of header files."""
        url = environment.need("lease").url
        return [f'curl -sS -X POST {url} -H @<(echo "X-Edge-Auth: $EDGE_AUTH") -H @<(echo "Authorization: Bearer $PAIRING_CODE")']


def told(contact: Contact, systems: Systems) -> str:
    """A contact's properties in a line; its token as a fingerprint."""
    settings = systems.environment.need("hubspot")
    minted = contact.properties.get(settings.minted)
    token = f"fingerprint {systems.memory.fingerprint(Secret(minted).raw())}" if minted else "none"
    plain = [f"{name} {contact.properties.get(name)}" for name in (settings.enabled, settings.requested)]
    return f"HubSpot: {', '.join(plain)}, {settings.minted} {token}"


def seen(systems: Systems, contact: Contact, since: datetime, function: str) -> list[str]:
    """The newest log lines of a function that speak of the contact; what can't be read is said."""
    settings = systems.environment.function(function)
    try:
        lines = systems.logs.recent(settings.log_group, since, LINES, pattern=_about(contact, function, systems), region=settings.region)
    except SystemFailed as failed:
        return [failed.what]
    return [f"{line.at:%H:%M:%S} {vault.redact(line.message)}" for line in lines]


def _about(contact: Contact, function: str, systems: Systems) -> str:
    """CloudWatch's pattern for the lines that name the contact; an authorizer doesn't know whom it turns away."""
    known = function == systems.environment.need("lease").function
    return f'{{ $.contactId = "{contact.id}" }}' if known else ""
