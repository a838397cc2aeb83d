"""Law 8: the right place. The account, the endpoints and the environment are the configured ones, or nothing runs."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from by_hand import by_hand, script
from scenarios import Rehearsed, each, some
from world import World

from opsctl import config
from opsctl.adapters.aws.session import AwsSession
from opsctl.cli import script as scripts
from opsctl.settings import AwsSettings

ELSEWHERE = "203.0.113.9"
STRAYS = {
    "AWS_ENDPOINT_URL": f"http://{ELSEWHERE}:1",
    "AWS_ENDPOINT_URL_ECS": f"http://{ELSEWHERE}:1",
    "AWS_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "AKIAPRODUCTION",
    "AWS_SECRET_ACCESS_KEY": "not-ours",
    "AWS_SESSION_TOKEN": "not-ours",
    "AWS_REGION": "eu-central-1",
    "PGHOST": ELSEWHERE,
    "PGPORT": "1",
    "PGUSER": "somebody",
    "PGDATABASE": "elsewhere",
    "PGSERVICE": "production",
    "PGOPTIONS": "-c search_path=elsewhere",
    "REDIS_URL": f"redis://{ELSEWHERE}:1/0",
    "HTTP_PROXY": f"http://{ELSEWHERE}:1",
    "HTTPS_PROXY": f"http://{ELSEWHERE}:1",
    "ALL_PROXY": f"http://{ELSEWHERE}:1",
}


@each()
def test_in_another_account_nothing_runs(it: Rehearsed) -> None:
    it.world.configure(replace={"123456789012": "999999999999"}, add=it.scenario.config)
    for refused in (it.dry(check=4), it.run(check=4)):
        assert refused.json["result"] == "refused"
        assert "999999999999" in refused.err
        assert "123456789012" in refused.err
    it.untouched()


@some()
def test_a_sandbox_beyond_this_machine_is_refused(it: Rehearsed) -> None:
    it.world.configure(replace={'"world:aws"': f'"http://{ELSEWHERE}:4566"'}, add=it.scenario.config)
    for refused in (it.dry(check=4), it.run(check=4)):
        assert "not on this machine" in refused.err
    it.untouched()


def test_an_api_beyond_this_machine_is_refused(world: World) -> None:
    world.configure(replace={'base = "world:api"': f'base = "https://{ELSEWHERE}"'})
    before = world.snapshot()
    assert "not on this machine" in world.opsctl("logout", "all", "-y", check=4).err
    assert world.snapshot() == before


@some()
def test_stray_variables_lead_nowhere_else(it: Rehearsed) -> None:
    it.env.update(STRAYS)
    it.run(check=0)
    assert it.scenario.so(it.world)


def test_production_ignores_stray_endpoints(machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STRAYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE")
    session = AwsSession(AwsSettings(account="123456789012", region="us-east-1"), sandbox=False, writing=False)
    for service in ("sts", "ecs", "secretsmanager"):
        client = session._create_client((service, "us-east-1"))
        assert client.meta.endpoint_url == f"https://{service}.us-east-1.amazonaws.com"


def test_no_environment_is_the_default(world: World) -> None:
    refused = world.opsctl("service", "scale", "api", "3", "-y", env={"OPSCTL_ENV": ""})
    assert refused.code == 2
    assert "--env NAME" in refused.err


def test_an_unknown_environment_names_those_there_are(world: World) -> None:
    refused = world.opsctl("-e", "prodd", "service", "scale", "api", "3", "-y")
    assert refused.code == 2
    assert "sandbox" in refused.err


VIEWS = [
    ("status",),
    ("service", "status"),
    ("secrets", "list"),
    ("auth", "verify"),
    ("sessions", "list", "--user", "3"),
    ("downloads", "show", "156855158284"),
    ("database", "connections"),
    ("alarms", "check"),
    ("bounces", "stats"),
]
TOKENS = {
    'token = { aws = "safawinet/prod/admin-token", key = "token" }': 'token = { env = "A_TOKEN" }',
    'token = { aws = "/hh/prod/hubspot/token", key = "token", region = "us-west-2" }': 'token = { env = "A_TOKEN" }',
    'token = { aws = "safawinet/prod/sentry", key = "token" }': 'token = { file = "/nowhere/token" }',
}


@pytest.mark.parametrize("view", VIEWS, ids=" ".join)
def test_a_view_in_another_account_reads_and_sends_no_credential(world: World, view: tuple[str, ...]) -> None:
    """A token of this machine (`env`, `file`) would need no AWS at all."""
    world.configure(replace={'account = "123456789012"': 'account = "999999999999"', **TOKENS})
    refused = world.opsctl(*view, env={"A_TOKEN": "a-token-of-the-users-own"})
    assert refused.code == 4
    assert "999999999999" in refused.err
    assert refused.out == ""
    assert "/nowhere/token" not in refused.err


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('reader = { aws = "safawinet/prod/database-reader" }', "reader = {{ aws = '{}' }}", "database.reader.aws"),
        ('id = "safawinet/prod/jwt"', "id = '{}'", "secrets.jwt.id"),
        ('password = { aws = "safawinet/prod/redis", key = "password" }', "password = {{ aws = '{}' }}", "redis.password.aws"),
    ],
)
def test_a_secret_of_another_account_is_refused(world: World, old: str, new: str, key: str) -> None:
    world.configure(replace={old: new.format("arn:aws:secretsmanager:us-east-1:999999999999:secret:theirs-AbCdEf")})
    refused = world.opsctl("service", "status", check=2)
    assert f"{key}: expected a secret of account 123456789012, got one of 999999999999" in refused.err


def test_the_operator_is_whom_the_system_knows(world: World) -> None:
    """Variables name anybody."""
    names = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"), "ceo")
    world.opsctl("service", "scale", "api", "3", "-y", env=names, check=0)
    (run,) = world.opsctl("-o", "json", "runs", "list", check=0).json
    assert run["operator"].startswith(f"{pwd.getpwuid(os.getuid()).pw_name}@")
    shown = world.opsctl("runs", "show", run["run"], check=0).out
    assert "ceo" not in shown
    assert "user/oncall" in shown


def test_stray_variables_lead_a_script_nowhere_else(world: World) -> None:
    text = script(world, "service", "scale", "api", "3")
    thieves = {
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_ENDPOINT_URL_STS": f"http://{ELSEWHERE}:1",
        "AWS_ENDPOINT_URL_ECS": f"http://{ELSEWHERE}:1",
    }
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:1")
    done = by_hand(world, text, env={**thieves, **proxies})
    assert done.code == 0, f"{text}\n{done}"
    assert world.service("api")["desiredCount"] == 3


@pytest.mark.parametrize(
    ("add", "line"), [("", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"), ('ca = "/etc/ca.pem"\n', "AWS_CA_BUNDLE"), ("", "unset ")]
)
def test_a_script_takes_proxy_and_authorities_from_the_configuration(tmp_path: Path, add: str, line: str) -> None:
    (tmp_path / "place.toml").write_text(
        f'title = "x"\nproxy = "http://proxy:3128"\n[aws]\naccount = "123456789012"\nregion = "us-east-1"\n{add}'
    )
    made = str(scripts.script(config.load("place", str(tmp_path)), "x", []))
    assert line in made
    assert "http://proxy:3128" in made
