"""Sessions that the API ends, one user after another."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.changes.sessions import EndDatabaseSessions, RevokeTokens
from opsctl.contract import Done, Pending
from opsctl.errors import CredentialsInvalid, Denied, ExternalError, Interrupted, OpsctlError, PartialFailure, Unreachable, Untrusted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USERS = tuple(map(str, range(40)))


class Write:
    """Systems whose API refuses some users with an error."""

    def __init__(self, refused: dict[str, OpsctlError]) -> None:
        self.refused, self.told, self.reported = refused, list[str](), list[int]()
        self.api = SimpleNamespace(force_logout=self.force_logout)

    def force_logout(self, user: str, key: str) -> Any:
        self.told.append(user)
        if user in self.refused:
            raise self.refused[user]
        return SimpleNamespace(revoked=2)

    def progress(self, done: int, total: int | None = None, unit: str = "", *, effect: bool = True) -> None:
        self.reported.append(done)


def revoke(write: Write) -> Any:
    return RevokeTokens(users=USERS, cutoff=NOW).apply(write, "run-1", write.progress)  # type: ignore[arg-type]


def test_a_user_whom_the_api_refuses_keeps_no_other() -> None:
    write = Write({"7": ExternalError("no such state"), "39": ExternalError("nor this")})
    with pytest.raises(PartialFailure, match=r"still accepts the tokens of 2 of 40 users\. 7: no such state 39: nor this"):
        revoke(write)
    assert sorted(write.told, key=int) == list(USERS)
    assert write.reported == list(range(1, 39))
    assert revoke(Write({})) == {"revoked": 80}


@pytest.mark.parametrize("error", [Denied("not for you"), Interrupted("stop")])
def test_what_is_about_no_single_user_ends_it(error: OpsctlError) -> None:
    with pytest.raises(type(error)):
        revoke(Write({"0": error}))


def marked(since: Any) -> Any:
    """Systems whose API keeps marks in a Redis that answers `since` or fails with it."""

    def revoked_since(whos: list[str]) -> list[Any]:
        if isinstance(since, OpsctlError):
            raise since
        return [since] * len(whos)

    return SimpleNamespace(api=SimpleNamespace(revoked_since=revoked_since, can_authorise=lambda: True))


@pytest.mark.parametrize("error", [Unreachable("no Redis."), Untrusted("no Redis."), CredentialsInvalid("no Redis."), Denied("no Redis.")])
@pytest.mark.parametrize("users", [None, ("7",)])
def test_marks_that_nobody_can_read_keep_nobody_from_telling_the_api(error: OpsctlError, users: tuple[str, ...] | None) -> None:
    found = RevokeTokens(users=users, cutoff=NOW).check(marked(error))
    assert isinstance(found, Pending)
    assert found.note == "whether the API already refuses them is unknown: no Redis"


def test_marks_that_mean_nothing_are_no_obstacle_to_get_round() -> None:
    with pytest.raises(ExternalError):
        RevokeTokens(users=None, cutoff=NOW).check(marked(ExternalError("not in epoch milliseconds")))


def test_a_mark_since_the_cutoff_is_the_proof() -> None:
    assert isinstance(RevokeTokens(users=None, cutoff=NOW).check(marked(NOW)), Done)


def test_newer_sessions_of_a_user_are_no_reason_to_delete_again() -> None:
    """A user who signed in again after the cutoff has nothing left to delete."""
    rows = SimpleNamespace(
        require_all=lambda: None,
        require_same=lambda: None,
        count=lambda users, cutoff: SimpleNamespace(old=0, live=3, unproven=0),
        writers=lambda cutoff: [],
    )
    read: Any = SimpleNamespace(environment=SimpleNamespace(sessions=None), session_rows=rows)
    found = EndDatabaseSessions(users=USERS[:1], cutoff=NOW).check(read)
    assert isinstance(found, Done)
    assert found.why.startswith("0 of 3 sessions")
    assert found.at == NOW
