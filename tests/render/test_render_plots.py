"""Bars of a query's rows, as a terminal shows them."""

from __future__ import annotations

from opsctl.render.plots import WIDE, bars


def test_the_longest_bar_is_the_largest_number() -> None:
    drawn = bars(
        [{"type": "lease_ok", "count()": 200}, {"type": "lease_denied", "reason": "disabled", "count()": 50}], "count()"
    ).splitlines()
    assert drawn[0].count("█") == WIDE
    assert drawn[1].count("█") == WIDE // 4
    assert drawn[0].endswith(" 200")
    assert drawn[1].startswith("lease_denied disabled  ")
    assert drawn[0].index("█") == drawn[1].index("█")


def test_what_is_little_is_still_seen_and_nothing_is_not() -> None:
    drawn = bars([{"a": "x", "n": 1_000}, {"a": "y", "n": 1}, {"a": "z", "n": 0}], "n").splitlines()
    assert [line.count("█") for line in drawn] == [WIDE, 1, 0]


def test_rows_without_a_number_are_left_out() -> None:
    drawn = bars([{"a": "x", "n": "3.5"}, {"a": "y", "n": "many"}, {"a": "z"}, {"a": "w", "n": None}], "n").splitlines()
    assert len(drawn) == 1
    assert drawn[0].endswith(" 3.5")


def test_nothing_to_draw_is_nothing() -> None:
    assert bars([], "n") == ""
    assert bars([{"n": 0}, {"n": -2}], "n") == ""
    assert bars([{"n": "nan"}], "n") == ""
