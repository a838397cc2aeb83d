"""The application's API, as the sandbox serves it from real stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from opsctl.errors import CredentialsInvalid, Denied, ExternalError, InputRequired, NotFound, OutcomeUnknown, ReadOnly, WrongPlace
from opsctl.redaction import Secret
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule

NO_LOGIN = {
    '[api.login]\nemail = { aws = "safawinet/prod/admin-login", key = "email" }\n'
    'password = { aws = "safawinet/prod/admin-login", key = "password" }': ""
}


def log_in(systems):
    test = systems.config.api.test
    return systems.api.login(systems.resolve(test.email), systems.resolve(test.password))


def test_a_test_user_logs_in_is_known_refreshes_and_leaves(systems):
    made = systems(writing=False)
    tokens = log_in(made)
    assert tokens.expires_in == 900
    assert made.api.user_of(tokens.access) == "2"
    newer = made.api.refresh(tokens.refresh)
    assert made.api.user_of(newer.access) == "2"
    made.api.end(newer.access)
    with pytest.raises(CredentialsInvalid):
        made.api.refresh(newer.refresh)
    assert made.api.user_of(Secret("not-a-token-at-all")) is None
    assert "secret" in repr(tokens)


def test_a_wrong_password_is_refused_without_being_shown(systems):
    with pytest.raises(CredentialsInvalid) as refused:
        systems(writing=False).api.login(Secret("user2@example.com"), Secret("wrong-password"))
    assert "wrong-password" not in str(refused.value)


def test_everybody_is_logged_out_once_for_one_key(systems):
    made = systems(writing=True)
    stolen = log_in(made)
    assert made.api.revoked_since(["all"]) == [None]
    first = made.api.force_logout_all("run-1-step-2")
    assert made.api.user_of(stolen.access) is None
    assert made.api.revoked_since(["all"]) == [first.at]
    assert first.at.tzinfo is UTC
    assert abs(first.at - datetime.now(UTC)) < timedelta(minutes=1)
    # The very token that asked is revoked by now; what was done is told again all the same.
    assert made.api.force_logout_all("run-1-step-2") == first
    assert made.api.force_logout_all("run-2-step-2").at > first.at


def test_one_user_is_logged_out_and_others_are_not(systems):
    made = systems(writing=True)
    tokens = log_in(made)
    made.api.force_logout("3", "a")
    assert made.api.user_of(tokens.access) == "2"
    done = made.api.force_logout("2", "b")
    assert made.api.user_of(tokens.access) is None
    assert made.api.revoked_since(["user:2"]) == [done.at]
    assert made.api.revoked_since(["user:77"]) == [None]
    with pytest.raises(NotFound):
        made.api.force_logout("999999", "c")


def test_an_answer_lost_after_the_effect_is_a_doubt_and_the_key_resolves_it(systems, folder):
    made = systems(writing=True)
    lifecycle.set_fault(folder, Rule("api", "POST /v1/auth/force-logout-all", "timeout-after-effect"))
    with pytest.raises(OutcomeUnknown):
        made.api.force_logout_all("key")
    (since,) = made.api.revoked_since(["all"])
    assert since is not None
    assert made.api.force_logout_all("key").at == since


def test_a_refused_token_is_renewed_by_the_configured_login(systems, monkeypatch):
    monkeypatch.setenv("OLD_TOKEN", "an-old-token")
    old = {'token = { aws = "safawinet/prod/admin-token", key = "token" }': 'token = { env = "OLD_TOKEN" }'}
    made = systems(writing=True, replace=old)
    began = made.database.server_time()
    made.api.force_logout_all("a")
    made.api.announce("Maintenance", "30m", "b")
    made.api.close()
    # The login for it was ended again.
    open_logins = "SELECT count(*) AS n FROM refresh_sessions WHERE user_id = 1 AND created_at > %(at)s"
    assert made.database.query(open_logins, at=began) == [{"n": 0}]


def test_many_at_a_time_renew_a_refused_token_once(systems, monkeypatch):
    monkeypatch.setenv("OLD_TOKEN", "an-old-token")
    old = {'token = { aws = "safawinet/prod/admin-token", key = "token" }': 'token = { env = "OLD_TOKEN" }'}
    made = systems(writing=True, replace=old)
    began = made.database.server_time()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(made.api.force_logout, str(user), f"a-{user}") for user in range(10, 30)]
    assert all(answer.result().at for answer in answers)
    logins = "SELECT count(*) AS n FROM refresh_sessions WHERE user_id = 1 AND created_at > %(at)s"
    assert made.database.query(logins, at=began) == [{"n": 1}]
    made.api.close()
    assert made.database.query(logins, at=began) == [{"n": 0}]


def test_without_a_login_a_person_is_asked_for_a_token(systems, person, world, monkeypatch):
    monkeypatch.setenv("OLD_TOKEN", "an-old-token")
    old = {'token = { aws = "safawinet/prod/admin-token", key = "token" }': 'token = { env = "OLD_TOKEN" }'}
    made = systems(writing=True, replace=old | NO_LOGIN)
    with pytest.raises(InputRequired):
        made.api.announce("Maintenance", "30m", "a")
    person.answer = "not-good-either"
    with pytest.raises(CredentialsInvalid, match="rejected"):
        made.api.announce("Maintenance", "30m", "b")
    person.answer = world["admin_token"]
    made.api.announce("Maintenance", "30m", "c")


def test_a_token_without_the_right_is_denied(systems, monkeypatch):
    made = systems(writing=True)
    monkeypatch.setenv("USERS_TOKEN", log_in(made).access.reveal())
    users = {'token = { aws = "safawinet/prod/admin-token", key = "token" }': 'token = { env = "USERS_TOKEN" }'}
    with pytest.raises(Denied):
        systems(writing=True, replace=users).api.force_logout_all("a")


def test_health_is_told_and_never_raised(systems, folder):
    made = systems(writing=False)
    health = made.api.health()
    assert (health.ok, health.detail) == (True, "ok")
    assert health.latency_ms > 0
    lifecycle.set_fault(folder, Rule("api", "GET /health", "fail", status=503))
    assert "503" in made.api.health().detail
    lifecycle.set_fault(folder, Rule("api", "GET /health", "drop"))
    assert made.api.health().ok is False


def test_a_reading_one_cannot_force_anybody_out(systems):
    made = systems(writing=False)
    for call in (lambda: made.api.force_logout("2", "a"), lambda: made.api.force_logout_all("a"), lambda: made.api.announce("", "", "a")):
        with pytest.raises(ReadOnly):
            call()
    with pytest.raises(ReadOnly):
        made.api._http.ask("POST", "/v1/auth/force-logout-all")


def test_marks_are_not_asked_for_where_none_are_configured(systems):
    made = systems(writing=False, replace={'revocations = "auth:revoked:{who}"': ""})
    assert made.api.revoked_since(["all"]) == [None]


def test_a_mark_that_is_no_time_is_named(systems):
    made = systems(writing=False)
    systems(writing=True).redis._main.set("auth:revoked:all", "yesterday")
    with pytest.raises(ExternalError, match="epoch"):
        made.api.revoked_since(["all"])


def test_the_sandbox_is_on_this_machine(systems):
    with pytest.raises(WrongPlace):
        _ = systems(writing=False, replace={'base = "world:api"': 'base = "https://api.safawinet.com"'}).api
