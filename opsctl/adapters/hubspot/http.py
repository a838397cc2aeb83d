"""How HubSpot is asked: behind the HTTP wall, under the limiter, and again where its answer allows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from opsctl.adapters.http.answers import number
from opsctl.adapters.http.client import Http
from opsctl.adapters.hubspot.errors import FEW_SECONDS, translated, wait_before_retry
from opsctl.adapters.hubspot.limiter import WINDOW_SECONDS, Limiter
from opsctl.errors import ExternalError, Unreachable
from opsctl.redaction import Secret

if TYPE_CHECKING:
    import httpx

    from opsctl.adapters.access import Access

TRIES = 4


class HubSpotHttp(Http):
    """One portal's API. `limiter` gives each request its slot; it learns the limits that HubSpot's answers name."""

    def __init__(self, base: str, access: Access, *, token: Secret, limiter: Limiter, reading_posts: Collection[str]) -> None:
        super().__init__(base, access, system="HubSpot", reading_posts=reading_posts)
        self._token = token
        self.limiter = limiter
        self.pause: Callable[[float], None] = time.sleep
        self.time_zone = ""

    def call(self, method: str, path: str, what: str, *, json: Any = None, params: Mapping[str, str] | None = None) -> httpx.Response:
        """Send a request, and return its answer, a success; `what` is asked for, in words.

        A read is sent again after a moment's weakness or a lost connection; a write only after an answer that says that nothing was
        done. OutcomeUnknown when a write's answer was lost.
        """
        effect = not self._reads(method, path)
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        for left in reversed(range(TRIES)):
            try:
                with self.limiter.slot():
                    answer = self._send(method, path, effect, json=json, params=params, headers=headers)
            except ExternalError as failed:
                if not left or not _hung_up(failed):
                    raise
                self._rest(FEW_SECONDS)
                continue
            self._learn(answer)
            if answer.is_success:
                return answer
            wait = wait_before_retry(answer, effect=effect)
            if wait is None or not left:
                break
            self._rest(wait)
        raise translated(answer, what, effect=effect, time_zone=self.time_zone)

    def _rest(self, seconds: float) -> None:
        # A rehearsal's window is shorter, and so is everything else in it.
        self.pause(seconds * self.limiter.window / WINDOW_SECONDS)

    def _learn(self, answer: httpx.Response) -> None:
        most, interval = (number(answer.headers.get(f"X-HubSpot-RateLimit-{name}")) for name in ("Max", "Interval-Milliseconds"))
        if most is not None and interval is not None:
            self.limiter.learn(int(most), interval / 1000)


def _hung_up(failed: ExternalError) -> bool:
    """Whether a connection was lost under a read, as happens to one that was kept open too long."""
    import httpx

    return isinstance(failed.__cause__, httpx.NetworkError | httpx.RemoteProtocolError) and not isinstance(failed, Unreachable)
