"""What is drawn: tables, records, verdicts and streams, as text and as JSON, and never a secret."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from opsctl.changes.ecs import Redeploy
from opsctl.engine.ledger.rows import Step
from opsctl.engine.plan import Plan
from opsctl.errors import AlertFiring, CheckFailed
from opsctl.formats.quantities import counted
from opsctl.redaction import HIDDEN, Secret
from opsctl.render.screen import Screen
from opsctl.render.shapes import Alert, Alerts, Check, Listing, Page, Text, Verdict, Watch

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


def test_a_person_is_told_the_columns_of_a_stream_and_that_it_is_empty(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    rows = [{"user": 1, "since": "noon"}]
    Screen("table").show(iter(rows))
    assert capsys.readouterr() == ("1  noon\n", "")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    Screen("table").show(iter(rows))
    assert capsys.readouterr() == ("1  noon\n", "user  since\n")
    Screen("json").show(iter([]))
    assert capsys.readouterr() == ("", "")
    Screen("table").show(iter([]))
    assert capsys.readouterr() == ("", "nothing\n")


def pages(*counts: int) -> Iterator[Page]:
    for count in counts:
        yield Page([("Links", [{"number": number} for number in range(count)])])
    raise KeyboardInterrupt


def test_a_watched_page_is_drawn_over_the_last_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((80, 10)))
    Screen("table").show(Watch(pages(2, 50)))
    first, second = capsys.readouterr().out.split("\x1b[H")[-2:]
    assert "more lines" not in first
    assert second.count("\n") == 9
    assert "... 45 more lines: make the window taller" in second


def test_a_watched_page_elsewhere_is_one_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("table").show(Watch(pages(1, 1)))
    assert capsys.readouterr().out.count("Links") == 2
    Screen("json").show(Watch(pages(1, 2)))
    assert [len(json.loads(line)["Links"]) for line in capsys.readouterr().out.splitlines()] == [1, 2]


def alert(state: str) -> Alert:
    value = None if state == "unknown" else 7.0
    return Alert(alert="CPU", of=state, value=value, threshold=5.0, state=state, source="somewhere")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "error", "said"),
    [
        (["ok", "fires", "unknown"], AlertFiring, "Fires: CPU (fires)."),
        (["ok", "unknown"], CheckFailed, "No all-clear: CPU (unknown) couldn't be queried."),
    ],
)
def test_alerts_are_a_table_and_an_end(capsys: pytest.CaptureFixture[str], states: list[str], error: type[CheckFailed], said: str) -> None:
    for form in ("table", "json"):
        with pytest.raises(CheckFailed) as caught:
            Screen(form).show(Alerts.of([alert(state) for state in states], "look"))
        assert (type(caught.value), caught.value.what, caught.value.next) == (error, said, "look")
    assert [row["state"] for row in json.loads(capsys.readouterr().out.partition("\n[")[2].join(["[", ""]))] == states
    Screen("json").show(Alerts.of([alert("ok")]))


@pytest.mark.parametrize("width", [60, 80])
def test_a_plan_fits_the_terminal_and_breaks_no_word(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("opsctl.render.screen.terminal_width", lambda *, err=False: width)
    why = "role sessions that the user started stay valid until they expire; disable the user in IAM Identity Center, too"
    change = Redeploy(name="api", cluster="safawinet", service="safawinet-api", since=datetime(2026, 1, 2, tzinfo=UTC))
    step = Step(seq=1, change=change, state="pending", why=why, count=1, unit="tasks")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    plan = Plan(
        command="service redeploy api",
        environment="production",
        file="/home/somebody/.config/opsctl/production.toml",
        account="123456789012",
        caller="arn:aws:iam::123456789012:user/oncall",
        config_digest="",
        created=now,
        expires=now,
        changes=[step],
    )
    Screen("table").plan(plan, typed="service redeploy api --again", err=False)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert set(why.split()) <= set(text.split())
    assert text.startswith("service redeploy api --again\n")
    assert "1 task\n" in text


def listing(**how: Any) -> Listing:
    return Listing(({"n": n} for n in range(120)), lambda: 120, **how)


@pytest.mark.parametrize(
    ("on_terminal", "how", "lines"),
    [(True, {}, 50), (True, {"whole": True}, 120), (True, {"limit": 7}, 7), (False, {}, 120), (False, {"limit": 7}, 7)],
)
def test_a_long_listing_is_cut_on_a_terminal_and_says_so(
    on_terminal: bool, how: dict[str, Any], lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: on_terminal)
    Screen("table").show(listing(**how))
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == lines
    assert (f"{120 - lines} more: --limit N" in shown.err) is (lines < 120)


def test_a_whole_listing_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("table").show(Listing(iter([{"n": 1}]), lambda: pytest.fail("counted"), limit=2))
    assert capsys.readouterr().out == "1\n"
