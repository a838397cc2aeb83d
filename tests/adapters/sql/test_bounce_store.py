"""Counting once, whoever counts and however often; over both drivers, on the sandbox's real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from opsctl.adapters.mail.ses_parser import CountedRecipient
from opsctl.adapters.sql import bounce_store as bounced
from opsctl.adapters.sql.bounce_store import BounceStore, Tally
from opsctl.errors import NotFound, ReadOnly
from opsctl.formats import email_addresses

AT = datetime(2026, 6, 1, tzinfo=UTC)
RDS = {'driver = "postgres"': 'driver = "rds-data"'}


@pytest.fixture(params=["postgres", "rds-data"])
def opened(request: pytest.FixtureRequest, systems: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def open_it(*, writing: bool, **how: Any) -> Any:
        made.append(systems(writing=writing, replace=RDS if request.param == "rds-data" else None, **how))
        return made[-1]

    yield open_it
    for each in made:
        each.database.close()


def told(number: int, address: str, effect: str = "soft") -> CountedRecipient:
    found = email_addresses.parse(address)
    kind, sort = (
        ("complaint", "abuse") if effect in ("complained", "none") else ("bounce", "Permanent" if effect == "bounced" else "Transient")
    )
    others = found.others or None
    return CountedRecipient(f"id-{number}", found.recipient, found.domain, kind, sort, "General", AT, effect, others)  # type: ignore[arg-type]


def user(systems: Any, number: int) -> tuple[str, int]:
    [row] = systems.database.query("SELECT email_status, bounce_count FROM users WHERE id = %(id)s", id=number)
    return row["email_status"], row["bounce_count"]


def test_each_is_counted_once_and_acts_once(opened: Callable[..., Any]) -> None:
    write = opened(writing=True)
    batch = [
        told(1, "User5@EXAMPLE.com"),
        told(2, "user5@example.com"),
        told(2, "user5@example.com"),
        told(3, "user6@example.com", "bounced"),
        told(3, "user7@example.com", "bounced"),
        told(4, "user8@example.com", "complained"),
        told(5, "user9@example.com", "none"),
        told(6, "nobody@example.com", "bounced"),
    ]
    assert write.bounce_store.count(batch) == Tally(counted=7, bounced=2, complained=1, soft=2, unknown=1)
    stand = [user(write, number) for number in (5, 6, 7, 8, 9)]
    assert stand == [("ok", 2), ("bounced", 0), ("bounced", 0), ("complained", 0), ("ok", 0)]
    for _ in range(10):
        assert write.bounce_store.count(batch) == Tally()
    assert [user(write, number) for number in (5, 6, 7, 8, 9)] == stand
    assert write.bounce_store.count([]) == Tally()


@pytest.mark.parametrize(("first", "then", "left"), [("complained", "bounced", "complained"), ("bounced", "complained", "complained")])
def test_a_worse_status_stays(opened: Callable[..., Any], first: str, then: str, left: str) -> None:
    write = opened(writing=True)
    write.bounce_store.count([told(1, "user5@example.com", first)])
    write.bounce_store.count([told(2, "user5@example.com", then)])
    write.bounce_store.count([told(3, "user5@example.com")])
    assert user(write, 5) == (left, 1)


HELD = ["Jörg@Müller.example", "JÖRG@MÜLLER.EXAMPLE", "jörg@xn--mller-kva.example", "Jo\u0308rg@Mu\u0308ller.example"]


def test_an_address_beyond_ascii_meets_its_users(opened: Callable[..., Any]) -> None:
    write = opened(writing=True)
    for number, held in enumerate(HELD, 11):
        write.database.execute("UPDATE users SET email = %(held)s WHERE id = %(id)s", held=held, id=number)
    assert write.bounce_store.count([told(1, HELD[1], "bounced")]) == Tally(counted=1, bounced=1)
    assert [user(write, number)[0] for number in range(11, 15)] == ["bounced"] * 4
    assert [each.id for each in write.bounce_store.holders(email_addresses.parse(HELD[1]))] == ["11", "12", "13", "14"]


def test_one_held_in_capitals_is_met_by_small_letters(opened: Callable[..., Any]) -> None:
    write = opened(writing=True)
    write.database.execute("UPDATE users SET email = 'ÉVA@example.com' WHERE id = 11")
    assert [each.id for each in write.bounce_store.holders(email_addresses.parse("éva@example.com"))] == ["11"]
    assert write.bounce_store.count([told(1, "éva@example.com", "bounced")]) == Tally(counted=1, bounced=1)


def test_what_is_missing_is_said_by_its_place(opened: Callable[..., Any]) -> None:
    read, write = opened(writing=False), opened(writing=True)
    write.bounce_store.count([told(1, "user5@example.com")])
    keys = [("id-2", "user5@example.com"), ("id-1", "user5@example.com"), ("id-1", "user6@example.com")]
    assert read.bounce_store.missing(keys) == [0, 2]
    assert read.bounce_store.missing([]) == []
    with pytest.raises(ReadOnly):
        read.bounce_store.count([told(2, "user5@example.com")])
    assert read.bounce_store.missing(keys) == [0, 2]


def test_a_mark_is_taken_back_where_no_other_notification_says_it(opened: Callable[..., Any]) -> None:
    write = opened(writing=True)
    bounced: BounceStore = write.bounce_store
    before, address = [("5", "ok")], email_addresses.parse("user5@example.com")
    for other, left in ((None, "ok"), (told(2, "user5@example.com", "bounced"), "bounced")):
        bounced.mark("by-hand", address, hard=True)
        bounced.count([other] if other else [])
        assert bounced.take_back("by-hand", address, before) == 1
        assert bounced.take_back("by-hand", address, before) == 0
        assert user(write, 5)[0] == left
    bounced.mark("soft", email_addresses.parse("user6@example.com"), hard=False)
    bounced.take_back("soft", email_addresses.parse("user6@example.com"), [("6", "ok")])
    assert user(write, 6) == ("ok", 0)


def test_without_the_table_it_is_said_how_to_make_it(opened: Callable[..., Any]) -> None:
    write = opened(writing=True)
    write.database.execute("DROP TABLE ses_notifications")
    for work in (lambda: write.bounce_store.count([told(1, "user5@example.com")]), lambda: write.bounce_store.missing([("a", "b")])):
        with pytest.raises(NotFound, match="does not create the table itself") as said:
            work()
        assert f"-f {bounced.DDL}" in said.value.next
        assert bounced.DDL.is_file()
    write.database.execute("ALTER TABLE users DROP COLUMN bounce_count")
    for statement in "".join(line.partition("--")[0] for line in bounced.DDL.read_text().splitlines(keepends=True)).split(";"):
        if statement.strip():
            write.database.execute(statement)
    assert write.bounce_store.count([told(1, "user5@example.com")]) == Tally(counted=1, soft=1)


def test_many_at_once_count_each_once(systems: Callable[..., Any]) -> None:
    """The same notifications in every order, so that their rows are met crosswise."""
    workers = [systems(writing=True) for _ in range(6)]
    batch = [told(number, f"user{10 + number % 7}@example.com") for number in range(70)]
    tallies: list[int] = []

    def work(place: int) -> None:
        turned = batch[place * 11 :] + batch[: place * 11]
        for first in range(0, 70, 14):
            tallies.append(workers[place].bounce_store.count(turned[first : first + 14]).counted)

    threads = [threading.Thread(target=work, args=[place]) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tallies) == 30
    assert sum(tallies) == 70
    assert {user(workers[0], 10 + number)[1] for number in range(7)} == {10}
    for each in workers:
        each.database.close()
