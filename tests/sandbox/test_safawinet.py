from __future__ import annotations

import concurrent.futures
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from folders import short_folder
from werkzeug.test import Client, TestResponse

from opsctl.sandbox import databases, facts, postgres, safawinet, valkey
from opsctl.sandbox.safawinet import FakeSafawinet
from opsctl.sandbox.seed import ADMIN_ID, SeedSizes, fill_keys
from opsctl.sandbox.services import SandboxContext
from opsctl.sandbox.tokens import ACCESS_TTL, AccessToken, access_token, token_hash, verify

SIZES = SeedSizes(users=20, sessions=100)
OTHER_KEY = "f" * 64


@dataclass
class FakeTask:
    id: str
    environment: dict[str, str]


@dataclass
class FakeAws:
    tasks: list[FakeTask]
    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    name: str = "aws"

    def running_tasks(self, cluster: str, service: str) -> list[FakeTask]:
        assert (cluster, service) == ("safawinet-prod", "safawinet-api-prod")
        return self.tasks

    def log(self, group: str, line: dict[str, Any]) -> None:
        self.lines.append((group, line))


@dataclass
class Rig:
    """One API over real stores, with a clock that a test may set ahead."""

    world: SandboxContext
    api: FakeSafawinet
    aws: FakeAws
    client: Client
    ahead: float = 0.0

    def post(self, path: str, body: dict[str, Any] | None = None, token: str = "", **headers: str) -> TestResponse:
        return self.client.post(path, json=body or {}, headers={**_bearer(token), **headers})

    def login(self, user: int = 5) -> dict[str, Any]:
        password = self.world.facts["admin_password" if user == ADMIN_ID else "user_password"]
        answer = self.post("/v1/auth/login", {"email": f"user{user}@example.com", "password": password})
        assert answer.status_code == 200, answer.text
        return dict(answer.get_json())

    def me(self, token: str) -> TestResponse:
        return self.client.get("/v1/auth/me", headers=_bearer(token))

    def refresh(self, token: str) -> TestResponse:
        return self.post("/v1/auth/refresh", {"refreshToken": token})

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with _superuser(self.world) as connection:
            return connection.execute(statement, parameters).fetchall()

    def execute(self, statement: str, *parameters: Any) -> None:
        with _superuser(self.world) as connection:
            connection.execute(statement, parameters)

    def cache(self) -> redis.Redis:
        return valkey.connect(int(self.world.facts["redis_port"]), self.world.facts["redis_password"])


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _superuser(world: SandboxContext) -> psycopg.Connection:
    port, password = int(world.facts["pg_port"]), world.facts["pg_superuser_password"]
    return postgres.connect(port, password, database=world.facts["database"])


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, str]]:
    # A short path: a unix socket's has 107 bytes at most.
    folder = short_folder()
    known = facts.new()
    try:
        _, pg_port = postgres.start(folder, 0, known["pg_superuser_password"])
        _, redis_port = valkey.start(folder, 0, known["redis_password"])
        yield known | {"pg_port": str(pg_port), "redis_port": str(redis_port)}
    finally:
        postgres.stop(folder)
        valkey.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def rig(stores: dict[str, str], tmp_path: Path) -> Iterator[Rig]:
    databases.reset(stores, SIZES)
    with valkey.connect(int(stores["redis_port"]), stores["redis_password"]) as cache:
        fill_keys(cache, SIZES)
    key = stores["jwt_secret"]
    aws = FakeAws([FakeTask("one", {"JWT_SECRET": key}), FakeTask("two", {"JWT_SECRET": key})])
    world = SandboxContext(folder=tmp_path, tempo=0, facts=dict(stores))
    world.parts["aws"] = aws  # type: ignore[assignment]
    api = safawinet.build(world)
    assert isinstance(api, FakeSafawinet)
    rig = Rig(world, api, aws, Client(api.app))
    real = world.clock
    world.clock = lambda: real() + rig.ahead
    yield rig
    api.reset()


def test_health_asks_both_stores(rig: Rig) -> None:
    assert rig.client.get("/health").get_json() == {"status": "ok"}
    rig.world.facts["pg_port"] = "1"
    rig.api.reset()
    assert rig.client.get("/health").get_json() == {"error": "database-unavailable"}


def test_no_running_task_is_unavailable(rig: Rig) -> None:
    rig.aws.tasks = []
    assert rig.client.get("/health").status_code == 503


def test_a_login_gives_a_token_that_says_who_it_is(rig: Rig) -> None:
    given = rig.login(5)
    assert rig.me(given["accessToken"]).get_json() == {"userId": "5", "email": "user5@example.com", "role": "user"}
    assert given["expiresIn"] == ACCESS_TTL == 900


def test_a_login_leaves_a_row_a_key_and_the_time(rig: Rig) -> None:
    given = rig.login(5)
    ((session, created_now),) = rig.rows(
        "SELECT id, now() - created_at < interval '1 minute' FROM refresh_sessions WHERE token_hash = %s",
        token_hash(given["refreshToken"]),
    )
    assert created_now
    with rig.cache() as cache:
        assert 0 < cache.ttl(f"session:5:{session}") <= 900
    assert rig.rows("SELECT now() - last_login_at < interval '1 minute' FROM users WHERE id = 5") == [(True,)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": "user5@example.com", "password": "wrong"}, 401),
        ({"email": "nobody@example.com", "password": "wrong"}, 401),
        ({"email": "user5@example.com"}, 400),
        ({"email": 5, "password": "x"}, 400),
    ],
)
def test_a_login_that_is_wrong_is_refused(rig: Rig, body: dict[str, Any], status: int) -> None:
    assert rig.post("/v1/auth/login", body).status_code == status


def test_a_body_that_is_no_object_is_refused(rig: Rig) -> None:
    assert rig.client.post("/v1/auth/login", data="[]").status_code == 400
    assert rig.client.post("/v1/auth/login", data="{").status_code == 400


def test_an_inactive_user_gets_no_token(rig: Rig) -> None:
    given = rig.login(5)
    rig.execute("UPDATE users SET is_active = false WHERE id = 5")
    body = {"email": "user5@example.com", "password": rig.world.facts["user_password"]}
    assert rig.post("/v1/auth/login", body).status_code == 403
    assert rig.refresh(given["refreshToken"]).status_code == 403
    rig.execute("UPDATE users SET is_active = true WHERE id = 5")
    assert rig.refresh(given["refreshToken"]).status_code == 200


def test_a_refresh_rotates(rig: Rig) -> None:
    first = rig.login(5)
    second = rig.refresh(first["refreshToken"])
    assert second.status_code == 200
    assert rig.me(second.get_json()["accessToken"]).status_code == 200
    assert rig.refresh(first["refreshToken"]).get_json() == {"error": "bad-refresh-token"}
    assert rig.refresh(second.get_json()["refreshToken"]).status_code == 200


def test_a_refresh_moves_the_session_s_key_along(rig: Rig) -> None:
    first = rig.login(5)
    before = _sid(rig, first)
    after = _sid(rig, rig.refresh(first["refreshToken"]).get_json())
    with rig.cache() as cache:
        assert cache.exists(f"session:5:{before}") == 0
        assert cache.exists(f"session:5:{after}") == 1


def test_a_refreshed_session_has_a_new_time_of_creation_so_a_deletion_by_cutoff_misses_it(rig: Rig) -> None:
    given = rig.login(5)
    ((cutoff,),) = rig.rows("SELECT now()")
    renewed = rig.refresh(given["refreshToken"]).get_json()
    rig.execute("DELETE FROM refresh_sessions WHERE created_at <= %s", cutoff)
    assert rig.refresh(renewed["refreshToken"]).status_code == 200


def test_a_refresh_token_is_spent_once_however_many_ask(rig: Rig) -> None:
    token = rig.login(5)["refreshToken"]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: rig.refresh(token).status_code, range(6)))
    assert sorted(answers) == [200] + [401] * 5


def test_an_expired_refresh_token_is_refused(rig: Rig) -> None:
    token = rig.login(5)["refreshToken"]
    rig.execute("UPDATE refresh_sessions SET expires_at = now() WHERE token_hash = %s", token_hash(token))
    assert rig.refresh(token).status_code == 401


def test_a_seeded_session_can_be_refreshed(rig: Rig) -> None:
    assert rig.refresh("seeded-refresh-3").status_code == 200


def test_a_stolen_access_token_outlives_its_row_its_key_and_a_logout(rig: Rig) -> None:
    stolen = rig.login(5)
    assert rig.post("/v1/auth/logout", token=stolen["accessToken"]).get_json() == {"ended": 1}
    rig.execute("DELETE FROM refresh_sessions")
    with rig.cache() as cache:
        for key in cache.scan_iter("session:*"):
            cache.delete(key)
    assert rig.me(stolen["accessToken"]).status_code == 200


def test_a_stolen_access_token_dies_by_the_mark_of_all(rig: Rig) -> None:
    stolen = rig.login(5)
    assert rig.post("/v1/auth/force-logout-all", token=rig.login(ADMIN_ID)["accessToken"]).status_code == 200
    assert rig.me(stolen["accessToken"]).get_json() == {"error": "revoked-token"}
    rig.ahead = 1
    assert rig.me(rig.login(5)["accessToken"]).status_code == 200


def test_a_stolen_access_token_dies_by_its_user_s_mark_and_others_live(rig: Rig) -> None:
    admin, stolen, other = rig.login(ADMIN_ID), rig.login(5), rig.login(6)
    assert rig.post("/v1/auth/force-logout", {"userId": "5"}, admin["accessToken"]).status_code == 200
    assert rig.me(stolen["accessToken"]).status_code == 401
    assert rig.refresh(stolen["refreshToken"]).status_code == 401
    assert rig.me(other["accessToken"]).status_code == 200
    assert rig.refresh(other["refreshToken"]).status_code == 200


def test_a_mark_ends_what_was_issued_in_its_own_millisecond_and_nothing_later(rig: Rig) -> None:
    key, issued = rig.world.facts["jwt_secret"], int(rig.world.clock() * 1000)
    with rig.cache() as cache:
        cache.set("auth:revoked:user:5", issued)
    at, after = (access_token(AccessToken(5, "user", 0, issued + later), key) for later in (0, 1))
    assert rig.me(at).status_code == 401
    assert rig.me(after).status_code == 200


def test_a_refresh_looks_at_the_row_and_not_at_the_marks(rig: Rig) -> None:
    given = rig.login(5)
    with rig.cache() as cache:
        cache.set("auth:revoked:all", int(rig.world.clock() * 1000))
    assert rig.me(given["accessToken"]).status_code == 401
    assert rig.refresh(given["refreshToken"]).status_code == 200


def test_a_stolen_access_token_dies_by_the_key(rig: Rig) -> None:
    stolen = rig.login(5)
    rig.aws.tasks = [FakeTask("three", {"JWT_SECRET": OTHER_KEY})]
    assert rig.me(stolen["accessToken"]).get_json() == {"error": "bad-signature"}
    renewed = rig.refresh(stolen["refreshToken"]).get_json()
    assert rig.me(renewed["accessToken"]).status_code == 200


def test_while_old_and_new_tasks_run_each_knows_its_own_key_only(rig: Rig) -> None:
    token = rig.login(5)["accessToken"]
    rig.aws.tasks = [rig.aws.tasks[0], FakeTask("three", {"JWT_SECRET": OTHER_KEY})]
    assert sorted(rig.me(token).status_code for _ in range(4)) == [200, 200, 401, 401]


def test_a_login_is_signed_by_the_task_that_served_it(rig: Rig) -> None:
    rig.aws.tasks = [FakeTask("three", {"JWT_SECRET": OTHER_KEY})]
    assert verify(rig.login(5)["accessToken"], OTHER_KEY, rig.world.clock()).user_id == 5


def test_an_access_token_expires(rig: Rig) -> None:
    token = rig.login(5)["accessToken"]
    rig.ahead = ACCESS_TTL + 1
    assert rig.me(token).get_json() == {"error": "expired-token"}


def test_logout_ends_that_session_only(rig: Rig) -> None:
    first, second, third = rig.login(5), rig.login(5), rig.login(5)
    rig.post("/v1/auth/logout", token=first["accessToken"])
    rig.post("/v1/auth/logout", {"refreshToken": second["refreshToken"]})
    assert [rig.refresh(each["refreshToken"]).status_code for each in (first, second, third)] == [401, 401, 200]


def test_force_logout_takes_the_user_s_rows_and_keys_and_says_how_many(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    ((before,),) = rig.rows("SELECT count(*) FROM refresh_sessions WHERE user_id = 5")
    ((others,),) = rig.rows("SELECT count(*) FROM refresh_sessions WHERE user_id <> 5")
    answer = rig.post("/v1/auth/force-logout", {"userId": 5}, admin).get_json()
    assert answer["revoked"] == before > 0
    assert answer["at"].endswith("Z")
    assert len(answer["at"]) == len("2026-01-01T00:00:00.000Z")
    assert rig.rows("SELECT count(*) FROM refresh_sessions WHERE user_id <> 5") == [(others,)]
    with rig.cache() as cache:
        assert not list(cache.scan_iter("session:5:*"))
        assert list(cache.scan_iter("session:*"))


def test_force_logout_all_takes_every_row_and_key_and_nothing_else(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    assert rig.post("/v1/auth/force-logout-all", token=admin).get_json()["revoked"] == SIZES.sessions + 1
    assert rig.rows("SELECT count(*) FROM refresh_sessions") == [(0,)]
    with rig.cache() as cache:
        assert not list(cache.scan_iter("session:*"))
        assert cache.dbsize() == SIZES.foreign_keys + 1
        assert cache.exists("auth:revoked:all") == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/auth/force-logout"),
        ("POST", "/v1/auth/force-logout-all"),
        ("POST", "/v1/notifications/maintenance"),
        ("GET", "/v1/notifications/maintenance"),
    ],
)
def test_only_an_administrator_may(rig: Rig, method: str, path: str) -> None:
    user = rig.login(5)["accessToken"]
    body = {"userId": "5", "message": "m", "duration": "2h"}
    for key in ({}, {"Idempotency-Key": "k"}):
        given = {token: _bearer(token) | key for token in ("", "nonsense", user)}
        answers = [rig.client.open(path, method=method, json=body, headers=given[token]) for token in given]
        assert [answer.status_code for answer in answers] == [401, 401, 403]
    assert rig.me(user).status_code == 200


def test_an_unknown_user_is_not_found(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    for user in ("999", "user_id_here", None):
        assert rig.post("/v1/auth/force-logout", {"userId": user}, admin).status_code == 404


def test_the_same_idempotency_key_answers_again_without_a_second_effect(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    headers = {"Idempotency-Key": "run-1/step-2"}
    first = rig.post("/v1/auth/force-logout", {"userId": "5"}, admin, **headers).get_json()
    rig.ahead = 1
    since = rig.login(5)
    assert rig.post("/v1/auth/force-logout", {"userId": "5"}, admin, **headers).get_json() == first
    assert rig.me(since["accessToken"]).status_code == 200
    assert rig.refresh(since["refreshToken"]).status_code == 200
    with rig.cache() as cache:
        assert 0 < cache.ttl("idempotency:run-1/step-2") <= 3600


def test_a_token_that_its_own_call_revoked_still_hears_the_answer(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    headers = {"Idempotency-Key": "run-1/step-3"}
    first = rig.post("/v1/auth/force-logout-all", token=admin, **headers)
    assert rig.me(admin).status_code == 401
    assert rig.post("/v1/auth/force-logout-all", token=admin, **headers).get_json() == first.get_json()
    assert rig.post("/v1/auth/force-logout-all", token=admin).status_code == 401


def test_an_idempotency_key_is_one_request_s(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    headers = {"Idempotency-Key": "k"}
    assert rig.post("/v1/auth/force-logout", {"userId": "5"}, admin, **headers).status_code == 200
    assert rig.post("/v1/auth/force-logout", {"userId": "6"}, admin, **headers).status_code == 422
    assert rig.rows("SELECT count(*) > 0 FROM refresh_sessions WHERE user_id = 6") == [(True,)]


def test_a_refused_call_does_not_use_its_idempotency_key_up(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    for status in (404, 200):
        answer = rig.post("/v1/auth/force-logout", {"userId": "21"}, admin, **{"Idempotency-Key": "k"})
        assert answer.status_code == status
        rig.execute("INSERT INTO users (id, email, password_hash) VALUES (21, 'new@example.com', '') ON CONFLICT DO NOTHING")


def test_a_call_that_is_still_running_is_not_begun_again(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: rig.post("/v1/auth/force-logout", {"userId": "5"}, admin, **{"Idempotency-Key": "k"}), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.text for answer in answers if answer.status_code == 200}) == 1


def test_announcements_are_kept(rig: Rig) -> None:
    admin = rig.login(ADMIN_ID)["accessToken"]
    said = {"message": "Scheduled maintenance in 30 minutes", "duration": "2 hours"}
    assert rig.post("/v1/notifications/maintenance", said, admin).status_code == 200
    kept = rig.client.get("/v1/notifications/maintenance", headers=_bearer(admin)).get_json()["announcements"]
    assert [{key: each[key] for key in said} for each in kept] == [said]
    rig.api.reset()
    assert rig.client.get("/v1/notifications/maintenance", headers=_bearer(admin)).get_json() == {"announcements": []}


def test_every_request_leaves_a_line_without_secrets(rig: Rig) -> None:
    given = rig.login(5)
    rig.me(given["accessToken"])
    assert [(line["method"], line["path"], line["status"], line["user_id"]) for line in rig.api.lines] == [
        ("POST", "/v1/auth/login", 200, 5),
        ("GET", "/v1/auth/me", 200, 5),
    ]
    assert rig.aws.lines == [("/ecs/safawinet-api", line) for line in rig.api.lines]
    kept = json.dumps(list(rig.api.lines))
    assert not any(secret in kept for secret in (given["accessToken"], given["refreshToken"]))
    assert {line["task"] for line in rig.api.lines} == {"one", "two"}


def test_the_api_finds_its_database_again_after_every_connection_was_ended(rig: Rig) -> None:
    assert rig.client.get("/health").status_code == 200
    databases.reset(rig.world.facts, SIZES)
    assert rig.client.get("/health").status_code == 200


def test_an_operation_is_the_route_s_template(rig: Rig) -> None:
    assert rig.api.operation({"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/auth/login", **HOST}) == "POST /v1/auth/login"
    assert rig.api.operation({"REQUEST_METHOD": "GET", "PATH_INFO": "/other", **HOST}) == "GET /other"
    assert rig.client.get("/other").status_code == 404
    assert rig.client.get("/v1/auth/login").status_code == 405


HOST = {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "wsgi.url_scheme": "http"}


def _sid(rig: Rig, given: dict[str, Any]) -> int:
    return verify(given["accessToken"], rig.world.facts["jwt_secret"], rig.world.clock()).session_id
