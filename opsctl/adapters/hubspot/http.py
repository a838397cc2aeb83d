"""The HTTP client of HubSpot, with the rate limiter and retries."""

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
"""The retry policy: a Retry-After beyond the deadline is an error."""


class HubSpotHttp(Http):
    """One portal's API. `limiter` gives each request a slot, and learns the limits from HubSpot's answers."""

    def __init__(self, base: str, access: Access, *, token: Secret, limiter: Limiter, reading_posts: Collection[str]) -> None:
        super().__init__(base, access, system="HubSpot", reading_posts=reading_posts)
        self._token = token
        self.limiter = limiter
        self.time_zone = ""

    def call(self, method: str, path: str, what: str, *, json: Any = None, params: Mapping[str, str] | None = None) -> httpx.Response:
        """The successful answer to a request; `what` describes the call.

        A read is retried after a temporary error or a lost connection; a write only if nothing was done. Raises OutcomeUnknown when the
        answer to a write was lost.
        """
        effect = not self._reads(method, path)
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        # The sandbox has shorter windows and waits.
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
    """Whether the connection was lost during a read, as happens to one that was idle too long."""
    import httpx

    return isinstance(failed.__cause__, httpx.NetworkError | httpx.RemoteProtocolError) and not isinstance(failed, Unreachable)
