"""Law 7: stored state is never rewritten. A secret that is an ordinary word changes nothing of what is planned, recorded and done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from scenario import CANARY, Scenario
from scenarios import MAIL_KEY, Rehearsed, each
from world import World

from opsctl.changes import find_kind  # noqa: F401 - imports every kind
from opsctl.contract import Change, kinds
from opsctl.redaction import Secret, vault

WORDS = (
    "before",
    "safawinet",
    "sessions",
    "service",
    "pending",
    "config",
    "summary",
    "123456",
    "000000000000",
    "AWSCURRENT",
    "us-east-1",
    "change",
)


def arm() -> None:
    """Every ordinary word is a secret that this process has read."""
    for word in WORDS:
        vault.remember(word.encode())


@pytest.mark.exhaustive
@each()
def test_secrets_that_are_words_change_nothing(it: Rehearsed) -> None:
    plan = it.world.home / "plan.json"
    planned = it.dry("--save", str(plan), check=3, before=arm).json
    assert not any("[secret]" in text for text in (json.dumps(planned), plan.read_text()))
    run = it.run(check=0, before=arm).json
    assert run["result"] == "changed"
    assert it.scenario.so(it.world)
    shown = it.say("runs", "show", run["run"], check=0, before=arm)
    assert it.say("runs", "list", check=0, before=arm).json[0]["run"] == run["run"]
    it.say("runs", "verify", check=0)
    assert "[secret]" not in shown.out
    if it.scenario.reversible:
        it.say("runs", "undo", run["run"], "-y", check=0, before=arm)


WEAK = ["safawinet", "before", "sessions", "20261130", "[secret]", '"kind"', 'a","b']


@pytest.mark.parametrize("value", WEAK)
def test_a_value_that_is_a_word_is_rotated(world: World, value: str) -> None:
    (world.home / "value.txt").write_text(value)
    scenario = Scenario("secrets rotate mail-key --value-from file:{home}/value.txt", lambda world: world.secret(MAIL_KEY, "key") == value)
    it = Rehearsed(scenario, world)
    plan = world.home / "plan.json"
    it.dry("--save", str(plan), check=3)
    run = it.say("apply", str(plan), "-y", check=0).json
    assert run["result"] == "changed"
    assert scenario.so(world)
    assert it.say("runs", "show", run["run"], check=0).out
    it.say("runs", "undo", run["run"], "-y", check=0)
    it.say("runs", "verify", check=0)


def test_a_customers_secret_that_is_in_the_files_name_is_replaced(world: World) -> None:
    folder = world.home / ".hh"
    folder.mkdir()
    (folder / "config.json").write_text('{"edge_auth":"oldoldold","auth_mode":"config","code":"service"}')
    (folder / "config.json").chmod(0o600)
    it = Rehearsed(Scenario("--env sandbox client set-edge-auth --user --value-from env:V", lambda world: True, env={"V": CANARY}), world)
    run = it.run(check=0).json
    assert json.loads((folder / "config.json").read_text())["edge_auth"] == CANARY
    assert it.say("runs", "list", check=0).json[0]["run"] == run["run"]
    it.say("runs", "verify", check=0)


def inside(kind: Any) -> Iterator[Any]:
    """Every type that a field of this type can hold."""
    yield kind
    if isinstance(kind, msgspec.inspect.Type):
        for part in (getattr(kind, name) for name in kind.__struct_fields__):
            for each in part if isinstance(part, tuple) else (part,):
                yield from inside(each.type if isinstance(each, msgspec.inspect.Field) else each)


NEVER = (msgspec.inspect.BytesType, msgspec.inspect.ByteArrayType, msgspec.inspect.CustomType, msgspec.inspect.RawType)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in kinds()])
def test_no_kind_can_hold_a_secret(kind: type[Change]) -> None:
    """Its fields are plain data, none of them bytes or a Secret: what names a value is its source and its fingerprint."""
    for part in inside(msgspec.inspect.type_info(kind)):
        assert not isinstance(part, NEVER), f"{kind.__name__} has a field of {part}"


def test_a_secret_in_a_change_can_not_be_stored() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret(CANARY))
