"""Law 3: what was reviewed is what runs. A saved plan applies as it was shown, or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from essence import essence
from scenarios import SCENARIOS, Rehearsed, each, every, some
from world import World

import opsctl
from opsctl.changes import find_kind
from opsctl.engine import plan as plans
from opsctl.engine.ledger.codec import Codec
from opsctl.engine.ledger.keys import Keyring
from opsctl.engine.plan import Plan


def saved(it: Rehearsed) -> Path:
    """The scenario's plan, kept."""
    path = it.world.home / "reviewed.json"
    it.dry("--save", str(path), check=3)
    return path


def apply(it: Rehearsed, path: Path, **how: Any) -> Any:
    return it.say("apply", str(path), "-y", **how)


@each()
def test_a_saved_plan_does_what_the_command_does(it: Rehearsed) -> None:
    it.run(check=0)
    direct = essence(it.before, it.world.snapshot())
    it.world.again()
    it = Rehearsed(it.scenario, it.world)
    path = saved(it)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    it.untouched()
    applied = apply(it, path, check=0).json
    assert applied["result"] == "changed"
    assert essence(it.before, it.world.snapshot()) == direct
    assert it.scenario.so(it.world)


@some()
def test_a_plan_that_is_already_so_is_skipped(it: Rehearsed) -> None:
    path = saved(it)
    apply(it, path, check=0)
    after = it.world.snapshot()
    if it.scenario.blind or it.scenario.typed:
        # No state can tell; the ledger can, within the last two minutes.
        assert it.run(check=0).json["result"] == "unchanged"
    else:
        assert {change["state"] for change in apply(it, path, check=0).json["changes"]} <= {"done", "applied"}
    if not it.scenario.typed and "page" not in it.scenario.line:
        assert essence(it.before, it.world.snapshot()) == essence(it.before, after)


@every(lambda scenario: scenario.meddle)
def test_a_change_whose_before_has_moved_stops_before_its_write(it: Rehearsed) -> None:
    path = saved(it)
    it.scenario.meddle(it.world)
    theirs = it.world.snapshot()
    stopped = apply(it, path, check=4)
    assert stopped.json["result"] == "refused"
    assert stopped.json["error"]["type"] == "DriftError"
    assert it.world.snapshot() == theirs


@pytest.fixture
def plan(world: World) -> tuple[Rehearsed, Path]:
    """A saved plan of one command; that it is fresh is asked before any kind of change is looked at."""
    it = Rehearsed(SCENARIOS["service scale"][0], world)
    return it, saved(it)


def stale(it: Rehearsed, path: Path, why: str, **how: Any) -> None:
    refused = apply(it, path, check=4, **how)
    assert why in refused.err
    assert "next:" in refused.err
    it.untouched()


def test_another_configuration_makes_it_stale(plan: tuple[Rehearsed, Path]) -> None:
    it, path = plan
    it.world.configure(add="# somebody was here")
    stale(it, path, "the configuration has changed")


def test_another_environment_makes_it_stale(plan: tuple[Rehearsed, Path]) -> None:
    it, path = plan
    it.world.configure(name="rehearsal")
    stale(it, path, "environment sandbox", env={"OPSCTL_ENV": "rehearsal"})


def test_another_version_makes_it_stale(plan: tuple[Rehearsed, Path]) -> None:
    it, path = plan
    stale(it, path, "made by opsctl", before=lambda: setattr(opsctl, "__version__", "99.0"))


def loaded(path: Path, keys: Path) -> Plan:
    return plans.load(path, Codec(find_kind), Keyring(keys))


def resigned(path: Path, keys: Path, **fields: Any) -> None:
    """Edit a plan as somebody would who can read the key."""

    made = loaded(path, keys)
    for name, value in fields.items():
        setattr(made, name, value)
    path.unlink()
    plans.save(made, path, Keyring(keys))


def test_it_expires(plan: tuple[Rehearsed, Path]) -> None:
    it, path = plan

    keys = it.world.ledger.parent
    resigned(path, keys, expires=loaded(path, keys).created)
    stale(it, path, "it expired")


def test_another_account_makes_it_stale(plan: tuple[Rehearsed, Path]) -> None:
    it, path = plan
    resigned(path, it.world.ledger.parent, account="999999999999")
    stale(it, path, "account 999999999999")


def test_any_edit_of_it_shows(plan: tuple[Rehearsed, Path]) -> None:
    it, path = plan
    text = path.read_text()
    content = json.loads(text)
    content["changes"][0]["change"]["after"] = 30
    for edited in (json.dumps(content), text.replace("scale api 3", "scale api 4"), text.replace('"before":2', '"before":1')):
        assert edited != text
        path.write_text(edited)
        stale(it, path, "was edited")


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"changes": [{"change": {"kind": "no-such"}}]}'])
def test_what_is_no_plan_is_refused(plan: tuple[Rehearsed, Path], text: str) -> None:
    it, path = plan
    path.write_text(text)
    refused = it.say("apply", str(path), "-y")
    assert refused.code == 2
    assert "Traceback" not in refused.err
    it.untouched()


def test_a_value_is_asked_for_again(world: World) -> None:
    scenario = next(s for s in SCENARIOS["secrets rotate"] if s.env)
    it = Rehearsed(scenario, world)
    path = saved(it)
    stale(it, path, "isn't the one in the plan", env={**it.env, "NEW_KEY": "another-value-than-the-reviewed-one"})
    without = {k: v for k, v in it.env.items() if k != "NEW_KEY"}
    assert apply(it, path, env=without, check=7).json["result"] == "waiting"
    it.untouched()
    apply(it, path, check=0)
    assert scenario.so(world)
    assert os.environ.get("NEW_KEY") is None


def test_a_saved_plan_looks_again(world: World) -> None:
    path = str(world.home / "reviewed.json")
    world.opsctl("service", "scale", "api", "4", "-n", "--save", path, check=3)
    world.opsctl("apply", path, "-y", check=0)
    assert world.opsctl("-o", "json", "apply", path, "-n", check=0).json["result"] == "unchanged"
    assert "already done" in world.opsctl("apply", path, "-y", check=0).err
    world.opsctl("service", "scale", "api", "2", "-y", check=0)
    assert world.opsctl("-o", "json", "apply", path, "-y", check=0).json["result"] == "changed"
    assert world.service("api")["desiredCount"] == 4


def test_what_was_already_so_when_reviewed_is_no_licence_to_change_it(world: World) -> None:
    path = str(world.home / "reviewed.json")
    world.opsctl("logout", "user", "5", "-y", check=0)
    world.opsctl("logout", "user", "5", "-n", "--again", "--save", path, check=3)
    with world.database() as connection:
        connection.execute(
            "INSERT INTO refresh_sessions (user_id, token_hash, created_at, expires_at)"
            " VALUES (5, 'since', now() - interval '1 day', now() + interval '1 day')"
        )
    before = world.snapshot()
    refused = world.opsctl("apply", path, "-y", check=4)
    assert "was done when the plan was reviewed" in refused.err
    assert world.snapshot() == before
