"""A credential goes to a server that has proven its name, and to no other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accesses import access
from servers import CLEARTEXT, MD5, NO_PASSWORD, Authority, Pretender, postgres, redis, relay, web

from opsctl import certificates
from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.http.client import Http
from opsctl.adapters.redis.client import Redis
from opsctl.adapters.redis.endpoint import RedisEndpoint
from opsctl.adapters.sql.postgres import Postgres, PostgresEndpoint
from opsctl.errors import ConfigurationError, ExternalError, Refused, Untrusted, WrongPlace
from opsctl.redaction import Secret
from opsctl.settings import AwsSettings

PASSWORD = "the-database-password"
REAL = "safawinet-prod.cluster-c1.us-east-1.rds.amazonaws.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def database(port: int, *, host: str = REAL, **other: Any) -> Postgres:
    parts = {"tunnel": ("127.0.0.1", port), **other}
    return Postgres(PostgresEndpoint(host, port, "safawinet", "safawinet", Secret(PASSWORD), **parts), writing=True)


@pytest.mark.parametrize("ask", [CLEARTEXT, MD5, NO_PASSWORD], ids=["clear text", "md5", "no password"])
@pytest.mark.parametrize("names", [(REAL,), ("elsewhere.example",), ("127.0.0.1",)], ids=str)
def test_a_server_with_a_strangers_certificate_gets_no_password(stranger: Authority, authority: Authority, ask: bytes, names: Any) -> None:
    for ca in (str(authority.ca), certificates.SYSTEM):
        with Pretender(postgres(tls=True, ask=ask), stranger.issue(*names)).running() as thief:
            with pytest.raises(Untrusted, match="is not valid") as refused:
                database(thief.port, ca=ca).query("SELECT 1")
        assert refused.value.exit_code == 4
        assert certificates.RDS_BUNDLE in refused.value.next
        assert thief.connections == 1
        assert PASSWORD.encode() not in thief.heard
        assert b"safawinet" not in thief.heard


def test_a_certificate_for_another_name_is_not_enough(authority: Authority) -> None:
    with Pretender(postgres(tls=True, ask=CLEARTEXT), authority.issue("other.cluster-c1.us-east-1.rds.amazonaws.com")).running() as thief:
        with pytest.raises(Untrusted, match="does not match host name"):
            database(thief.port, ca=str(authority.ca)).query("SELECT 1")
    assert PASSWORD.encode() not in thief.heard


def test_a_server_without_tls_gets_no_password(authority: Authority) -> None:
    with Pretender(postgres(tls=False, ask=CLEARTEXT)).running() as thief:
        with pytest.raises(Untrusted, match="does not support SSL"):
            database(thief.port, ca=str(authority.ca)).query("SELECT 1")
    assert PASSWORD.encode() not in thief.heard


@pytest.mark.parametrize("ask", [CLEARTEXT, MD5, NO_PASSWORD], ids=["clear text", "md5", "no password"])
@pytest.mark.parametrize("over_tls", [True, False], ids=["TLS", "loopback"])
def test_only_a_proof_of_the_password_is_sent(authority: Authority, ask: bytes, over_tls: bool) -> None:
    with Pretender(postgres(tls=over_tls, ask=ask), authority.issue(REAL)).running() as thief:
        where = {"ca": str(authority.ca)} if over_tls else {"host": "127.0.0.1", "tunnel": None, "tls": False}
        with pytest.raises(Untrusted, match="insecure method") as refused:
            database(thief.port, **where).query("SELECT 1")
    assert "SCRAM" in refused.value.next
    assert PASSWORD.encode() not in thief.heard
    assert b"safawinet" in thief.heard


@pytest.mark.parametrize("host", ["203.0.113.9", REAL, "localhost.example", "127.0.0.1.example"])
@pytest.mark.parametrize("tunnel", [None, ("127.0.0.1", 1)], ids=["direct", "tunnel"])
def test_plain_text_is_for_this_machine_only(host: str, tunnel: Any) -> None:
    with pytest.raises(WrongPlace, match="tls = false"):
        database(1, host=host, tunnel=tunnel, tls=False).query("SELECT 1")


def test_localhost_is_this_machine_only_where_all_its_addresses_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.1", "203.0.113.9")]

    monkeypatch.setattr(socket, "getaddrinfo", elsewhere)
    with pytest.raises(WrongPlace, match="not on this machine"):
        database(1, host="localhost", tunnel=None, tls=False).query("SELECT 1")


@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_unusable_ca_is_an_error_of_the_configuration(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        database(1, ca=str(tmp_path / "ca.pem")).query("SELECT 1")


def test_a_ca_that_others_may_write_is_refused(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.ca.read_bytes())
    (tmp_path / "ca.pem").chmod(0o666)
    with pytest.raises(Refused, match="Other users may write"):
        database(1, ca=str(tmp_path / "ca.pem")).query("SELECT 1")


def test_the_systems_store_is_not_chosen_by_variables(monkeypatch: pytest.MonkeyPatch, stranger: Authority) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PGSSLROOTCERT"):
        monkeypatch.setenv(name, str(stranger.ca))
    monkeypatch.setenv("PGSSLMODE", "disable")
    with Pretender(postgres(tls=True, ask=CLEARTEXT), stranger.issue(REAL)).running() as thief:
        with pytest.raises(Untrusted):
            database(thief.port).query("SELECT 1")
    assert PASSWORD.encode() not in thief.heard


@pytest.fixture
def at(world: dict[str, str], authority: Authority) -> Iterator[Callable[..., Postgres]]:
    """Connects to the sandbox's PostgreSQL, before which TLS ends with a certificate of `authority` for REAL."""
    made: list[Postgres] = []
    with Pretender(relay(int(world["pg_port"])), authority.issue(REAL)).running() as door:

        def make(host: str = REAL, **other: Any) -> Postgres:
            parts = {"tunnel": ("127.0.0.1", door.port), **other}
            login = world["database"], world["pg_user"], Secret(world["pg_password"])
            made.append(Postgres(PostgresEndpoint(host, door.port, *login, **parts), writing=True))
            return made[-1]

        yield make
        for each in made:
            each.close()


def test_the_right_authority_and_name_work(at: Callable[..., Postgres], authority: Authority) -> None:
    assert at(ca=str(authority.ca)).query("SELECT 1 AS one") == [{"one": 1}]


def test_the_wrong_authority_or_name_is_refused(at: Callable[..., Postgres], authority: Authority, stranger: Authority) -> None:
    for wrong in ({"ca": str(stranger.ca)}, {}, {"ca": str(authority.ca), "host": "localhost", "tunnel": None}):
        with pytest.raises(Untrusted):
            at(**wrong).query("SELECT 1")


NODE = "master.safawinet.abc123.use1.cache.amazonaws.com"


def cache(port: int, *, writing: bool, host: str = NODE, **other: Any) -> Redis:
    parts = {"tls": True, "tunnel": ("127.0.0.1", port), **other}
    return Redis(RedisEndpoint(host, port, Secret(PASSWORD), **parts), writing=writing)


@pytest.mark.parametrize("names", [(NODE,), ("elsewhere.example",), ("127.0.0.1",)], ids=str)
@pytest.mark.parametrize("writing", [True, False])
def test_a_redis_with_a_strangers_certificate_gets_no_password(
    authority: Authority, stranger: Authority, names: Any, writing: bool
) -> None:
    for ca in (str(authority.ca), certificates.SYSTEM):
        with Pretender(redis(tls=True), stranger.issue(*names)).running() as thief:
            with pytest.raises(Untrusted, match="is not valid"):
                cache(thief.port, writing=writing, ca=ca).values(["key"])
        assert thief.connections
        assert PASSWORD.encode() not in thief.heard


def test_a_redis_with_a_certificate_for_another_name_gets_no_password(authority: Authority) -> None:
    with Pretender(redis(tls=True), authority.issue("other.abc123.use1.cache.amazonaws.com")).running() as thief:
        with pytest.raises(Untrusted, match="is not valid"):
            cache(thief.port, writing=True, ca=str(authority.ca)).values(["key"])
    assert PASSWORD.encode() not in thief.heard


def test_a_redis_without_tls_gets_no_password(authority: Authority) -> None:
    with Pretender(redis(tls=False)).running() as thief:
        with pytest.raises(Untrusted):
            cache(thief.port, writing=True, ca=str(authority.ca)).values(["key"])
    assert PASSWORD.encode() not in thief.heard


def test_a_redis_that_proves_its_name_gets_it(authority: Authority) -> None:
    with Pretender(redis(tls=True), authority.issue(NODE)).running() as server:
        assert cache(server.port, writing=True, ca=str(authority.ca)).values(["key"]) == ["OK"]
    assert PASSWORD.encode() in server.heard


def test_variables_choose_no_authority_for_redis(monkeypatch: pytest.MonkeyPatch, stranger: Authority, authority: Authority) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.ca))
    with Pretender(redis(tls=True), stranger.issue(NODE)).running() as thief:
        with pytest.raises(Untrusted):
            cache(thief.port, writing=True, ca=str(authority.ca)).values(["key"])
    assert PASSWORD.encode() not in thief.heard


@pytest.mark.parametrize("host", ["203.0.113.9", NODE])
@pytest.mark.parametrize("tunnel", [None, ("127.0.0.1", 1)], ids=["direct", "tunnel"])
def test_redis_gets_no_password_in_plain_text_on_another_machine(host: str, tunnel: Any) -> None:
    with pytest.raises(WrongPlace, match="tls = false"):
        cache(1, writing=True, host=host, tunnel=tunnel, tls=False).values(["key"])


def test_a_cluster_names_no_node_beyond_its_domain() -> None:
    place = RedisEndpoint("clustercfg.safawinet.abc123.use1.cache.amazonaws.com", 6379, Secret(PASSWORD), True, certificates.SYSTEM, None)
    assert place.arguments("safawinet-0001-001.safawinet.abc123.use1.cache.amazonaws.com", 6379)["password"] == PASSWORD
    for beyond in ("thief.example", "safawinet-0001-001.other.abc123.use1.cache.amazonaws.com", "203.0.113.9", "cache.amazonaws.com"):
        with pytest.raises(WrongPlace, match="in another domain"):
            place.arguments(beyond, 6379)


TOKEN = "the-token-of-the-api"


def ask(port: int, *, host: str = "localhost", proxy: str | None = None, **other: Any) -> None:
    http = Http(f"https://{host}:{port}", access(writing=True, sandbox=False, proxy=proxy), system="the API", **other)
    try:
        http.ask("GET", "/v1/me", headers={"Authorization": f"Bearer {TOKEN}"})
    finally:
        http.close()


@pytest.mark.parametrize("names", [("localhost",), ("elsewhere.example",)], ids=str)
def test_a_web_server_with_a_strangers_certificate_gets_no_token(authority: Authority, stranger: Authority, names: Any) -> None:
    for ca in (str(authority.ca), certificates.SYSTEM):
        with Pretender(web(tls=True), stranger.issue(*names)).running() as thief:
            with pytest.raises(Untrusted, match="is not valid"):
                ask(thief.port, ca=ca)
        assert thief.connections
        assert TOKEN.encode() not in thief.heard


def test_a_web_server_with_a_certificate_for_another_name_gets_no_token(authority: Authority) -> None:
    with Pretender(web(tls=True), authority.issue("elsewhere.example")).running() as thief:
        with pytest.raises(Untrusted, match="is not valid"):
            ask(thief.port, ca=str(authority.ca))
    assert TOKEN.encode() not in thief.heard


def test_a_web_server_that_proves_its_name_gets_it(authority: Authority) -> None:
    with Pretender(web(tls=True), authority.issue("localhost")).running() as server:
        ask(server.port, ca=str(authority.ca))
    assert TOKEN.encode() in server.heard


def test_a_redirection_takes_no_token_along(authority: Authority) -> None:
    with Pretender(web(tls=True), authority.issue("localhost")).running() as thief:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: https://localhost:{thief.port}/\r\nContent-Length: 0\r\n\r\n".encode()
        with Pretender(web(tls=True, answer=moved), authority.issue("localhost")).running() as server:
            with pytest.raises(ExternalError, match="307"):
                ask(server.port, ca=str(authority.ca))
    assert thief.connections == 0


def test_a_request_to_another_port_of_the_host_is_not_sent(authority: Authority) -> None:
    with Pretender(web(tls=True), authority.issue("localhost")).running() as thief:
        http = Http("https://localhost:1", access(writing=True, sandbox=False), system="the API", ca=str(authority.ca))
        with pytest.raises(WrongPlace, match="not at https:"):
            http.ask("GET", f"https://localhost:{thief.port}/")
    assert thief.connections == 0


def test_an_address_holds_no_credential() -> None:
    with pytest.raises(ConfigurationError, match="contains a credential") as refused:
        ask(1, host="somebody:a-password@localhost")
    assert "a-password" not in refused.value.what


STRAYS = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


def test_only_a_configured_proxy_is_used(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    with Pretender(web(tls=True), authority.issue("localhost")).running() as server, Pretender(web(tls=False)).running() as proxy:
        for name in STRAYS:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
        ask(server.port, ca=str(authority.ca))
        assert proxy.connections == 0
        with pytest.raises(ExternalError):
            ask(server.port, ca=str(authority.ca), proxy=f"http://127.0.0.1:{proxy.port}")
    assert proxy.heard.startswith(b"CONNECT localhost:")
    assert TOKEN.encode() not in proxy.heard


def session(**other: Any) -> AwsSession:
    return AwsSession(AwsSettings(account="123456789012", region="us-east-1", **other), sandbox=False, writing=False)


@pytest.fixture
def stray_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stranger: Authority) -> Path:
    """A login of the user's own, and everything else that the SDK would take from variables and files."""
    (tmp_path / "aws").write_text(
        f"[default]\nregion = eu-west-1\nca_bundle = {stranger.ca}\nendpoint_url = https://127.0.0.1:1\nservices = x\n"
        "[services x]\nsts =\n  endpoint_url = https://127.0.0.1:1\n"
    )
    variables = {
        "AWS_CONFIG_FILE": str(tmp_path / "aws"),
        "AWS_ACCESS_KEY_ID": "AKIAOFTHEUSERSOWN000",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": "https://127.0.0.1:1",
        "AWS_ENDPOINT_URL_STS": "https://127.0.0.1:1",
        "AWS_CA_BUNDLE": str(stranger.ca),
        "REQUESTS_CA_BUNDLE": str(stranger.ca),
        "CURL_CA_BUNDLE": str(stranger.ca),
        **dict.fromkeys(STRAYS, "http://127.0.0.1:1"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize("service", ["sts", "secretsmanager"])
def test_neither_variables_nor_files_say_where_aws_is_or_who_vouches_for_it(stray_login: Path, authority: Authority, service: str) -> None:
    for ca, used in ((certificates.SYSTEM, certificates.authorities()), (str(authority.ca), str(authority.ca))):
        made = session(ca=ca)
        for client in (made._create_client((service, "us-east-1")), made._botocore.create_client(service)):
            assert client.meta.endpoint_url == f"https://{service}.us-east-1.amazonaws.com"
            sender = client._endpoint.http_session
            assert sender._verify == used
            assert sender._proxy_config.proxy_url_for(client.meta.endpoint_url) is None


def test_aws_behind_a_configured_proxy_proves_its_name(stray_login: Path, stranger: Authority) -> None:
    def talk(connection: socket.socket, server: Pretender) -> None:
        assert server.listen(connection).startswith(b"CONNECT sts.us-east-1.amazonaws.com:443 ")
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        server.listen(server.secure(connection))

    with Pretender(talk, stranger.issue("sts.us-east-1.amazonaws.com")).running() as proxy:
        behind = AwsSession(
            AwsSettings(account="123456789012", region="us-east-1"), sandbox=False, writing=True, proxy=f"http://127.0.0.1:{proxy.port}"
        )
        with pytest.raises(Untrusted, match="is not valid"):
            behind.verify_account()
    assert proxy.connections
    assert b"AKIA" not in proxy.heard
