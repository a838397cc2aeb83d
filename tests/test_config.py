"""A configuration is read whole: whatever is wrong is told with its file, its key and what was expected."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl import config
from opsctl.errors import ConfigurationError
from opsctl.settings import Duration

DATABASE = '[database]\nname = "x"\nlogin = { env = "A" }\nreader = { env = "B" }\n'
SESSIONS = '[sessions]\ntable = "s"\nuser-column = "u"\nusers-table = "users"\nredis-patterns = ["s:*"]\n'
AWS = 'title = "a place"\n[aws]\naccount = "123456789012"\nregion = "us-east-1"\n'
WRONG = """
title = "x"
protcted = true
[aws]
acount = "1"
region = "r"
[limits]
pool-share = 8.0
[services.api]
cluster = ""
service = "s"
[redis]
cluster = "c"
password = "hunter2"
[secrets.jwt]
id = "i"
consumers = ["web"]
[sentry]
organization = "o"
project = "p"
token = { evn = "T" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("OPSCTL_SANDBOX", raising=False)
    made = tmp_path / "config"
    made.mkdir()
    return made


def load(folder: Path, text: str | bytes, name: str = "place") -> config.Environment:
    (folder / f"{name}.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return config.load(name, str(folder))


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('title = "x\n', "", "is not TOML"),
        (b"\xff\xfe", "", "is not TOML"),
        ("", "title", "missing"),
        ('title = "x"\n', "aws", "missing"),
        ("what = 1\n" + AWS, "what", "unknown key"),
        (AWS + "what = 1\n", "aws.what", "unknown key"),
        (AWS.replace('"123456789012"', "123456789012"), "aws.account", "expected text, got a whole number"),
        (AWS + '[limits]\nrecently = "2 minutes"\n', "limits.recently", "a duration such as 90s"),
        (AWS + "[limits]\nrecently = 5\n", "limits.recently", "a duration such as 90s"),
        (AWS + '[limits]\nrecently = "99999999999999999999d"\n', "limits.recently", "a duration such as 90s"),
        (AWS + "[limits]\nmax-affected = -1\n", "limits.max-affected", "expected a whole number >= 0"),
        (AWS + '[limits]\nmax-affected = "many"\n', "limits.max-affected", "expected a whole number, got text"),
        (AWS + "[limits]\npool-share = 8.0\n", "limits.pool-share", "<= 1"),
        (
            AWS + '[secrets.one]\nid = "x"\n[secrets.jwt]\nid = "x"\nkind = "odd"\n',
            "secrets.jwt.kind",
            "expected one of generic, managed, function, database, redis, got 'odd'",
        ),
        (AWS + '[services.api]\ncluster = "x"\n', "services.api.service", "missing"),
        (AWS + '[secrets.jwt]\nid = "x"\nconsumers = ["nobody"]\n', "secrets.jwt.consumers[0]", "there is no [services.nobody]"),
        (AWS + '[api]\nbase = "x"\ntoken = { env = "T" }\nsigned-by = "nothing"\n', "api.signed-by", "there is no secret of this name"),
        (AWS + '[redis]\ncluster = "x"\npassword = { aws = "a", env = "b" }\n', "redis.password", "exactly one of aws, env, file"),
        (AWS + '[redis]\ncluster = "x"\npassword = {}\n', "redis.password", "exactly one of aws, env, file"),
        (AWS + DATABASE, "database", "exactly one of cluster, instance"),
        (AWS + DATABASE + 'cluster = "x"\ninstance = "x"\n', "database", "exactly one of cluster, instance"),
        (AWS + DATABASE + 'cluster = "x"\ntunnel = "localhost:5433"\n', "database", "ADDRESS:PORT"),
        (AWS + DATABASE + 'cluster = "x"\ntunnel = "127.0.0.1:99999"\n', "database", "ADDRESS:PORT"),
        (AWS + '[redis]\ncluster = "x"\ntunnel = "127.0.0.1"\n', "redis", "ADDRESS:PORT"),
        (AWS + DATABASE + 'instance = "x"\ndriver = "rds-data"\n', "database", "an instance has no Data API"),
        (AWS + SESSIONS, "sessions", "redis-user-pattern"),
        (AWS + SESSIONS + 'redis-user-pattern = "s:{id}:*"\n', "sessions", "got 's:{id}:*'"),
        (AWS + SESSIONS + 'redis-user-pattern = "s:{user}:{user}"\n', "sessions", "{user} once"),
        (AWS + SESSIONS + 'redis-user-pattern = "s:{user}*"\n', "sessions", "no *, ? or [] next to it"),
        (AWS + SESSIONS.replace("s:*", "") + 'redis-user-pattern = "s:{user}:*"\n', "sessions", "fill in redis-patterns[0]"),
        (AWS + '[api]\nbase = "x"\ntoken = { env = "T" }\nrevocations = "r:{x}"\n', "api", "{who} once in revocations, got 'r:{x}'"),
        (AWS + '[[people]]\nname = "x"\n', "people[0].role", "missing"),
        ("sandbox = 1\n" + AWS, "sandbox", "expected true or false"),
    ],
)
def test_what_is_wrong_names_file_key_and_expectation(folder: Path, text: str | bytes, key: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    assert str(folder / "place.toml") in caught.value.what
    (line,) = caught.value.details or [caught.value.what]
    assert key in line
    assert expected in line
    assert caught.value.next


@pytest.mark.parametrize(
    "text",
    [
        AWS + SESSIONS.replace("[sessions]", '[sessions]\nsigning-secret = "s3cr3t-value"') + 'redis-user-pattern = "s:{user}:*"\n',
        AWS + '[api]\nbase = "x"\ntoken = { env = "T" }\nsigned-by = "s3cr3t-value"\n',
        AWS + '[limits]\nrecently = { password = "s3cr3t-value" }\n',
        AWS + '[redis]\ncluster = "x"\npassword = "s3cr3t-value"\n',
    ],
)
def test_a_credential_in_the_wrong_place_is_not_shown(folder: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    assert "s3cr3t" not in json.dumps(caught.value.as_json())


def test_a_pattern_may_hold_other_braces(folder: Path) -> None:
    """Redis Cluster's hash tags are written with them."""
    found = load(folder, AWS + SESSIONS + 'redis-user-pattern = "{{user}}:s:*"\n').settings.sessions
    assert found is not None
    assert found.redis_user_pattern == "{{user}}:s:*"


def test_all_errors_are_shown_at_once_with_the_nearest_key(folder: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, WRONG)
    found = [*map(str, caught.value.details)]
    assert found[0].startswith("protcted: unknown key; did you mean protected? Keys: title, protected,")
    assert found[1:] == [
        "aws.acount: unknown key; did you mean account? Keys: account, region, login, ca, kms-keys, endpoint, "
        "access-key-id, secret-access-key",
        "aws.account: missing",
        "limits.pool-share: expected a number <= 1.0",
        'redis.password: expected a table, such as { aws = "NAME" }, got text',
        "sentry.token.evn: unknown key; did you mean env? Keys: aws, key, region, env, file",
        "services.api: fill in cluster",
        "secrets.jwt.consumers[0]: there is no [services.web]. Known: api",
    ]
    assert caught.value.as_json()["details"] == found


@pytest.mark.parametrize("name", ["prod", "staging"])
def test_a_shipped_file_is_refused_until_it_is_filled_in(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigurationError) as caught:
        config.load(name)
    assert all(": fill in " in line for line in caught.value.details)
    assert any(line.startswith("aws: fill in account") for line in caught.value.details)
    assert f"cp {config.shipped('config') / name}.toml {folder.parent / 'home' / 'opsctl' / name}.toml" in caught.value.next


@pytest.mark.parametrize("name", ["prod", "staging"])
def test_a_shipped_file_that_is_filled_in_is_right(folder: Path, name: str) -> None:
    text = (config.shipped("config") / f"{name}.toml").read_text()
    text = re.sub(r'^(portal|app-id|subscription-id) = ""', r"\1 = 1", text, flags=re.MULTILINE)
    text = text.replace('redis-user-pattern = ""', 'redis-user-pattern = "s:{user}"').replace('""', '"filled-in"')
    found = load(folder, text, name).settings
    assert found.protected is (name == "prod")
    assert not found.sandbox


@pytest.mark.parametrize("name", ["prod", "staging"])
def test_a_shipped_file_contains_no_name_of_the_sandbox(name: str) -> None:
    """Values that only the sandbox chose: a real system has others."""
    text = (config.shipped("config") / f"{name}.toml").read_text()
    for invented in (
        "891472211",
        "7906213",
        "686627",
        "safawinet/",
        "session:",
        "safawinet-worker",
        "safawinet-blocked",
        "hh-prod",
        "000000",
    ):
        assert invented not in text


@pytest.mark.parametrize(("ca", "found"), [("ca.pem", "{folder}/ca.pem"), ("/etc/ca.pem", "/etc/ca.pem"), ("system", "system")])
def test_a_relative_ca_is_beside_the_file(folder: Path, ca: str, found: str) -> None:
    settings = load(folder, AWS + DATABASE + f'cluster = "x"\nca = "{ca}"\n').settings
    assert settings.database is not None
    assert settings.database.ca == found.format(folder=folder)


@pytest.mark.parametrize("name", ["nowhere", "../place", "place/..", "", "a b", "place.toml"])
def test_an_unknown_environment_lists_those_there_are(folder: Path, name: str) -> None:
    load(folder, AWS)
    with pytest.raises(ConfigurationError) as caught:
        config.load(name, str(folder))
    assert "place" in caught.value.next


def test_a_file_that_may_not_be_read_says_so(folder: Path) -> None:
    (folder / "place.toml").mkdir()
    with pytest.raises(ConfigurationError):
        config.load("place", str(folder))


def test_the_digest_tells_any_edit(folder: Path) -> None:
    assert load(folder, AWS).digest != load(folder, AWS + "\n").digest


def test_names_that_the_file_lacks_are_told_with_those_it_has(folder: Path) -> None:
    place = load(folder, AWS + '[services.api]\ncluster = "c"\nservice = "s"\n')
    with pytest.raises(ConfigurationError, match=r"There is no service 'web' in place\. Known: api"):
        place.service("web")
    with pytest.raises(ConfigurationError, match=r"There is no secret 'jwt' in place\. Known: none"):
        place.secret("jwt")
    with pytest.raises(ConfigurationError, match=r"needs \[redis\]"):
        place.require("redis")


def test_a_sandbox_takes_its_facts_from_the_running_world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "sandbox = true\n" + AWS + '[links]\nhome = "world:home"\nplain = "https://here"\n'
    with pytest.raises(ConfigurationError, match="not running"):
        load(folder, text)
    world = folder / "world"
    world.mkdir()
    monkeypatch.setenv("OPSCTL_SANDBOX", str(world))
    for held, wrong in (("no json", "not running"), ('{"ready": false, "facts": {"home": "x"}}', "is down")):
        (world / "world.json").write_text(held)
        with pytest.raises(ConfigurationError, match=wrong):
            load(folder, text)
    (world / "world.json").write_text(json.dumps({"ready": True, "facts": {"other": "x"}}))
    with pytest.raises(ConfigurationError, match="no value 'home'"):
        load(folder, text)
    (world / "world.json").write_text(json.dumps({"ready": True, "facts": {"home": "http://127.0.0.1:1"}}))
    assert load(folder, text).settings.links == {"home": "http://127.0.0.1:1", "plain": "https://here"}


def test_only_a_sandbox_looks_into_the_world(folder: Path) -> None:
    assert load(folder, AWS + '[links]\nhome = "world:home"\n').settings.links == {"home": "world:home"}


@given(st.integers(0, 36_500 * 86_400))
def test_a_duration_reads_back_as_it_is_written(seconds: int) -> None:
    duration = Duration(seconds=seconds)
    assert Duration.parse(str(duration)) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5.5m", "5M", "5w", "٣m", "36501d", "99999999999999999999s", "5m\n5m"])
def test_any_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        Duration.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "{a = " * 100_000,
        ".".join("a" * 100_000) + " = 1",
        "[" + ".".join("a" * 100_000) + "]",
        "a = {" + " . ".join("a" * 100_000) + " = 1}",
    ],
    ids=["arrays", "inline tables", "dotted key", "table", "dotted key in a table"],
)
def test_a_file_that_is_nested_too_deeply_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        load(folder, text)


def test_a_number_of_a_million_digits_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not TOML"):
        load(folder, "a = " + "1" * 1_000_000)


def test_a_file_above_the_bound_is_refused(folder: Path) -> None:
    with (folder / "place.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigurationError, match="more than 1,048,576 bytes"):
        config.load("place", str(folder))
