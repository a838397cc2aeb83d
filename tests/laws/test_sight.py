"""Laws 11 and 12: nothing is done for lack of sight, and containment goes on where one of several stores fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scenarios import Rehearsed, every, some
from terminal import Result
from world import MODELS

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.hubspot import contacts as hubspot
from opsctl.adapters.hubspot.records import BatchResponse, ContactRecord
from opsctl.contract import kinds

TABLES = "SELECT format('%I', relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
SOON = "SET lock_timeout = '20s'"
"""A table that somebody uses fails the test, rather than keep it waiting."""
STORES = ("valkey", "postgres")


@pytest.fixture
def hidden(it: Rehearsed) -> Iterator[Rehearsed]:
    """The scenario, with every row of the database hidden from the reading role."""
    with it.world.database() as owner:
        owner.execute(SOON)
        tables = [name for (name,) in owner.execute(TABLES)]
        for name in tables:
            owner.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY".encode())
    yield it
    with it.world.database() as owner:
        owner.execute(SOON)
        for name in tables:
            owner.execute(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY".encode())


# Whose queries run isn't in a table, and those that a scenario lets run keep the tables from being altered.
@pytest.mark.exhaustive
@every(lambda scenario: scenario.typed is None and "kill-long-running" not in scenario.line)
def test_hidden_rows_are_no_evidence(hidden: Rehearsed) -> None:
    """What would change something still says so, or is refused: it never says that there is nothing to do."""
    planned = hidden.dry()
    assert planned.code in (1, 3, 4), planned
    assert planned.code != 3 or planned.json["result"] == "would-change"


def emptied(answer: Any) -> Any:
    """An answer of AWS as a login gets it that may see nothing: every list in it is empty."""
    if isinstance(answer, dict):
        return {name: emptied(each) for name, each in answer.items()}
    return [] if isinstance(answer, list) else answer


def without(answer: Any) -> Any:
    """An answer of AWS without its lists."""
    return {name: without(each) for name, each in answer.items() if not isinstance(each, list)} if isinstance(answer, dict) else answer


def aws(seen: Callable[[Any], Any]) -> None:
    """Have AWS's answers be seen so, in this process."""
    call, pages, whole = AwsSession.call, AwsSession.pages, AwsSession.call_complete
    AwsSession.call = lambda *of, **how: seen(call(*of, **how))  # type: ignore[method-assign]
    AwsSession.pages = lambda *of, **how: (seen(page) for page in pages(*of, **how))  # type: ignore[method-assign]

    def blind(*of: Any, **how: Any) -> Any:
        answer, sent = whole(*of, **how)
        return seen(answer), sent

    AwsSession.call_complete = blind  # type: ignore[method-assign]


def properties() -> None:
    """Have HubSpot leave out every property, as of names that the portal doesn't define, in this process."""
    read = hubspot.decoded

    def decoded(content: bytes, shape: Any) -> Any:
        found = read(content, shape)
        for record in found.results if isinstance(found, BatchResponse) else [found] if isinstance(found, ContactRecord) else ():
            record.properties, record.properties_with_history = {}, None
        return found

    hubspot.decoded = decoded


BLIND: dict[str, Callable[[], None]] = {
    "AWS lists nothing": lambda: aws(emptied),
    "AWS leaves lists out": lambda: aws(without),
    "HubSpot leaves properties out": properties,
}
SERVICES = (*MODELS[1:], "iam", "lambda", "wafv2", "shield")
DENIED = [("aws", f"{service}.{word}*") for service in SERVICES for word in ("Describe", "Get", "List")] + [
    ("hubspot", f"{word} *") for word in ("GET", "POST")
]


def done(planned: Result) -> set[str]:
    """The targets of a dry run of which it says that nothing is to be done."""
    changes = planned.json["changes"] if planned.out.strip() else []
    return {change["target"] for change in changes if change["state"] == "done"}


def never_done(it: Rehearsed, **how: Any) -> None:
    """A dry run that sees less finds no more done than one that sees all, and never the whole."""
    seen = it.dry()
    blind = it.dry(**how)
    assert done(blind) <= done(seen), blind
    assert blind.code != 0, blind


@pytest.mark.exhaustive
@every(lambda scenario: scenario.typed is None)
@pytest.mark.parametrize("how", BLIND)
def test_a_system_that_shows_nothing_is_no_evidence(it: Rehearsed, how: str) -> None:
    never_done(it, before=BLIND[how])


@some()
def test_systems_that_all_show_nothing_are_no_evidence(it: Rehearsed) -> None:
    never_done(it, before=lambda: [blind() for blind in BLIND.values()])


@pytest.mark.exhaustive
@every(lambda scenario: scenario.typed is None)
def test_a_system_that_denies_every_look_is_no_evidence(it: Rehearsed) -> None:
    seen = done(it.dry())
    for part, operation in DENIED:
        it.world.fault(part, operation, "refuse", times=0)
    blind = it.dry()
    assert done(blind) <= seen, blind
    assert blind.code != 0, blind


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
    finally:
        it.world.rehearsal.up()
    if done.code == 0:
        # This command has nothing to do with the store.
        assert it.scenario.so(it.world)
        return
    assert done.code in (1, 6)
    assert done.json["result"] in ("partial", "unknown")
    assert "applied" in {change["state"] for change in done.json["changes"]}
    assert it.say("runs", "resume", done.json["run"], "-y", check=0).json["result"] == "changed"
    assert it.scenario.so(it.world)
