"""Law 7: no secret leaves. A canary from every source, and every secret of the world, are looked for wherever a command leaves a trace."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scenario import CANARY, Scenario
from scenarios import MAIL_KEY, Rehearsed, each, every, some
from terminal import Result
from world import World

from opsctl.adapters.host.secret_sources import SecretSources
from opsctl.redaction import Secret, vault

SHOWN = {"admin_email", "auth_test_email", "hubspot_app_secret"}
HANDLING = {"secrets", "pairing", "client", "notify", "logout"}
"""The groups whose commands have a secret in their hands."""
SECRET_WORDS = ("password", "secret", "token", "_key", "_pat")


def known(world: World) -> set[str]:
    """Every secret value of the world: what it was made with, and every version of every secret."""
    facts = {
        v for k, v in world.facts.items() if k not in SHOWN and any(word in k for word in SECRET_WORDS) and "arn" not in k and "id" not in k
    }
    client = world.aws("secretsmanager")
    for name, versions in world.secrets().items():
        if name.startswith("safawinet/") and name != "safawinet/prod/tls-pin":
            for version in versions:
                facts |= {str(v) for k, v in _members(client, name, version).items() if k not in ("username", "email")}
    return {each for each in facts if len(each) >= 12}


def _members(client: Any, name: str, version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.get_secret_value(SecretId=name, VersionId=version)["SecretString"])
    return found


def forms(value: str) -> set[str]:
    """How a value may be written."""
    raw = value.encode()
    return {value, base64.b64encode(raw).decode(), raw.hex(), urllib.parse.quote(value)}


def traces(it: Rehearsed, *results: Result) -> dict[str, str]:
    """All that commands left: what they printed, and every file under the home but the configuration and what the test itself wrote."""
    found = {f"{place} of command {n}": getattr(r, place) for n, r in enumerate(results) for place in ("out", "err", "screen")}
    for path in it.world.home.rglob("*"):
        if path.is_file() and path.name not in ("sandbox.toml", "value.txt", "config.json"):
            found[str(path)] = path.read_bytes().decode(errors="replace")
    return found


def assert_clean(it: Rehearsed, *results: Result) -> None:
    """No trace holds a secret, and no file can be read by others."""
    left = traces(it, *results)
    assert any("ledger.db" in place for place in left)
    for value in known(it.world) | {CANARY}:
        for form in forms(value):
            assert {place for place, text in left.items() if form in text} == set(), f"a secret that begins with {value[:4]} left"
    state = it.world.ledger.parent
    for path in (state, *state.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def watching(spawned: Path) -> Callable[[], None]:
    """What makes a child note every process that it starts, with what that is given."""

    def arm() -> None:
        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.spawn"):
                with spawned.open("a") as file:
                    file.write(f"{event} {args} {dict(os.environ)}\n")

        sys.addaudithook(hook)

    return arm


@every(lambda scenario: not scenario.variant or scenario.line.split()[0] in HANDLING)
def test_what_a_command_leaves_holds_no_secret(it: Rehearsed) -> None:
    plan, spawned = it.world.home / "plan.json", it.world.home / "spawned"
    watch = watching(spawned)
    dry = it.say("-v", *it.words, "-n", "--save", str(plan), "--as-shell", "--reason", "a rehearsal", check=3, before=watch)
    table = it.world.opsctl("-v", *it.words, "-n", "--as-shell", env=it.env, input=it.scenario.stdin, before=watch)
    run = it.say("-v", *it.words, "-y", check=0, before=watch)
    shown = it.world.opsctl("-v", "runs", "show", run.json["run"], check=0)
    again = it.world.opsctl("-v", *it.words, "-y", env=it.env, input=it.scenario.stdin, typed=it.scenario.typed)
    assert_clean(it, dry, table, run, shown, again)
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    assert not spawned.exists(), "a process was started: look at what it is given"


@each(lambda scenario: scenario.line.split()[0] in HANDLING)
def test_what_a_failing_command_says_holds_no_secret(it: Rehearsed) -> None:
    said = []
    for action in ("fail", "refuse", "timeout-after-effect"):
        for part in ("api", "notices"):
            it.world.fault(part, "*", action, times=0)
        for operation in ("secretsmanager.Put*", "secretsmanager.Update*", "ecs.Update*", "application-autoscaling.Register*"):
            it.world.fault("aws", operation, action, times=0)
        said.append(it.say("-v", *it.words, "-y", "--timeout", "1s"))
        assert "Traceback" not in said[-1].err
        it.world.heal()
    assert_clean(it, *said)


@some(lambda scenario: not scenario.variant)
def test_what_nobody_answers_holds_no_secret(it: Rehearsed) -> None:
    for part in ("aws", "api", "notices"):
        it.world.fault(part, "*", "fail", times=0)
    failed = it.say("-v", *it.words, "-y")
    assert failed.code == 1
    assert "Traceback" not in failed.err
    it.world.heal()
    it.world.opsctl("runs", "list")
    assert_clean(it, failed)


SOURCES = {
    "-": {"input": f"{CANARY}\n"},
    "env:THE_VALUE": {"env": {"THE_VALUE": CANARY}},
    "file:{home}/value.txt": {},
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_value_arrives_and_shows_nowhere(world: World, source: str) -> None:
    (world.home / "value.txt").write_text(f"{CANARY}\n")
    line = f"secrets rotate mail-key --value-from {source}"
    it = Rehearsed(Scenario(line, lambda world: True), world)
    said = [it.run(check=0, **SOURCES[source]), it.run(check=0, **SOURCES[source]), world.opsctl("secrets", "list", check=0)]
    assert world.secret(MAIL_KEY, "key") == CANARY
    assert_clean(it, *said)


def test_a_value_is_never_an_argument(world: World) -> None:
    it = Rehearsed(Scenario(f"secrets rotate mail-key --value-from {CANARY}", lambda world: True), world)
    refused = it.run(check=2)
    assert CANARY not in refused.out + refused.err
    it.untouched()


def test_a_rejected_value_shows_nowhere(world: World) -> None:
    """Too short for a signing key: staged, and not made current."""
    short = "short-canary-9c1f"
    it = Rehearsed(Scenario("secrets rotate jwt --value-from env:SHORT", lambda world: True, env={"SHORT": short}), world)
    refused = it.run()
    assert refused.code == 4
    assert {place for place, text in traces(it, refused).items() if short in text} == set()


@pytest.mark.parametrize(
    "view", ["secrets list", "secrets verify jwt", "status", "service status", "auth verify", "sessions list --user 5"]
)
def test_looking_shows_no_secret(world: World, view: str) -> None:
    it = Rehearsed(Scenario(view, lambda world: True), world)
    world.opsctl("runs", "list", check=0)
    assert_clean(it, it.say(*it.words), world.opsctl("-v", *it.words))


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret(CANARY)
    values = SecretSources()
    shown = [f"{secret}", f"{secret!r}", str([secret]), str({"a": secret}), "%s" % secret, str(values.__dict__)]  # noqa: UP031
    assert all(CANARY not in each for each in shown)
    assert vault.redact(f"it is {CANARY}, {CANARY.encode().hex()}").count(CANARY) == 0
