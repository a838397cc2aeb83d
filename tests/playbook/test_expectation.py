from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.playbook.expectation import Expectation
from opsctl.render.shapes import UNASKED, Check, Page, Proportion, Series

ROWS = [{"name": "a", "state": "ok", "share": Proportion(0.5), "n": 3, "up": True}, {"name": "b", "state": "ok", "n": 4, "up": True}]
ONE = ROWS[:1]


def missed(expect: dict[str, Any], found: Any) -> list[str]:
    return Expectation.parse(expect).unmet(found)


@pytest.mark.parametrize(
    ("expect", "found"),
    [
        ({"state": "ok"}, ROWS),
        ({"state": ["ok", "fine"]}, ROWS),
        ({"state": "!= down"}, ROWS),
        ({"n": "< 5"}, ROWS),
        ({"n": ">= 3", "up": "true"}, ROWS),
        ({"n": "3"}, ONE),
        ({"share": "< 80%"}, ONE),
        ({"share": "<= 50%"}, ONE),
        ({"where": {"name": "a"}, "share": "50%"}, ROWS),
        ({"count": "2"}, ROWS),
        ({"count": ">= 1", "where": {"name": "a"}}, ROWS),
        ({"count": "0", "where": {"state": "down"}}, ROWS),
        ({"count": "0"}, []),
        ({"count": ">= 0", "state": "ok"}, []),
        ({"state": "ok"}, {"state": "ok"}),
        ({"in": "B", "state": "ok"}, Page([("A", [{"state": "down"}]), ("B", ONE)])),
        ({"state": "ok"}, Page([("A", ONE), ("B", [{"state": "down"}])])),
        ({"state": "ok"}, Page([("A", ONE), (UNASKED, [])])),
        ({"p95 s": "< 1"}, Series([{"at": datetime.now(UTC), "p95 s": 0.2}])),
        ({"cpu_percent": "< 70%"}, {"cpu_percent": 12.5}),
        ({"ok": "true"}, [Check("c", True)]),
    ],
)
def test_what_is_so_is_met(expect: dict[str, Any], found: Any) -> None:
    assert missed(expect, found) == []


@pytest.mark.parametrize(
    ("expect", "found", "why"),
    [
        ({"state": "down"}, ROWS, "state is ok, expected down"),
        ({"n": "< 4"}, ROWS, "b: n is 4, expected < 4"),
        ({"share": "< 80%"}, ROWS, "b: share is unknown"),
        ({"share": "< 80%"}, [{"name": "a", "share": None, "why": "it is gone"}], "share is unknown (it is gone)"),
        ({"share": "< 80%"}, [{"name": "a", "share": "93%"}], "can't be compared"),
        ({"share": "< 80"}, ONE, "another unit"),
        ({"n": "< 80%"}, ONE, "another unit"),
        ({"n": "< 5"}, [{"n": float("nan")}], "can't be compared"),
        ({"n": "!= 5"}, [{"n": float("nan")}], "can't be compared"),
        ({"up": "yes"}, ONE, "is true or false"),
        ({"state": "ok"}, [], "no matching row"),
        ({"state": "ok"}, [{"state": ""}], "is unknown"),
        ({"state": "!= down"}, [{"name": "a"}], "is unknown"),
        ({"state": "ok"}, None, "no rows"),
        ({"state": "ok"}, "ok", "no rows"),
        ({"in": "C", "state": "ok"}, Page([("A", ONE)]), "no section 'C'"),
        ({"in": "A", "state": "ok"}, ONE, "no sections"),
        ({"in": "A", "state": "ok"}, Page([("A", [{"state": "could not be queried", "why": "it is gone"}])]), "expected ok"),
        ({"state": "ok"}, Page([("A", ONE), (UNASKED, [{"instance": "b", "why": "it is gone"}])]), "b could not be queried: it is gone"),
        ({"count": "0"}, Page([("A", []), (UNASKED, [{"instance": "b", "why": "it is gone"}])]), "could not be queried"),
        ({"count": "0"}, ROWS, "2 rows, expected 0"),
        ({"count": ">= 1", "where": {"kind": "a"}}, ROWS, "kind is unknown"),
        ({"where": {"name": "c"}, "state": "ok"}, ROWS, "no matching row"),
        ({"count": ">= 3", "state": "ok"}, ROWS, "2 rows, expected >= 3"),
    ],
)
def test_what_is_not_so_or_cannot_be_told_is_missed(expect: dict[str, Any], found: Any, why: str) -> None:
    assert any(why in told for told in missed(expect, found)), missed(expect, found)


def test_placeholders_are_filled() -> None:
    assert Expectation.parse({"n": "< {most}"}, {"most": "4"}).unmet(ONE) == []
    with pytest.raises(ValueError, match="not a number"):
        Expectation.parse({"n": "< {most}"}, {"most": "many"})


@given(st.one_of(st.none(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.text())))
def test_what_is_no_number_is_never_below_one(value: object) -> None:
    assert missed({"n": "< 1"}, [{"n": value}]) != []


def test_a_proportion_is_shown_in_percent_and_is_a_number() -> None:
    assert str(Proportion(0.7996)) == "80.0%"
    assert Proportion(0.7996) < 0.8
