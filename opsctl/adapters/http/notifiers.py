"""Notifiers: Slack, PagerDuty and Statuspage.

Shapes: Slack "Incoming webhooks", PagerDuty "Events API v2", Statuspage "Incidents". A channel that isn't configured raises
ConfigurationError.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from msgspec import Struct

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.http.answers import Unreadable, convert, decoded, moment
from opsctl.adapters.http.client import Http
from opsctl.errors import ConfigurationError
from opsctl.redaction import Secret

if TYPE_CHECKING:
    from opsctl.adapters.access import Access
    from opsctl.settings import ChannelSettings, Reference

Severity = Literal["critical", "error", "warning", "info"]
Status = Literal["investigating", "identified", "monitoring", "resolved"]

OPEN = frozenset({"investigating", "identified", "monitoring"})
"""The statuses of an open incident."""
OVER = frozenset({"resolved", "postmortem"})
"""The statuses of a closed incident; `postmortem` is resolved, with a published report."""
MAINTENANCE = frozenset({"scheduled", "in_progress", "verifying", "completed"})
"""The statuses of a scheduled maintenance, which the same list contains."""

PAGE, PAGES = 100, 10
"""Incidents per page, and the maximum number of pages."""
EARLIEST = datetime.min.replace(tzinfo=UTC)


class _Enqueued(Struct):
    dedup_key: str | None = None


class _Update(Struct):
    created_at: str
    body: str | None = None


class _Incident(Struct):
    id: str
    name: str
    status: str
    created_at: str
    incident_updates: list[_Update]


@dataclass(frozen=True)
class StatusIncident:
    """An incident as the status page shows it; `body` is its newest update's text, `said_at` when that was posted.

    `status` is one of OPEN, OVER or MAINTENANCE. For an unreadable one, `problem` is the reason, and only id and name are set, if known.
    """

    id: str
    name: str
    status: str
    body: str
    created_at: datetime
    said_at: datetime
    problem: str = ""

    @property
    def open(self) -> bool:
        """Whether it goes on."""
        return self.status in OPEN

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in OVER


class Slack(Adapter):
    """An incoming webhook. It is not idempotent."""

    def __init__(self, access: Access, channels: ChannelSettings) -> None:
        super().__init__(writing=access.writing)
        url = access.resolve(_configured(channels.slack, "slack")).reveal()
        parts = urlsplit(url)
        # The path is the secret; registered alone, so that it is hidden without its host too.
        self._path = Secret(parts.path)
        self._http = Http(f"{parts.scheme}://{parts.netloc}", access, system="Slack", login="Create a new webhook URL and store it.")

    @writes
    def post(self, text: str) -> None:
        """Post a message; raises ExternalError for an archived channel or a webhook that is gone."""
        self._http.ask("POST", self._path.reveal(), json={"text": text})


class PagerDuty(Adapter):
    """A service's events, sent from the `environment`. The deduplication key makes each of them idempotent."""

    def __init__(self, access: Access, channels: ChannelSettings, environment: str) -> None:
        super().__init__(writing=access.writing)
        self._key = access.resolve(_configured(channels.page, "page"))
        self._source = f"opsctl {environment}"
        self._http = Http(channels.page_base, access, system="PagerDuty")

    @writes
    def trigger(self, summary: str, severity: Severity, dedup_key: str) -> str:
        """Page whoever is on call; returns the deduplication key."""
        payload = {"summary": summary[:1024], "source": self._source, "severity": severity}
        return self._send({"event_action": "trigger", "dedup_key": dedup_key, "payload": payload})

    @writes
    def acknowledge(self, dedup_key: str) -> str:
        """Acknowledge the event."""
        return self._send({"event_action": "acknowledge", "dedup_key": dedup_key})

    @writes
    def resolve(self, dedup_key: str) -> str:
        """Resolve the event."""
        return self._send({"event_action": "resolve", "dedup_key": dedup_key})

    def _send(self, event: dict[str, object]) -> str:
        body = {"routing_key": self._key.reveal(), **event}
        answer = self._http.ask("POST", "/v2/enqueue", json=body)
        return self._http.read(answer, _Enqueued, effect=True).dedup_key or str(event["dedup_key"])


class Statuspage(Adapter):
    """The public status page, which notifies subscribers. It is not idempotent: list before posting again."""

    def __init__(self, access: Access, channels: ChannelSettings) -> None:
        super().__init__(writing=access.writing)
        if channels.status_page is None:
            raise _missing("status-page")
        self._key = access.resolve(_configured(channels.status_key, "status-key"))
        self._incidents = f"/v1/pages/{quote(channels.status_page, safe='')}/incidents"
        self._http = Http(channels.status_base, access, system="Statuspage")

    def incidents(self) -> list[StatusIncident]:
        """The incidents and maintenances of the page, newest first; an unreadable one has a `problem`."""
        found: list[StatusIncident] = []
        for page in range(1, PAGES + 1):
            params = {"limit": str(PAGE), "page": str(page)}
            listed = self._http.read(self._http.ask("GET", self._incidents, headers=self._headers, params=params), list[Any])
            found += [_listed(each) for each in listed]
            if len(listed) < PAGE:
                break
        return found

    @writes
    def post(self, name: str, status: Status, body: str) -> StatusIncident:
        """Open an incident, which notifies the subscribers."""
        incident = {"name": name, "status": status, "body": body}
        answer = self._http.ask("POST", self._incidents, json={"incident": incident}, headers=self._headers)
        with self._http.reading(effect=True):
            return _incident(decoded(answer.content, _Incident))

    @writes
    def update(self, id: str, status: Status, body: str) -> StatusIncident:
        """Update or resolve an incident; raises NotFound."""
        path = f"{self._incidents}/{quote(id, safe='')}"
        incident = {"status": status, "body": body}
        answer = self._http.ask("PATCH", path, json={"incident": incident}, headers=self._headers)
        with self._http.reading(effect=True):
            return _incident(decoded(answer.content, _Incident))

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"OAuth {self._key.reveal()}"}


def _incident(found: _Incident) -> StatusIncident:
    created = moment(found.created_at)
    message = [(moment(update.created_at), update.body or "") for update in found.incident_updates]
    said_at, body = max(message, key=itemgetter(0), default=(created, ""))
    return StatusIncident(found.id, found.name, found.status, body, created, said_at)


def _listed(found: Any) -> StatusIncident:
    """The incident; an unreadable one has a `problem`."""
    try:
        read = _incident(convert(found, _Incident))
        known = read.status in OPEN | OVER | MAINTENANCE
        return read if known else replace(read, problem="opsctl doesn't know its status")
    except Unreadable:
        held = found if isinstance(found, dict) else {}
        id, name = (str(held.get(each) or "") for each in ("id", "name"))
        return StatusIncident(id, name, "", "", EARLIEST, EARLIEST, "it is unreadable")


def _configured(reference: Reference | None, key: str) -> Reference:
    if reference is None:
        raise _missing(key)
    return reference


def _missing(key: str) -> ConfigurationError:
    return ConfigurationError(f"[channels] has no {key}.", f"Add {key} to [channels], or notify people yourself.")
