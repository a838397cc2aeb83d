"""HubSpot's webhooks: signed events of changed properties, sent with a delay, and retried while they are refused."""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from opsctl.sandbox import background_load as neighbours
from opsctl.sandbox.background_load import NoAnswer
from opsctl.sandbox.hubspot_contacts import PropertyAuthor
from opsctl.sandbox.hubspot_signatures import signature_v1, signature_v3
from opsctl.sandbox.services import SandboxContext

APP_ID = 7906213
SUBSCRIPTION_ID = 686627
TARGET, PATH = "hh", "/webhook"
SUBSCRIBED = frozenset({"download_requested"})
DELAY = 1.0
AGAIN = (5.0, 30.0, 120.0, 300.0)
"""Seconds from one attempt to the next, in the demo's time; after the last one HubSpot gives up."""
AT_LEAST = 0.02
"""Seconds between two attempts where the world's tempo makes them nothing."""
KEPT = 1_000
FIRST_EVENT = 3029365631


@dataclass(frozen=True)
class PropertyChange:
    """A property's new value, at an epoch time."""

    contact: str
    name: str
    value: str
    at: float
    author: PropertyAuthor


@dataclass
class WebhookDelivery:
    """One request with its events. `statuses` are the answers so far, 0 for none."""

    events: list[dict[str, Any]]
    statuses: list[int]
    ended: bool = False

    def shown(self) -> dict[str, Any]:
        """The delivery as the control port shows it."""
        return {"events": self.events, "statuses": self.statuses, "ended": self.ended}


class WebhookSender:
    """Deliveries to HH's webhook, one after another, on a thread that begins with the first of them."""

    def __init__(self, world: SandboxContext, portal: int, secret: Callable[[], str]) -> None:
        self._world = world
        self._portal = portal
        self._secret = secret
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._waiting: list[tuple[float, int, WebhookDelivery]] = []
        self._order = itertools.count()
        self._event_ids = itertools.count(FIRST_EVENT)
        self._kept: deque[WebhookDelivery] = deque(maxlen=KEPT)
        self._thread: threading.Thread | None = None

    def tell(self, changes: Iterable[PropertyChange]) -> None:
        """Send the events of subscribed properties."""
        events = [self._event(change) for change in changes if change.name in SUBSCRIBED]
        if events and self._has_target():
            self._add(events, self._world.wait(DELAY))

    def deliveries(self) -> list[dict[str, Any]]:
        """The latest deliveries, oldest first."""
        return [delivery.shown() for delivery in list(self._kept)]

    def repeat(self) -> bool:
        """Send the latest delivery again, as HubSpot may; returns whether there is one."""
        if not self._kept:
            return False
        self._add(self._kept[-1].events, 0.0)
        return True

    def clear(self) -> None:
        """Clear everything after the current attempt."""
        with self._changed:
            self._waiting.clear()
        with self._sending, self._changed:
            self._waiting.clear()
            self._kept.clear()

    def _has_target(self) -> bool:
        return TARGET in self._world.ports or TARGET in self._world.parts

    def _event(self, change: PropertyChange) -> dict[str, Any]:
        return {
            "eventId": next(self._event_ids),
            "subscriptionId": SUBSCRIPTION_ID,
            "portalId": self._portal,
            "appId": APP_ID,
            "occurredAt": round(change.at * 1000),
            "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0,
            "objectId": int(change.contact),
            "propertyName": change.name,
            "propertyValue": change.value,
            "changeSource": change.author.type,
            "sourceId": change.author.id,
        }

    def _add(self, events: list[dict[str, Any]], seconds: float) -> None:
        delivery = WebhookDelivery(events, [])
        self._kept.append(delivery)
        self._schedule(delivery, seconds)

    def _schedule(self, delivery: WebhookDelivery, seconds: float) -> None:
        with self._changed:
            heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._order), delivery))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or self._waiting[0][0] > time.monotonic():
                    left = self._waiting[0][0] - time.monotonic() if self._waiting else None
                    self._changed.wait(left)
            # Taken under this lock, so that nothing is sent after `clear` has returned.
            with self._sending:
                with self._changed:
                    due = heapq.heappop(self._waiting)[2] if self._waiting else None
                if due is not None:
                    self._attempt(due)

    def _attempt(self, delivery: WebhookDelivery) -> None:
        number = len(delivery.statuses)
        status = self._send([{**event, "attemptNumber": number} for event in delivery.events])
        delivery.statuses.append(status)
        if 200 <= status < 300 or number == len(AGAIN):
            delivery.ended = True
        else:
            self._schedule(delivery, max(self._world.wait(AGAIN[number]), AT_LEAST))

    def _send(self, events: list[dict[str, Any]]) -> int:
        secret, body = self._secret(), json.dumps(events).encode()
        stamp = str(round(self._world.clock() * 1000))
        headers = {
            "Content-Type": "application/json",
            "X-HubSpot-Signature": signature_v1(secret, body),
            "X-HubSpot-Signature-Version": "v1",
            "X-HubSpot-Signature-v3": signature_v3(secret, "POST", neighbours.base(self._world, TARGET) + PATH, body, stamp),
            "X-HubSpot-Request-Timestamp": stamp,
        }
        try:
            return neighbours.ask(self._world, TARGET, "POST", PATH, headers, body).status
        except NoAnswer:
            return 0
