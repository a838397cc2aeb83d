"""Requests to the lease endpoint as a customer sends them. A granted lease is an effect, and is declared as a change."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from msgspec import Struct

from opsctl.changes import raw
from opsctl.contract import Change, Evidence, Finding, OutcomeKnownBy, Pending
from opsctl.errors import CheckFailed, ExternalError, NotFound, OutcomeUnknown
from opsctl.permissions import Permissions, needs
from opsctl.redaction import Secret
from opsctl.shell import File, Message, Variable, capture, expect, piped, run

if TYPE_CHECKING:
    from opsctl.adapters.aws.logs import LogLine
    from opsctl.adapters.http.lease import LeaseAnswer
    from opsctl.adapters.hubspot.records import HubSpotContact
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

LINES = 3
RECENT = timedelta(minutes=15)
SKEW = timedelta(seconds=5)
"""How far this machine's clock may be from the functions'."""
LOOKS, PAUSE = 10, 1.0
"""How often the answer's line is looked for, a second apart: CloudWatch shows it a little later."""


class Cause(Struct, frozen=True):
    """What a status means, and the next command."""

    why: str
    next: str


def cause(answer: LeaseAnswer, contact: str) -> Cause:
    """The cause and the next command for a status, from the runbook's table (HH, HTTP Response Codes; Verify a user report)."""
    match answer.status, answer.reason:
        case 200, _:
            return Cause("downloads work for this contact", "on the customer's machine: opsctl client doctor")
        case (401, _) | (403, "Forbidden"):
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
    """The lease endpoint has answered `expect` for a contact. `source` is where the code is; null means the contact's own token.

    `reads` are the other targets that affect the answer.
    """

    permissions: ClassVar[Permissions] = needs(check="hubspot:contacts.read", apply="hubspot:contacts.read lease logs:FilterLogEvents")
    outcome_known_by: ClassVar[OutcomeKnownBy] = "nothing"
    target_template: ClassVar[str] = "lease/{contact}"
    summary_template: ClassVar[str] = "request a lease as contact {contact}; if the request succeeds, a lease is granted"
    irreversible: ClassVar[str] = "a lease expires by itself"

    contact: str
    source: str | None = None
    expect: int = 200
    reads: tuple[str, ...] = ()

    @property
    def depends_on(self) -> frozenset[str]:
        """The contact, and the other targets that affect the answer."""
        return frozenset({f"contact/{self.contact}", *self.reads})

    @property
    def proven_by_history(self) -> bool:
        """True: an answer leaves no state, and a code from elsewhere may differ each time."""
        return self.source is None

    def check(self, read: Systems) -> Finding:
        """Reads the contact from HubSpot. With a code from elsewhere, a HubSpot outage doesn't stop the request."""
        try:
            return Pending(1, "leases", contact_summary(self._held(read), read))
        except NotFound:
            raise
        except ExternalError as failed:
            if self.source is None:
                raise
            return Pending(1, "leases", failed.what.rstrip("."))

    def _held(self, systems: Systems) -> HubSpotContact:
        settings = systems.environment.hubspot
        return systems.hubspot.contact(self.contact, (settings.enabled, settings.requested, settings.minted))

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Sends the request, maps its status, and finds its log line. Raises CheckFailed on an unexpected status."""
        given, held = self._code(write)
        code = given or Secret(f"{self.contact}-without-a-token")
        settings, began = write.environment.lease, write.now()
        try:
            answer = write.lease.take(code, write.resolve(settings.edge_auth))
        except OutcomeUnknown as lost:
            why = f"{lost.what} If a lease was granted, it expires by itself."
            raise CheckFailed(why, "opsctl logs query lease-errors") from lost
        found = cause(answer, self.contact)
        lines, missing = logged(write, answer, self.contact, began)
        answered = ". ".join(
            [f"{answer.status}{f' {answer.reason}' if answer.reason else ''}: {found.why}", *lines[-1:], *filter(None, [missing]), held]
        )
        if answer.status != self.expect:
            raise CheckFailed(f"The lease endpoint answered {answered}. Expected: {self.expect}.", self.way(answer, found))
        if doubt := self.unproven(answer, coded=given is not None, missing=missing):
            raise CheckFailed(f"The lease endpoint answered {answered}. This verifies nothing: {doubt}.", found.next)
        earlier = seen(write, self.contact, began - RECENT, began)
        # An expected refusal needs no next command: the cause's command would give access again.
        why = answered if self.expect == 403 else f"{answered}. Next: {found.next}"
        log = lines or [missing]
        return {"status": answer.status, "reason": answer.reason, "why": why, "log": log, "earlier": earlier, "contact": held}

    def way(self, answer: LeaseAnswer, found: Cause) -> str:
        """What to type after an unexpected answer."""
        if self.expect == 403 and answer.status == 200:
            return f"opsctl downloads disable {self.contact} (or for the pairing code alone: opsctl pairing revoke {self.contact})"
        return found.next

    def unproven(self, answer: LeaseAnswer, *, coded: bool, missing: str) -> str:
        """Why the expected 403 doesn't show that the code is refused; empty if it does. `coded`: there was a code to send."""
        if self.expect != 403:
            return ""
        if answer.at_gateway:
            return "it was refused before it reached the function"
        if answer.reason == "invalid-token" and not coded:
            return f"contact {self.contact} has no pairing code, so the request was made with an invalid one"
        return "without its log line it is unknown what refused it" if missing else ""

    def _code(self, systems: Systems) -> tuple[Secret | None, str]:
        """The pairing code to send, None if there is none, and HubSpot's data on the contact."""
        if self.source:
            found = self.check(systems)
            return systems.values.read(self.source), found.note if isinstance(found, Pending) else ""
        held = self._held(systems)
        minted = held.properties.get(systems.environment.hubspot.minted)
        return Secret(minted) if minted else None, contact_summary(held, systems)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The same request, with the secrets in header files; an unexpected status ends the script."""
        lease, hubspot = environment.lease, environment.hubspot
        edge, code, headers = File("edge"), File("code"), [File("edge-header"), File("code-header")]
        url = f"{hubspot.base}{hubspot.contacts}{raw.path(self.contact)}?properties={quote(hubspot.minted, safe='')}"
        held = piped(raw.curl("GET", url, headers=[File("header")]), run(raw.ITS, "properties", hubspot.minted), output=code)
        find = [*raw.hubspot(environment, File("header")), held]
        ask = raw.curl("POST", lease.url, "-o", "/dev/null", "-w", "%{http_code}", headers=headers, body="{}", lenient=True)
        return [
            *raw.credential(environment, lease.edge_auth, edge),
            *(raw.value_of(self.source, "pairing code", code) if self.source else find),
            *raw.bearer(edge, headers[0], word="X-Edge-Auth: "),
            *raw.bearer(code, headers[1]),
            capture("status", ask),
            Message(line="The lease endpoint answered."),
            expect(Variable("status"), str(self.expect), f"The lease endpoint did not answer with status {self.expect}."),
        ]


def contact_summary(contact: HubSpotContact, systems: Systems) -> str:
    """A contact's properties on one line, with its token as a fingerprint."""
    settings = systems.environment.hubspot
    minted = contact.properties.get(settings.minted)
    token = f"fingerprint {systems.fingerprint(Secret(minted).raw())}" if minted else "none"
    plain = [f"{name} {contact.properties.get(name)}" for name in (settings.enabled, settings.requested)]
    return f"HubSpot: {', '.join(plain)}, {settings.minted} {token}"


def logged(systems: Systems, answer: LeaseAnswer, contact: str, began: datetime) -> tuple[list[str], str]:
    """The log lines of a request in its function or the authorizer, and why the decisive line is missing.

    Without the gateway's request id, the lines are searched by contact, so that no other contact's are used. A failure may come before
    the contact was known: then the newest line is returned, with a note that it may belong to another request.
    """
    lease, refused = systems.environment.lease, answer.at_gateway
    if refused and not answer.request:
        return [], "the answer contains no request id, so its log line can't be identified"
    function = lease.authorizer if refused else lease.function
    kind = "" if refused else {200: "lease_ok", 403: "lease_denied"}.get(answer.status, "lease_error")
    failed = kind == "lease_error"
    own = f'{{ $.type = "{kind}" }}' if failed else f'{{ $.type = "{kind}" && $.contactId = "{contact}" }}'
    pattern = f'"{answer.request}"' if answer.request else own
    lines: list[str] = []
    try:
        for look in range(LOOKS):
            if look:
                time.sleep(PAUSE)
            lines = _lines(systems, function, began - SKEW, pattern)
            if any(kind in line for line in lines):
                return lines, "" if answer.request or not failed else "that log line may belong to another request"
    except ExternalError as cause:
        return lines, cause.what.rstrip(".")
    return lines, f"the log of {function} contains no {kind or 'line'} of it yet"


def seen(systems: Systems, contact: str, since: datetime, until: datetime) -> list[str]:
    """The last lines of the lease function about the contact, up to a time: what the customer was answered."""
    function = systems.environment.lease.function
    try:
        lines = _log_lines(systems, function, since, f'{{ $.contactId = "{contact}" }}')
    except ExternalError as failed:
        return [failed.what.rstrip(".")]
    return [_log_text(line) for line in lines if line.at <= until][-LINES:]


def _lines(systems: Systems, function: str, since: datetime, pattern: str) -> list[str]:
    return [_log_text(line) for line in _log_lines(systems, function, since, pattern)]


def _log_lines(systems: Systems, function: str, since: datetime, pattern: str) -> list[LogLine]:
    settings = systems.environment.function(function)
    return systems.logs.recent(settings.log_group, since, 10 * LINES, pattern, settings.region)


def _log_text(line: LogLine) -> str:
    return f"{line.at:%H:%M:%S} {line.words}"
