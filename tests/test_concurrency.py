"""Many sources asked at once: what fails or stays silent hides no other."""

from __future__ import annotations

import threading

import pytest

from opsctl.concurrency import at_once, some_answered
from opsctl.errors import Denied, SystemFailed


def test_answers_come_in_the_order_asked_and_an_error_is_one() -> None:
    denied = Denied("no")

    def refuse() -> int:
        raise denied

    found = at_once({"one": lambda: 1, "two": refuse, "three": lambda: 3})
    assert list(found.items()) == [("one", 1), ("two", denied), ("three", 3)]


def test_they_are_asked_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=20)
    assert set(at_once({str(n): meeting.wait for n in range(3)}).values()) == {0, 1, 2}


def test_a_silent_one_is_left_alone() -> None:
    never = threading.Event()
    found = at_once({"silent": never.wait, "quick": lambda: True}, patience=0.5)
    never.set()
    assert found["quick"] is True
    assert isinstance(found["silent"], SystemFailed)
    assert "0.5 s" in found["silent"].what


def test_a_defect_is_not_taken_for_an_answer() -> None:
    with pytest.raises(ZeroDivisionError):
        at_once({"broken": lambda: 1 / 0})


def test_nobody_asked_is_nothing() -> None:
    assert at_once({}) == {}


def test_when_nobody_answered_the_first_error_is_raised_and_else_none() -> None:
    denied = Denied("no")
    some = {"one": denied, "two": 2}
    assert some_answered(some) == some
    assert some_answered({}) == {}
    with pytest.raises(Denied):
        some_answered({"one": denied, "two": SystemFailed("neither")})
