from __future__ import annotations

import base64
from pathlib import Path

import pytest
from werkzeug.test import Client

from opsctl.sandbox import ghcr
from opsctl.sandbox.services import SandboxContext

IMAGE = "/v2/hh/app/manifests/latest"
SCOPE = "repository:hh/app:pull"
OCI = {"Accept": "application/vnd.oci.image.index.v1+json"}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(ghcr.build(SandboxContext(tmp_path)).app)


def _token(client: Client, pat: str, scope: str = SCOPE) -> str:
    login = base64.b64encode(f"hh-partner:{pat}".encode()).decode()
    answer = client.get("/token", query_string={"service": "ghcr.io", "scope": scope}, headers={"Authorization": f"Basic {login}"})
    assert answer.status_code == 200
    return str(answer.get_json()["token"])


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **OCI}


@pytest.mark.parametrize("pat", ["ghp_sandbox", "ghp_sandbox_next"])
def test_a_good_login_reads_a_manifest(client: Client, pat: str) -> None:
    token = _token(client, pat)
    answer = client.head(IMAGE, headers=_bearer(token))
    assert answer.status_code == 200
    assert answer.headers["Docker-Content-Digest"].startswith("sha256:")
    assert answer.data == b""
    assert client.get(IMAGE, headers=_bearer(token)).get_json(force=True)["schemaVersion"] == 2


def test_a_wrong_login_gets_a_token_that_reads_nothing(client: Client) -> None:
    answer = client.head(IMAGE, headers=_bearer(_token(client, "wrong")))
    assert answer.status_code == 403


def test_a_token_is_good_for_its_scope_only(client: Client) -> None:
    token = _token(client, "ghp_sandbox", "repository:hh/other:pull")
    assert client.head(IMAGE, headers=_bearer(token)).status_code == 403


def test_no_token_is_told_where_to_get_one(client: Client) -> None:
    answer = client.get(IMAGE, headers=OCI)
    assert answer.status_code == 401
    assert SCOPE in answer.headers["WWW-Authenticate"]


def test_an_index_needs_an_accept_that_knows_it(client: Client) -> None:
    headers = _bearer(_token(client, "ghp_sandbox"))
    docker = headers | {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    assert client.head(IMAGE, headers=docker).status_code == 404


def test_the_world_s_facts_name_the_access_token(tmp_path: Path) -> None:
    client = Client(ghcr.build(SandboxContext(tmp_path, facts={"ghcr_pat": "mine"})).app)
    assert client.head(IMAGE, headers=_bearer(_token(client, "mine"))).status_code == 200
    assert client.head(IMAGE, headers=_bearer(_token(client, "ghp_sandbox"))).status_code == 403


def test_an_operation_keeps_the_method(tmp_path: Path) -> None:
    part = ghcr.build(SandboxContext(tmp_path))
    environ = {"PATH_INFO": IMAGE, "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "wsgi.url_scheme": "http"}
    for method in ("HEAD", "GET"):
        operation = part.operation({**environ, "REQUEST_METHOD": method})
        assert operation == f"{method} /v2/{{organisation}}/{{image}}/manifests/{{tag}}"


def test_reset_forgets_tokens(tmp_path: Path) -> None:
    part = ghcr.build(SandboxContext(tmp_path))
    client = Client(part.app)
    token = _token(client, "ghp_sandbox")
    part.reset()
    assert client.head(IMAGE, headers=_bearer(token)).status_code == 401
