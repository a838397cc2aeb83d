"""The application's API: health, logins, and the calls that end them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.http.answers import decoded, moment
from opsctl.adapters.http.health import Health, check_health, check_url
from opsctl.adapters.http.logins import LOGIN, LOGOUT, REFRESH, Logins, api_client
from opsctl.errors import ConfigurationError, CredentialsInvalid, ExternalError
from opsctl.redaction import Secret

if TYPE_CHECKING:
    import httpx

    from opsctl.adapters.access import Access
    from opsctl.adapters.host.prompt import Prompt
    from opsctl.settings import ApiSettings


Marks = Callable[[Sequence[str]], list[str | None]]


class _Me(Struct, rename="camel"):
    user_id: str | int


class _Tokens(Struct, rename="camel"):
    access_token: str
    refresh_token: str
    expires_in: int


class _Revoked(Struct):
    at: str
    revoked: int


@dataclass(frozen=True)
class Tokens:
    """A login: the access token lives `expires_in` seconds, the refresh token longer."""

    access: Secret
    refresh: Secret
    expires_in: int


@dataclass(frozen=True)
class Revoked:
    """How many logins a force-logout ended, and when, on the API's clock."""

    at: datetime
    revoked: int


class Api(Adapter):
    """The API at its configured base. A login and logout of the configured test user counts as reading.

    `marks` returns the values of keys in the application's Redis; `person` is asked for a token if no login is configured.
    """

    def __init__(self, access: Access, settings: ApiSettings, person: Prompt, marks: Marks) -> None:
        super().__init__(writing=access.writing)
        self._access, self._config, self._person, self._marks = access, settings, person, marks
        self._token: Secret | None = None
        self._choosing = threading.Lock()
        self._http = api_client(settings, access)
        self._logins = Logins(settings, access)

    def health(self) -> Health:
        """The result of /health; an API that is down is a result, not an error."""
        return check_health(self._http, "/health")

    def staging(self) -> Health:
        """The result of staging's /health; raises ConfigurationError when it is not configured."""
        if self._config.staging is None:
            raise ConfigurationError("[api] has no staging address.", "Add the address of the staging API to [api] as staging.")
        return check_url(self._access, f"{self._config.staging}/health")

    def login(self, email: Secret, password: Secret) -> Tokens:
        """Log in; raises CredentialsInvalid for a wrong password."""
        return self._tokens(LOGIN, {"email": email.reveal(), "password": password.reveal()})

    def refresh(self, token: Secret) -> Tokens:
        """Exchange a refresh token for new tokens; raises CredentialsInvalid when it is rejected."""
        return self._tokens(REFRESH, {"refreshToken": token.reveal()})

    def user_of(self, access: Secret) -> str | None:
        """The user id of an access token, or None when the API rejects it."""
        answer = self._http.ask("GET", "/v1/auth/me", headers=_bearer(access), accept=(401,))
        if answer.status_code == 401:
            return None
        return str(self._http.read(answer, _Me).user_id)

    def end(self, access: Secret) -> None:
        """Log out an access token; a rejected one is already logged out."""
        self._logins.ask(LOGOUT, {}, access.reveal())

    @writes
    def force_logout(self, user_id: str, key: str) -> Revoked:
        """Log a user out everywhere. Idempotent by `key`; raises NotFound."""
        return self._revoked("/v1/auth/force-logout", {"userId": user_id}, key)

    @writes
    def force_logout_all(self, key: str) -> Revoked:
        """Log everybody out everywhere. Idempotent by `key`."""
        return self._revoked("/v1/auth/force-logout-all", {}, key)

    @writes
    def announce(self, message: str, duration: str, key: str, *, at: datetime | None = None) -> None:
        """Announce a maintenance of `duration` (`2 hours`) to the users, from `at` or now."""
        begins = {} if at is None else {"at": at.isoformat()}
        self._as_admin("/v1/notifications/maintenance", {"message": message, "duration": duration, **begins}, key)

    def can_authorise(self) -> bool:
        """Whether there is a valid administrator's token, or a way to get one."""
        if self._config.login or self._person.present:
            return True
        return self.user_of(self._access.resolve(self._config.token)) is not None

    def close(self) -> None:
        """Close the connection and log out the remaining sessions."""
        self._logins.close()
        self._http.close()

    def revoked_since(self, whos: Sequence[str]) -> list[datetime | None]:
        """The time of the last revocation for each of `whos` (`all` or `user:ID`); None without one or not configured."""
        pattern = self._config.revocations
        if pattern is None:
            return [None] * len(whos)
        marks = self._marks([pattern.replace("{who}", who) for who in whos])
        try:
            return [None if mark is None else datetime.fromtimestamp(int(mark) / 1000, UTC) for mark in marks]
        except (ValueError, OverflowError, OSError):
            raise ExternalError("The API's revocation time in Redis is not in epoch milliseconds.", "Check revocations in [api].") from None

    def _tokens(self, path: str, body: dict[str, Any]) -> Tokens:
        # The body of a rejection may echo the credentials; it is never shown.
        answer = self._logins.ask(path, body)
        if answer.status == 401:
            raise CredentialsInvalid(f"The API rejected the credentials at {path}.", "Check [api.login] and [api.test].")
        with self._http.reading():
            found = decoded(answer.content, _Tokens)
        return Tokens(Secret(found.access_token), Secret(found.refresh_token), found.expires_in)

    def _revoked(self, path: str, body: dict[str, Any], key: str) -> Revoked:
        answer = self._as_admin(path, body, key)
        with self._http.reading(effect=True):
            found = decoded(answer.content, _Revoked)
            return Revoked(moment(found.at), found.revoked)

    def _as_admin(self, path: str, body: dict[str, Any], key: str) -> httpx.Response:
        """Send as the administrator; a rejected token is renewed once for all threads, by the configured login or by asking."""
        with self._choosing:
            token = self._token = self._token or self._access.resolve(self._config.token)
        try:
            return self._as(token, path, body, key)
        except CredentialsInvalid as refused:
            with self._choosing:
                if self._token is token:
                    self._token = self._renewed(refused)
        return self._as(self._token, path, body, key)

    def _renewed(self, refused: CredentialsInvalid) -> Secret:
        login = self._config.login
        if login is None:
            return self._person.secret("A new administrator's token for the API", refused.next)
        return self.login(self._access.resolve(login.email), self._access.resolve(login.password)).access

    def _as(self, token: Secret, path: str, body: dict[str, Any], key: str) -> httpx.Response:
        return self._http.ask("POST", path, json=body, headers={**_bearer(token), "Idempotency-Key": key})


def _bearer(token: Secret) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.reveal()}"}
