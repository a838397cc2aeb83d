"""Laws 11 and 12: nothing is done for lack of sight, and containment goes on where one of several stores fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scenarios import Rehearsed, every

from opsctl.changes.base import kinds

TABLES = "SELECT format('%I', relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
STORES = ("valkey", "postgres")


@pytest.fixture
def hidden(it: Rehearsed) -> Iterator[Rehearsed]:
    """The scenario, with every row of the database hidden from the reading role."""
    with it.world.database() as owner:
        tables = [name for (name,) in owner.execute(TABLES)]
        for name in tables:
            owner.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY".encode())
    yield it
    with it.world.database() as owner:
        for name in tables:
            owner.execute(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY".encode())


@pytest.mark.exhaustive
@every(lambda scenario: scenario.typed is None)
def test_hidden_rows_are_no_evidence(hidden: Rehearsed) -> None:
    """What would change something still says so, or is refused: it never says that there is nothing to do."""
    planned = hidden.dry()
    assert planned.code in (1, 3, 4), planned
    assert planned.code != 3 or planned.json["result"] == "would-change"


def independent(changes: list[dict[str, Any]]) -> set[str]:
    """The kinds of these changes that keep no other from being made."""
    names = {str(kind.__struct_config__.tag) for kind in kinds() if kind.independent}
    return {change["kind"] for change in changes} & names


@pytest.mark.exhaustive
@every(lambda scenario: scenario.typed is None)
@pytest.mark.parametrize("part", STORES)
def test_a_store_that_is_down_keeps_no_other_from_being_done(it: Rehearsed, part: str) -> None:
    if len(independent(it.dry().json["changes"])) < 2:
        pytest.skip("it changes one store, or one thing after another")
    try:
        it.world.opsctl("sandbox", "fault", "crash", part, check=0)
        done = it.run()
        if done.json["run"] is None:
            pytest.skip("nothing can be planned: only this store knows whose an e-mail is")
        states = {change["kind"]: change["state"] for change in done.json["changes"]}
        assert done.code in (1, 6)
        assert done.json["result"] in ("partial", "unknown")
        assert "applied" in states.values()
    finally:
        it.world.rehearsal.up()
    assert it.say("runs", "resume", done.json["run"], "-y", check=0).json["result"] == "changed"
    assert it.scenario.so(it.world)
