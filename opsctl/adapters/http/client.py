"""The HTTP client for every API except AWS: read-only or writing, bound to one host, with translated errors."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from opsctl import certificates
from opsctl.adapters.base import Adapter
from opsctl.adapters.http.answers import Unreadable, decoded, seconds, words
from opsctl.adapters.loopback import is_loopback, require_loopback
from opsctl.errors import (
    ConfigurationError,
    CredentialsInvalid,
    Denied,
    ExternalError,
    NotFound,
    OpsctlError,
    OutcomeUnknown,
    ReadOnly,
    Retry,
    Throttled,
    Unreachable,
    WrongPlace,
)
from opsctl.redaction import clean_sentence, vault
from opsctl.retry import Policy, TryAgain, retry

if TYPE_CHECKING:
    import ssl

    import httpx

    from opsctl.adapters.access import Access

CONNECT_SECONDS = 5
ANSWER_SECONDS = 30
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SLOW_DOWN = (420, 429)
SLOWED = Policy(tries=4, deadline=60.0, first=0.5)
"""The retry policy for rate-limited calls."""
NOT_IMPLEMENTED = 501
WHOLE_SECONDS = 120.0
LARGEST = 32 * 1024 * 1024
"""Maximum bytes of an answer's body, decompressed."""
ENCODED = frozenset(("content-encoding", "content-length", "transfer-encoding"))
"""Headers of the transfer, removed once the body is read."""
HOW = {
    **dict.fromkeys(("ReadTimeout", "WriteTimeout"), "did not answer in time"),
    "DecodingError": "answered in an unknown encoding",
}

T = TypeVar("T")


class _SlowDown(Exception):
    """A rate-limited answer."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(str(answer.status_code))
        self.answer = answer


class Http(Adapter):
    """Calls one API at `base`; `system` is its name in messages, `login` the hint when it rejects the credentials.

    A read-only client sends only reading methods, and POST to the paths in `reading_posts`. Variables for proxies, netrc and
    certificates are ignored, redirects are not followed. The server's certificate is verified with the authorities in `ca`, also behind
    the configured `proxy`. Thread-safe.
    """

    def __init__(
        self,
        base: str,
        access: Access,
        *,
        system: str,
        login: str = "Check its credential in the configuration.",
        reading_posts: Collection[str] = (),
        ca: str = certificates.SYSTEM,
    ) -> None:
        super().__init__(writing=access.writing)
        self._base = base.rstrip("/")
        self._system = system
        self._sandbox = access.sandbox
        self._login = login
        self._reading_posts = frozenset(reading_posts)
        self._ca, self._proxy = ca, access.proxy
        self._host = _checked_host(self._base, system, access.sandbox)
        self._origin = _origin(self._base)
        self.pause: Callable[[float], None] = time.sleep
        self.client = self._build()

    def ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> httpx.Response:
        """Send one request and return its answer, which is a success or in `accept`; raises one of opsctl's errors otherwise.

        A rate-limited call is sent up to three times more, a write too: it had no effect.
        """
        effect, call = not self._reads(method, path), f"{method} {self._redacted_path(path)}"

        def once() -> httpx.Response:
            answer = self._send(method, path, effect, json=json, headers=dict(headers or {}), params=params)
            if answer.status_code in SLOW_DOWN:
                raise TryAgain(_SlowDown(answer), retry_after(answer))
            return answer

        try:
            answer = retry(once, SLOWED, sleep=self.pause)
        except _SlowDown as slow:
            answer = slow.answer
        if answer.is_success or answer.status_code in accept:
            return answer
        raise self._refused(answer, call, effect)

    def read(self, answer: httpx.Response, shape: type[T], *, effect: bool = False) -> T:
        """The answer's JSON as `shape`; where it is none, ExternalError, or OutcomeUnknown after an `effect`."""
        with self.reading(effect=effect):
            return decoded(answer.content, shape)

    @contextmanager
    def reading(self, *, effect: bool = False) -> Iterator[None]:
        """Translate Unreadable in the block into the right error for the call."""
        try:
            yield
        except Unreadable as cause:
            what = f"{self._system} sent an unreadable answer: {clean_sentence(cause)}"
            if effect:
                raise OutcomeUnknown(f"{what} The call succeeded, but its result is unknown.", "Check there what happened.") from None
            raise ExternalError(what, "Check its address in the configuration.") from None

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def _build(self) -> httpx.Client:
        import httpx

        # httpx would log every URL, and some URLs are secrets.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        return httpx.Client(
            base_url=self._base,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            verify=_trusted(self._origin[0], self._ca),
            proxy=self._proxy if self._origin[0] == "https" else None,
            trust_env=False,
            follow_redirects=False,
            headers={"User-Agent": "opsctl", "Accept": "application/json"},
            event_hooks={"request": [self._guard]},
        )

    def _guard(self, request: httpx.Request) -> None:
        """The check of every request before it is sent; httpx calls it."""
        if (asked := _origin(str(request.url))) != self._origin:
            raise WrongPlace("{} is at {}://{}:{}, not at {}://{}:{}.".format(self._system, *self._origin, *asked))
        if self._sandbox:
            require_loopback(self._system, request.url.host)
        path = request.url.path.removeprefix(urlsplit(self._base).path)
        if not self.writing and not self._reads(request.method, path):
            raise ReadOnly(f"{request.method} to {self._system} writes, and this connection is read-only.")

    def _reads(self, method: str, path: str) -> bool:
        return method in READING_METHODS or (method == "POST" and path in self._reading_posts)

    def _send(self, method: str, path: str, effect: bool, **parts: Any) -> httpx.Response:
        import httpx

        call = f"{method} {self._redacted_path(path)}"
        try:
            request = self.client.build_request(method, path, **parts)
            return self._whole(self.client.send(request, stream=True), request, call, effect)
        except httpx.ConnectError as cause:
            if (distrust := certificates.distrusted(cause)) is not None:
                following = "Set `ca` next to its address in the configuration to the file of its certificate authority."
                raise certificates.untrusted(self._system, self._host, distrust, following) from cause
            raise self._unreachable(cause) from cause
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as cause:
            raise self._unreachable(cause) from cause
        except (httpx.LocalProtocolError, UnicodeEncodeError) as cause:
            # No cause: it quotes the header's value.
            raise ConfigurationError(
                f"{call} of {self._system} can't be sent: a credential or name has a character that a header can't contain.",
                self._login,
            ) from (cause if isinstance(cause, httpx.HTTPError) else None)
        except httpx.HTTPError as cause:
            raise self._lost(call, HOW.get(type(cause).__name__, "closed the connection before it answered"), effect) from cause
        except (httpx.InvalidURL, ValueError) as cause:
            raise ConfigurationError(f"The address of {self._system} is not a URL.", "Correct it in the configuration.") from cause

    def _unreachable(self, cause: Exception) -> Unreachable:
        return Unreachable(
            f"{self._system} at {self._host} is unreachable: {clean_sentence(cause)}",
            Retry("Check the network (VPN)"),
        )

    def _whole(self, answer: httpx.Response, request: httpx.Request, call: str, effect: bool) -> httpx.Response:
        """The answer with its body read, which is bounded in size and time."""
        import httpx

        parts, size, deadline = [], 0, time.monotonic() + WHOLE_SECONDS
        try:
            for part in answer.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > LARGEST or time.monotonic() > deadline:
                    raise self._lost(call, "sent an endless answer", effect)
        finally:
            answer.close()
        headers = [(name, value) for name, value in answer.headers.multi_items() if name not in ENCODED]
        kept = {"reason_phrase": answer.extensions["reason_phrase"]} if "reason_phrase" in answer.extensions else {}
        return httpx.Response(answer.status_code, headers=headers, content=b"".join(parts), extensions=kept, request=request)

    def _refused(self, answer: httpx.Response, call: str, effect: bool) -> OpsctlError:
        status = answer.status_code
        code, message = str(status), words(answer)
        if status == 401:
            what = f"{self._system} rejected the credentials for {call}: {message}"
            return CredentialsInvalid(what, self._login, code=code, words=message)
        if status == 403:
            return Denied(
                f"{self._system} denied {call}: {message}", "Ask your administrator for this permission.", code=code, words=message
            )
        if status == 404:
            what = f"{self._system} has nothing at {call}: {message}"
            return NotFound(what, "Check the name and the address.", code=code, words=message)
        if status in SLOW_DOWN:
            what = f"{self._system} limits the rate of requests: {call} was not done."
            return Throttled(what, Retry("Wait a minute"), code=code, words=message)
        if status >= 500 and status != NOT_IMPLEMENTED:
            return self._lost(call, f"answered {status}: {message.rstrip('.')}", effect, code, message)
        return ExternalError(f"{self._system} refused {call} ({status}): {message}", code=code, words=message)

    def _lost(self, call: str, how: str, effect: bool, code: str = "", words: str = "") -> OpsctlError:
        if effect:
            return OutcomeUnknown(
                f"{self._system} {how} ({call}): it may or may not have happened.",
                Retry(),
            )
        return ExternalError(f"{self._system} {how} ({call}).", Retry(), code=code, words=words)

    def _redacted_path(self, path: str) -> str:
        return vault.hide(path)


@functools.cache
def _trusted(scheme: str, ca: str) -> ssl.SSLContext:
    """The TLS context for `ca`, cached; without https an empty one."""
    import ssl

    return certificates.context(ca) if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)


def _checked_host(base: str, system: str, sandbox: bool) -> str:
    parts = urlsplit(base)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"The address of {system} is not an http(s) URL.", "Correct it in the configuration.")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"The address of {system} contains a credential.",
            'Remove it from the address, and use a reference such as { env = "VARIABLE" }.',
        )
    if sandbox:
        require_loopback(system, host)
    elif parts.scheme == "http" and not is_loopback(host):
        raise WrongPlace(f"{system} at {host} does not use https, so others could read the credential; nothing was sent.", "Use https.")
    return host


def retry_after(answer: httpx.Response) -> float | None:
    """The seconds that an answer's `Retry-After` asks to wait; None where it says none."""
    return seconds(answer.headers.get("Retry-After"), datetime.now(UTC))
