"""Changes that tell people something, or ask them to do it."""

from __future__ import annotations

import hashlib
import json
import shlex
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from opsctl.changes.base import Change, Done, Evidence, Finding, Never, Pending, Telling
from opsctl.errors import SystemFailed

if TYPE_CHECKING:
    from opsctl.adapters.notices import StatusIncident
    from opsctl.config import Environment
    from opsctl.systems import Systems


class Ask(Change, frozen=True, kw_only=True):
    """A person has done what opsctl can't do here, and says so."""

    telling: ClassVar[Telling] = "token"

    question: str
    choices: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """`question/DIGEST`."""
        return f"question/{hashlib.sha256(self.question.encode()).hexdigest()[:8]}"

    @property
    def remembered(self) -> bool:
        """Only the answer tells."""
        return True

    @property
    def summary(self) -> str:
        """The question."""
        return f"ask: {self.question}"

    def check(self, read: Systems) -> Finding:
        """Nothing can tell."""
        return Pending(1, "people")

    def apply(self, write: Systems, token: str) -> Evidence:
        """Ask on the terminal; Waiting when nobody is there."""
        answer = write.person.choose(self.question, self.choices or ("done",), "Answer at a terminal: opsctl runs resume ID")
        return {"answer": answer, "assumed": write.person.assume}

    def inverse(self) -> Never:
        """None."""
        return Never("a person did it")

    def as_shell(self, environment: Environment) -> list[str]:
        """A reminder."""
        return [f"# by hand: {self.question}"]


class PostSlack(Change, frozen=True, kw_only=True):
    """A message is in the configured Slack channel. Its webhook tells nothing back, so it is never sent twice."""

    telling: ClassVar[Telling] = "blind"

    text: str

    @property
    def target(self) -> str:
        """`slack`."""
        return "slack"

    @property
    def remembered(self) -> bool:
        """The channel can't be read."""
        return True

    @property
    def summary(self) -> str:
        """The message."""
        return f"post to Slack: {self.text}"

    def check(self, read: Systems) -> Finding:
        """Nothing can tell."""
        return Pending(1, "messages")

    def apply(self, write: Systems, token: str) -> Evidence:
        """One POST."""
        write.slack.post(self.text)
        return {}

    def inverse(self) -> Never:
        """None."""
        return Never("people have read it; post a correction")

    def as_shell(self, environment: Environment) -> list[str]:
        """The webhook's line."""
        return [f"curl -fsS -X POST \"$SLACK_WEBHOOK\" -H 'Content-Type: application/json' -d {_json(text=self.text)}"]


class SetPage(Change, frozen=True, kw_only=True):
    """The pager's alert `key` is triggered or resolved. PagerDuty's dedup_key makes sending it again harmless."""

    telling: ClassVar[Telling] = "token"

    text: str
    severity: Literal["critical", "error", "warning", "info"] = "critical"
    key: str
    action: Literal["trigger", "resolve"] = "trigger"

    @property
    def target(self) -> str:
        """`page/KEY`."""
        return f"page/{self.key}"

    @property
    def remembered(self) -> bool:
        """The Events API can't be read."""
        return True

    @property
    def summary(self) -> str:
        """What is sent."""
        return f"{self.action} the pager: {self.text}"

    def check(self, read: Systems) -> Finding:
        """Nothing can tell."""
        return Pending(1, "alerts")

    def apply(self, write: Systems, token: str) -> Evidence:
        """One event."""
        if self.action == "trigger":
            write.pagerduty.trigger(self.text, self.severity, self.key)
        else:
            write.pagerduty.resolve(self.key)
        return {"dedup_key": self.key}

    def inverse(self) -> Change | Never:
        """Resolve what was triggered."""
        if self.action != "trigger":
            return Never("an alert that was resolved is triggered by its cause alone")
        return SetPage(text=self.text, severity=self.severity, key=self.key, action="resolve")

    def as_shell(self, environment: Environment) -> list[str]:
        """The Events API's line."""
        base = environment.settings.channels.page_base
        payload = {"summary": self.text, "source": "opsctl", "severity": self.severity}
        body = json.dumps({"routing_key": "ROUTING_KEY", "event_action": self.action, "dedup_key": self.key, "payload": payload})
        return [f"curl -fsS -X POST {base}/v2/enqueue -H 'Content-Type: application/json' -d {shlex.quote(body)}"]


class StatusChange(Change, frozen=True, kw_only=True):
    """A word on the incidents `title` of the status page, which says `text`; listed first, since there is no idempotency key."""

    title: str
    text: str

    @property
    def target(self) -> str:
        """`status-page/TITLE`."""
        return f"status-page/{self.title}"

    def _named(self, systems: Systems) -> Named:
        """The incidents of this title; raises SystemFailed where one of them can't be judged. A maintenance is no incident."""
        found = systems.statuspage.incidents()
        named = [incident for incident in found if incident.name == self.title]
        for incident in named:
            if incident.problem:
                raise SystemFailed(
                    f"Nobody knows whether the incident {incident.id} of that title is open: {incident.problem}.",
                    "Look at the status page, and end it there or choose another title.",
                )
        named = [incident for incident in named if incident.open or incident.over]
        return Named(named, sum(not incident.name for incident in found))


class Named(NamedTuple):
    """The incidents of one title, and how many of the page's have no title that can be read."""

    incidents: list[StatusIncident]
    nameless: int

    @property
    def told(self) -> str:
        """What the people who subscribed notice, and what of the page couldn't be judged."""
        unread = f"; {self.nameless} of the page's incidents can't be read, and one may have this title" if self.nameless else ""
        return f"subscribers are told{unread}"

    @property
    def open(self) -> list[StatusIncident]:
        """Those that go on."""
        return [incident for incident in self.incidents if incident.open]

    @property
    def meant(self) -> list[StatusIncident]:
        """Those that go on, or the one of which something was said last; the newest word first."""
        newest = sorted(self.incidents, key=lambda incident: incident.said_at, reverse=True)
        return [incident for incident in newest if incident.open] or newest[:1]


class PostStatus(StatusChange, frozen=True, kw_only=True):
    """The status page's newest word on the incident `title` is `status` and `text`; of an open one, as long as there is any."""

    status: Literal["investigating", "identified", "monitoring", "resolved"]

    @property
    def summary(self) -> str:
        """What is posted."""
        return f"post {self.status} to the status page: {self.title}"

    def difference(self) -> tuple[Any, Any]:
        """The status."""
        return None, self.status

    def check(self, read: Systems) -> Finding:
        """List the page's incidents."""
        named = self._named(read)
        for newest in named.meant[:1]:
            # The page may fold white space.
            if newest.status == self.status and newest.body.split() == self.text.split():
                return Done(f"incident {newest.id} says {self.status}, in these words")
        return Pending(1, "notices", named.told)

    def apply(self, write: Systems, token: str) -> Evidence:
        """One POST, or a PATCH of the incident that is there; several of them only to resolve all that are open."""
        meant = self._named(write).meant
        if self.status != "resolved":
            meant = [incident for incident in meant if incident.open][:1]
        told = [write.statuspage.update(incident.id, self.status, self.text) for incident in meant]
        return {"incident": (told or [write.statuspage.post(self.title, self.status, self.text)])[0].id}

    def inverse(self) -> Change | Never:
        """Resolve it."""
        if self.status == "resolved":
            return Never("subscribers were told; post a correction")
        return EndStatus(title=self.title, text=f"Resolved: {self.text}")

    def as_shell(self, environment: Environment) -> list[str]:
        """Statuspage's line."""
        return [_statuspage(environment, "POST", name=self.title, status=self.status, body=self.text)]


class EndStatus(StatusChange, frozen=True, kw_only=True):
    """No incident `title` is open on the status page; those that are get `text` as their last word."""

    @property
    def summary(self) -> str:
        """What is resolved."""
        return f"resolve on the status page: {self.title}"

    def difference(self) -> tuple[Any, Any]:
        """The status."""
        return None, "resolved"

    def check(self, read: Systems) -> Finding:
        """List the page's incidents."""
        named = self._named(read)
        if named.open:
            return Pending(len(named.open), "notices", named.told)
        if named.nameless:
            raise SystemFailed(
                f"No incident {self.title!r} is open among those that can be read; {named.nameless} can't be.", "Look at the status page."
            )
        return Done(f"no incident {self.title!r} is open")

    def apply(self, write: Systems, token: str) -> Evidence:
        """A PATCH of each, and there is hardly ever more than one."""
        meant = [incident.id for incident in self._named(write).open]
        return {"incidents": [write.statuspage.update(id, "resolved", self.text).id for id in meant]}

    def inverse(self) -> Never:
        """None."""
        return Never("subscribers were told; post a correction")

    def as_shell(self, environment: Environment) -> list[str]:
        """Statuspage's line; the list of the page's incidents has the id."""
        return [_statuspage(environment, "PATCH", "/INCIDENT", status="resolved", body=self.text)]


def _statuspage(environment: Environment, method: str, which: str = "", **incident: str) -> str:
    channels = environment.settings.channels
    url = f"{channels.status_base}/v1/pages/{channels.status_page}/incidents{which}"
    auth = '-H "Authorization: OAuth $STATUSPAGE_KEY"'
    return f"curl -fsS -X {method} {url} {auth} -H 'Content-Type: application/json' -d {_json(incident=incident)}"


def _json(**fields: Any) -> str:
    return shlex.quote(json.dumps(fields))
