"""What others wrote is shown and never obeyed: no row is forged, none is erased."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.redaction import CONTROL
from opsctl.render.screen import Screen
from opsctl.render.visible import indented, visible

FORGED = "x\n2026-11-22 04:50:00  oncall  ConsoleLogin\x1b[1A\x1b[2K\u202e"


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b[2Kb\r\nc\u202ed\x9b") == r"a\x1b[2Kb\r\nc\u202ed\x9b"
    assert visible("Grüße, 世界 €") == "Grüße, 世界 €"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert not CONTROL.search(visible(text))
    assert not CONTROL.search(indented(text).replace("\n    ", ""))


def test_a_row_of_a_table_stays_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("table").show([{"event": "GetSecretValue", "about": FORGED}])
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3
    assert "\x1b" not in shown
    assert r"\n2026-11-22" in shown


def test_a_streamed_line_keeps_its_lines_and_none_passes_for_another_row(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("table").show(iter([{"at": "04:50", "line": "Traceback:\n\tin lease\n" + FORGED}]))
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "04:50  Traceback:"
    assert all(line.startswith("    ") for line in others)


def test_json_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("json").show([{"about": FORGED}])
    assert r"x\n2026-11-22" in capsys.readouterr().out
