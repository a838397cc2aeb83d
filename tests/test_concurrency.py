"""Many sources asked at once: what fails or stays silent hides no other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from opsctl.concurrency import first_error_if_all_failed, gather, read_ahead
from opsctl.errors import Denied, ExternalError


def test_answers_come_in_the_order_asked_and_an_error_is_one() -> None:
    denied = Denied("no")

    def refuse() -> int:
        raise denied

    found = gather({"one": lambda: 1, "two": refuse, "three": lambda: 3})
    assert list(found.items()) == [("one", 1), ("two", denied), ("three", 3)]


def test_they_are_asked_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=20)
    assert set(gather({str(n): meeting.wait for n in range(3)}).values()) == {0, 1, 2}


def test_a_silent_one_is_left_alone() -> None:
    never = threading.Event()
    found = gather({"silent": never.wait, "quick": lambda: True}, patience=0.5)
    never.set()
    assert found["quick"] is True
    assert isinstance(found["silent"], ExternalError)
    assert "0.5 s" in found["silent"].what


def test_a_defect_is_not_taken_for_an_answer() -> None:
    with pytest.raises(ZeroDivisionError):
        gather({"broken": lambda: 1 / 0})


def test_nobody_asked_is_nothing() -> None:
    assert gather({}) == {}


def test_when_nobody_answered_the_first_error_is_raised_and_else_none() -> None:
    denied = Denied("no")
    some = {"one": denied, "two": 2}
    assert first_error_if_all_failed(some) == some
    assert first_error_if_all_failed({}) == {}
    with pytest.raises(Denied):
        first_error_if_all_failed({"one": denied, "two": ExternalError("neither")})


def test_the_next_item_is_made_while_one_is_worked_on() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    for _ in read_ahead(items()):
        assert second.wait(20)


def test_an_error_in_making_an_item_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Denied("no more")

    got: list[int] = []
    with pytest.raises(Denied, match="no more"):
        got.extend(read_ahead(items()))
    assert got == [1]


def test_reading_ahead_ends_where_the_caller_stops() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    for item in read_ahead(items()):
        if item == 3:
            break
    assert len(made) <= 5
