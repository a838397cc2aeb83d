"""Changes that notify people, or ask them to do something."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from opsctl.changes import raw
from opsctl.contract import Change, Done, Evidence, Finding, Irreversible, OutcomeKnownBy, Pending
from opsctl.errors import ExternalError, Retry
from opsctl.permissions import Permissions, needs
from opsctl.shell import Each, File, Filled, Program, Put, Question, Stop, Variable, When, joined, piped, run

if TYPE_CHECKING:
    from opsctl.adapters.http.notifiers import StatusIncident
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Command, Statement
    from opsctl.systems import Systems


class Ask(Change, frozen=True, kw_only=True):
    """A person has done what opsctl can't do here, and confirms it."""

    outcome_known_by: ClassVar[OutcomeKnownBy] = "idempotency_key"
    proven_by_history: ClassVar[bool] = True
    summary_template: ClassVar[str] = "ask: {question}"
    irreversible: ClassVar[str] = "a person does this by hand"

    question: str
    choices: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """`question/DIGEST`."""
        return f"question/{hashlib.sha256(self.question.encode()).hexdigest()[:8]}"

    def check(self, read: Systems) -> Finding:
        """Pending: the result can't be queried."""
        return Pending(1, "people")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Asks on the terminal. Raises InputRequired without one."""
        answer = write.person.choose(self.question, self.choices or ("done",), Retry("Run it in a terminal, to answer"))
        return {"answer": answer, "assumed": write.person.assume}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The same question."""
        return [Question(line=self.question, choices=self.choices or ("done",))]


class PostSlack(Change, frozen=True, kw_only=True):
    """A message is in the configured Slack channel. The webhook returns no state, so the message is never sent twice."""

    permissions: ClassVar[Permissions] = needs(apply="slack")
    outcome_known_by: ClassVar[OutcomeKnownBy] = "nothing"
    target_template: ClassVar[str] = "slack"
    proven_by_history: ClassVar[bool] = True
    summary_template: ClassVar[str] = "post to Slack: {text}"
    irreversible: ClassVar[str] = "people may have read it; post a correction"

    text: str

    def check(self, read: Systems) -> Finding:
        """Pending: the channel can't be queried."""
        return Pending(1, "messages")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One POST."""
        write.slack.post(self.text)
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The webhook command; its address is the secret."""
        reference, hook, option = environment.settings.channels.slack, File("webhook"), File("address")
        if reference is None:
            return [Stop(why="[channels] configures no slack.")]
        post = raw.curl("POST", None, "-K", option, body=json.dumps({"text": self.text}))
        return [*raw.credential(environment, reference, hook), run(ADDRESS, stdin=hook, output=option), post]


class SetPage(Change, frozen=True, kw_only=True):
    """The pager's alert `key` is triggered or resolved. Sending it again is harmless, because of PagerDuty's dedup_key."""

    permissions: ClassVar[Permissions] = needs(apply="pagerduty")
    outcome_known_by: ClassVar[OutcomeKnownBy] = "idempotency_key"
    target_template: ClassVar[str] = "page/{key}"
    proven_by_history: ClassVar[bool] = True
    summary_template: ClassVar[str] = "{action} the pager: {text}"

    text: str
    severity: Literal["critical", "error", "warning", "info"] = "critical"
    key: str
    action: Literal["trigger", "resolve"] = "trigger"

    def check(self, read: Systems) -> Finding:
        """Pending: the pager can't be queried."""
        return Pending(1, "alerts")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One event."""
        if self.action == "trigger":
            write.pagerduty.trigger(self.text, self.severity, self.key)
        else:
            write.pagerduty.resolve(self.key)
        return {"dedup_key": self.key}

    def inverse(self) -> Change | Irreversible:
        """Resolves what was triggered."""
        if self.action != "trigger":
            return Irreversible("a resolved alert is triggered again only by its cause")
        return SetPage(text=self.text, severity=self.severity, key=self.key, action="resolve")

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Events API command."""
        payload = {"summary": self.text[:1024], "source": f"opsctl {environment.name}", "severity": self.severity}
        event = {"event_action": self.action, "dedup_key": self.key}
        return page(environment, {**event, "payload": payload} if self.action == "trigger" else event)


class StatusChange(Change, frozen=True, kw_only=True):
    """An update `text` on the status page's incidents called `title`. They are listed first, because there is no idempotency key."""

    target_template: ClassVar[str] = "status-page/{title}"

    title: str
    text: str

    def _incidents(self, systems: Systems) -> TitledIncidents:
        """The incidents with this title, without maintenances. Raises ExternalError if one of them can't be judged."""
        found = systems.statuspage.incidents()
        named = [incident for incident in found if incident.name == self.title]
        for incident in named:
            if incident.problem:
                raise ExternalError(
                    f"It is unknown whether the incident {incident.id} with that title is open: {incident.problem}.",
                    "Check the status page: resolve the incident there, or choose another title.",
                )
        named = [incident for incident in named if incident.open or incident.over]
        return TitledIncidents(named, sum(not incident.name for incident in found))


class TitledIncidents(NamedTuple):
    """The incidents with one title, and how many incidents of the page have no readable title."""

    incidents: list[StatusIncident]
    nameless: int

    @property
    def note(self) -> str:
        """A note on what subscribers get, and on incidents that couldn't be judged."""
        unread = f"; {self.nameless} of the page's incidents can't be read; one of them may have this title" if self.nameless else ""
        return f"subscribers are notified{unread}"

    @property
    def open(self) -> list[StatusIncident]:
        """The open incidents."""
        return [incident for incident in self.incidents if incident.open]

    @property
    def meant(self) -> list[StatusIncident]:
        """The open incidents, or else the one with the newest update; newest update first."""
        newest = sorted(self.incidents, key=lambda incident: incident.said_at, reverse=True)
        return [incident for incident in newest if incident.open] or newest[:1]


class PostStatus(StatusChange, frozen=True, kw_only=True):
    """The newest update of the incident `title` is `status` and `text`; on an open incident, if there is one."""

    permissions: ClassVar[Permissions] = needs(check="statuspage", apply="statuspage")
    summary_template: ClassVar[str] = "post {status} to the status page: {title}"

    status: Literal["investigating", "identified", "monitoring", "resolved"]

    def difference(self) -> tuple[Any, Any]:
        """The status."""
        return None, self.status

    def check(self, read: Systems) -> Finding:
        """Lists the page's incidents."""
        named = self._incidents(read)
        for newest in named.meant[:1]:
            # The page may collapse white space.
            if newest.status == self.status and newest.body.split() == self.text.split():
                return Done(f"incident {newest.id} has status {self.status} and this text")
        return Pending(1, "notices", named.note)

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One POST, or a PATCH of the existing incident; several only to resolve all open ones."""
        meant = self._incidents(write).meant
        if self.status != "resolved":
            meant = [incident for incident in meant if incident.open][:1]
        updated = [write.statuspage.update(incident.id, self.status, self.text) for incident in meant]
        return {"incident": (updated or [write.statuspage.post(self.title, self.status, self.text)])[0].id}

    def inverse(self) -> Change | Irreversible:
        """Resolves the incident."""
        if self.status == "resolved":
            return Irreversible("subscribers were notified; post a correction")
        return EndStatus(title=self.title, text=f"Resolved: {self.text}")

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Statuspage command: the existing incident, or a new one."""
        post = _statuspage(environment, "POST", name=self.title, status=self.status, body=self.text)
        goes_on = Each(variable="id", file=MEANT, statements=(_statuspage(environment, "PATCH", status=self.status, body=self.text),))
        return [*_listed(environment, self.title, self.status), When(test=Filled(file=MEANT), then=(goes_on,), otherwise=(post,))]


class EndStatus(StatusChange, frozen=True, kw_only=True):
    """No incident `title` is open on the status page; open ones get `text` as their last update."""

    permissions: ClassVar[Permissions] = needs(check="statuspage", apply="statuspage")
    summary_template: ClassVar[str] = "resolve the incident on the status page: {title}"
    irreversible: ClassVar[str] = "subscribers were notified; post a correction"

    def difference(self) -> tuple[Any, Any]:
        """The status."""
        return None, "resolved"

    def check(self, read: Systems) -> Finding:
        """Lists the page's incidents."""
        named = self._incidents(read)
        if named.open:
            return Pending(len(named.open), "notices", named.note)
        if named.nameless:
            raise ExternalError(
                f"No incident {self.title!r} is open among the readable ones; {named.nameless} can't be read.", "Check the status page."
            )
        return Done(f"no incident {self.title!r} is open")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """A PATCH of each; there is rarely more than one."""
        meant = [incident.id for incident in self._incidents(write).open]
        return {"incidents": [write.statuspage.update(id, "resolved", self.text).id for id in meant]}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Statuspage command for each open incident."""
        end = _statuspage(environment, "PATCH", status="resolved", body=self.text)
        return [*_listed(environment, self.title, "open"), Each(variable="id", file=MEANT, statements=(end,))]


def page(environment: Environment, event: dict[str, Any]) -> list[Statement]:
    """The statements that send an event to the pager."""
    channels, key, body, whole = environment.settings.channels, File("routing-key"), File("event"), File("whole")
    if channels.page is None:
        return [Stop(why="[channels] configures no page.")]
    return [
        *raw.credential(environment, channels.page, key),
        Put(file=body, words=(json.dumps(event),)),
        run(raw.SET_MEMBER, body, "routing_key", key, output=whole),
        raw.curl("POST", f"{channels.page_base}/v2/enqueue", body=whole),
    ]


HEADER, MEANT = File("status-header"), File("meant")

ADDRESS = Program(
    "address_option",
    r"""
import sys
address = sys.stdin.read()
if not address.isprintable():
    sys.exit("the address holds a control character")
print('url = "' + address.replace("\\", "\\\\").replace('"', '\\"') + '"')
""",
)
"""Writes an address as curl's own configuration has it."""

INCIDENTS = Program(
    "incidents",
    """
import json, sys
title, status = sys.argv[1:]
def said(incident):
    return max([update["created_at"] for update in incident["incident_updates"]], default=incident["created_at"])
known = sorted((i for i in json.load(sys.stdin) if i["name"] == title), key=said, reverse=True)
begun = [i for i in known if i["status"] not in ("resolved", "postmortem")]
meant = begun if status in ("resolved", "open") else begun[:1]
for incident in meant or (known[:1] if status == "resolved" else []):
    print(incident["id"])
""",
)
"""Writes the ids of a title's incidents that a status is for; with `open`, of all that are open."""


def _listed(environment: Environment, title: str, status: str) -> list[Statement]:
    channels, key = environment.settings.channels, File("status-key")
    if channels.status_key is None or channels.status_page is None:
        return [Stop(why="[channels] configures no status page.")]
    url = f"{channels.status_base}/v1/pages{raw.path(channels.status_page)}/incidents?limit=100"
    return [
        *raw.credential(environment, channels.status_key, key),
        *raw.bearer(key, HEADER, word="Authorization: OAuth "),
        piped(raw.curl("GET", url, headers=[HEADER]), run(INCIDENTS, title, status), output=MEANT),
    ]


def _statuspage(environment: Environment, method: str, **incident: str) -> Command:
    """Creates an incident, or with PATCH updates the one whose id is in the variable `id`."""
    channels = environment.settings.channels
    url = f"{channels.status_base}/v1/pages{raw.path(channels.status_page or '')}/incidents"
    which = joined(url, "/", Variable("id")) if method == "PATCH" else url
    return raw.curl(method, which, headers=[HEADER], body=json.dumps({"incident": incident}))
