"""How HubSpot is asked: behind the HTTP wall, under the limiter, and again where its answer allows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from opsctl.adapters.http.answers import number
from opsctl.adapters.http.client import Http
from opsctl.adapters.hubspot.errors import FEW_SECONDS, translated, wait_before_retry
from opsctl.adapters.hubspot.limiter import WINDOW_SECONDS, Limiter
from opsctl.errors import ExternalError, Unreachable
from opsctl.redaction import Secret
from opsctl.retry import Policy, TryAgain, retry

if TYPE_CHECKING:
    import httpx

    from opsctl.adapters.access import Access

PATIENCE = Policy(tries=4, deadline=120.0, first=FEW_SECONDS)
"""How HubSpot is asked again: a Retry-After that ends later than the deadline is an error at once."""


class HubSpotHttp(Http):
    """One portal's API. `limiter` gives each request its slot; it learns the limits that HubSpot's answers name."""

    def __init__(self, base: str, access: Access, *, token: Secret, limiter: Limiter, reading_posts: Collection[str]) -> None:
        super().__init__(base, access, system="HubSpot", reading_posts=reading_posts)
        self._token = token
        self.limiter = limiter
        self.time_zone = ""

    def call(self, method: str, path: str, what: str, *, json: Any = None, params: Mapping[str, str] | None = None) -> httpx.Response:
        """Send a request, and return its answer, a success; `what` is asked for, in words.

        A read is sent again after a moment's weakness or a lost connection; a write only after an answer that says that nothing was
        done. OutcomeUnknown when a write's answer was lost.
        """
        effect = not self._reads(method, path)
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        # A rehearsal's window is shorter, and so is everything else in it.
        scale = self.limiter.window / WINDOW_SECONDS

        def once() -> httpx.Response:
            try:
                with self.limiter.slot():
                    answer = self._send(method, path, effect, json=json, params=params, headers=headers)
            except ExternalError as failed:
                if _hung_up(failed):
                    raise TryAgain(failed, FEW_SECONDS * scale) from failed
                raise
            self._learn(answer)
            if answer.is_success:
                return answer
            error = translated(answer, what, effect=effect, time_zone=self.time_zone)
            wait = wait_before_retry(answer, effect=effect, scale=scale)
            raise error if wait is None else TryAgain(error, wait)

        return retry(once, PATIENCE, sleep=self.pause)

    def _learn(self, answer: httpx.Response) -> None:
        most, interval = (number(answer.headers.get(f"X-HubSpot-RateLimit-{name}")) for name in ("Max", "Interval-Milliseconds"))
        if most is not None and interval is not None:
            self.limiter.learn(int(most), interval / 1000)


def _hung_up(failed: ExternalError) -> bool:
    """Whether a connection was lost under a read, as happens to one that was kept open too long."""
    import httpx

    return isinstance(failed.__cause__, httpx.NetworkError | httpx.RemoteProtocolError) and not isinstance(failed, Unreachable)
