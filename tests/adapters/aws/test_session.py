"""The right account, the right endpoint, nobody's own AWS set-up."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from opsctl.adapters.aws.session import AwsSession, Caller
from opsctl.errors import ConfigurationError, CredentialsInvalid, WrongPlace


def test_the_caller_is_who_aws_says(fake) -> None:
    session = AwsSession(fake.config, sandbox=True, writing=False)
    assert session.caller == Caller("123456789012", "arn:aws:iam::123456789012:user/ops/jo", "jo")


def test_the_place_is_proven_once_for_reading_and_writing_together(fake) -> None:
    fake.answer = lambda: (200, '{"services": [], "Versions": []}')
    for writing in (False, True):
        session = AwsSession(fake.config, sandbox=True, writing=writing)
        session.call("ecs", "describe_services", services=["a"])
        session.call("secretsmanager", "list_secret_version_ids", SecretId="s")
    assert fake.seen["sts"] == 1


@pytest.mark.parametrize("writing", [False, True])
def test_another_account_stops_every_client(fake, writing: bool) -> None:
    config = replace(fake.config, account="999999999999")
    session = AwsSession(config, sandbox=True, writing=writing)
    for _ in range(2):
        with pytest.raises(WrongPlace) as caught:
            session.call("ecs", "describe_services", services=["a"])
    assert fake.config.account in caught.value.what
    assert "999999999999" in caught.value.what
    assert "999999999999" in caught.value.next
    assert set(fake.seen) == {"sts"}


@pytest.mark.parametrize("endpoint", [None, "https://ecs.us-east-1.amazonaws.com", "http://10.0.0.1:1", "http://127.evil.example"])
def test_the_sandbox_takes_no_endpoint_but_loopback(fake, endpoint: str | None) -> None:
    session = AwsSession(replace(fake.config, endpoint=endpoint), sandbox=True, writing=True)
    with pytest.raises(WrongPlace, match="not on this machine"):
        session.client("ecs")


def test_the_sandbox_ignores_the_persons_own_set_up(fake, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile other]\nregion = eu-west-1\nuse_fips_endpoint = true\n")
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = AKIAREAL\naws_secret_access_key = x\n")
    for name, value in {
        "AWS_PROFILE": "missing",
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SESSION_TOKEN": "token",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    session = AwsSession(fake.config, sandbox=True, writing=False)
    client = session.client("ecs")
    assert client.meta.region_name == "us-east-1"
    assert client._request_signer._credentials.access_key == "AKIATEST"
    assert client._request_signer._credentials.token is None
    assert fake.seen["sts"] == 1


@pytest.mark.usefixtures("_mocked")
def test_outside_the_sandbox_endpoint_variables_are_ignored(config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    session = AwsSession(config, sandbox=False, writing=False)
    assert session.client("ecs").meta.endpoint_url == "https://ecs.us-east-1.amazonaws.com"
    assert session.client("logs", "us-west-2").meta.endpoint_url == "https://logs.us-west-2.amazonaws.com"


def test_outside_the_sandbox_the_configuration_may_not_name_an_endpoint(config) -> None:
    session = AwsSession(replace(config, endpoint="http://127.0.0.1:9"), sandbox=False, writing=False)
    with pytest.raises(ConfigurationError):
        session.client("ecs")


def test_without_a_login_the_login_line_is_next(config) -> None:
    session = AwsSession(config, sandbox=False, writing=False)
    with pytest.raises(CredentialsInvalid) as caught:
        session.client("ecs")
    assert "aws sso login --profile oncall" in caught.value.next


def test_an_unknown_profile_is_a_missing_login(config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(CredentialsInvalid, match="missing"):
        AwsSession(config, sandbox=False, writing=False).client("ecs")


def test_threads_share_one_client(fake) -> None:
    session = AwsSession(fake.config, sandbox=True, writing=False)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(session.client("ecs"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


@pytest.mark.usefixtures("_mocked")
def test_a_login_by_role_passes_the_wall(config, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = x\n"
        "[profile oncall]\nrole_arn = arn:aws:iam::123456789012:role/oncall\nsource_profile = base\nrole_session_name = jo\n"
    )
    with monkeypatch.context() as alone:
        alone.delenv("AWS_ACCESS_KEY_ID")
        alone.delenv("AWS_SECRET_ACCESS_KEY")
        alone.setenv("AWS_PROFILE", "oncall")
        session = AwsSession(config, sandbox=False, writing=False)
        assert session.client("ecs")
    assert session.caller.arn == "arn:aws:sts::123456789012:assumed-role/oncall/jo"
    assert session.caller.user == "jo"
