"""Bars of a query's rows, as a terminal shows them."""

from __future__ import annotations

from datetime import UTC, datetime

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


def test_lines_stand_across_the_bars_and_are_named_below() -> None:
    rows = [{"at": "mon", "sent": 9, "rate": 2.5}, {"at": "tue", "sent": 8, "rate": 7.5}]
    first, second, review, pause = bars(rows, "rate", "at", {"pause": 10.0, "review": 5.0}).splitlines()
    assert first.startswith("mon  ")
    assert (first.count("█"), second.count("█")) == (WIDE // 4, WIDE * 3 // 4 - 1)
    assert {line.index("│") for line in (first, second, review)} == {5 + WIDE // 2 - 1}
    assert first.rindex("│") == pause.index("│") == 5 + WIDE - 1
    assert (review.split(" ", 1)[0], review.endswith("5 review"), pause.endswith("10 pause")) == ("", True, True)
    assert first.endswith(" 2.5")


def test_lines_alone_draw_nothing() -> None:
    assert bars([], "rate", None, {"review": 5.0}) == ""


def test_a_moment_labels_a_bar_to_the_minute() -> None:
    at = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
    assert bars([{"at": at, "n": 1}], "n").startswith("2026-03-01 12:30  ")
