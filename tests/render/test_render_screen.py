"""What is drawn: tables, records, verdicts and streams, as text and as JSON, and never a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from opsctl.errors import CheckFailed
from opsctl.redaction import HIDDEN, Secret
from opsctl.render.screen import Screen, counted
from opsctl.render.shapes import Check, Page, Text, Verdict

ROWS = [{"name": "api", "since": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "up": True, "parts": ["a", "b"], "note": None}]
VALUE = "a-secret-value-nobody-may-see"


@pytest.mark.parametrize(
    ("count", "unit", "told"),
    [(1, "sessions", "1 session"), (2_000, "sessions", "2,000 sessions"), (0, "tasks", "0 tasks"), (1, "people", "1 person")],
)
def test_counts_read_as_people_say_them(count: int, unit: str, told: str) -> None:
    assert counted(count, unit) == told


def test_rows_are_a_table_or_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("table").show(ROWS)
    text = capsys.readouterr().out
    for word in ("name", "api", "2026-01-02 03:04:05", "yes", "a, b"):
        assert word in text
    assert "None" not in text
    Screen("json").show(ROWS)
    found = json.loads(capsys.readouterr().out)
    assert found == [{"name": "api", "since": "2026-01-02T03:04:05Z", "up": True, "parts": ["a", "b"], "note": None}]


def test_nothing_is_said_to_be_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("table").show([])
    assert capsys.readouterr().out == "nothing\n"
    Screen("json").show([])
    assert json.loads(capsys.readouterr().out) == []


def test_a_page_has_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    page = Page([("Services", ROWS), ("Links", [])])
    Screen("table").show(page)
    assert capsys.readouterr().out.index("Services") < len("Services") * 3
    Screen("json").show(page)
    assert set(json.loads(capsys.readouterr().out)) == {"Services", "Links"}


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_verdict_that_is_not_good_fails_after_it_was_shown(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = Verdict([Check("it is up", True), Check("it is new", False, "it is old")], "replace it")
    with pytest.raises(CheckFailed, match="it is new") as caught:
        Screen(output).show(verdict)
    assert caught.value.next == "replace it"
    assert "it is old" in capsys.readouterr().out


def test_a_verdict_that_could_ask_nothing_is_not_good() -> None:
    with pytest.raises(CheckFailed, match="nothing could be asked"):
        Screen("table").show(Verdict([Check("it is up", None)]))


def test_a_stream_is_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("json").show(iter([{"n": 1}, {"n": 2}]))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"n": 1}, {"n": 2}]
    Screen("table").show(iter([{"n": 1, "m": None}]))
    assert capsys.readouterr().out.strip() == "1"


@pytest.mark.parametrize("output", ["table", "json"])
def test_no_secret_leaves(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    Secret(VALUE)
    Screen(output).show([{"note": f"it is {VALUE}"}])
    Screen(output).show(Text(VALUE))
    shown = capsys.readouterr().out
    assert VALUE not in shown
    assert HIDDEN in shown
    Screen(output).show(Text(VALUE, raw=True))
    assert VALUE in capsys.readouterr().out, "only text for a shell is left as it is"
