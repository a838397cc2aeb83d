"""Tables that fit the terminal, and what decides on colour."""

import pytest

from opsctl.render import out
from opsctl.render.tables import fit, record, table

ROWS = [{"alarm": "Safawinet-ALB-5xx-Errors", "state": "ALARM", "reason": "Threshold Crossed: 1 datapoint was greater than the threshold."}]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_fits_and_breaks_no_word(width):
    drawn = table(ROWS, width)
    assert max(map(len, drawn.splitlines())) <= width
    assert set(" ".join(ROWS[0].values()).split()) <= set(drawn.split())


def test_without_a_terminal_a_row_is_one_line():
    assert len(table(ROWS, None).splitlines()) == 3


def test_columns_that_do_not_fit_become_records():
    drawn = table(ROWS, 30)
    assert drawn.splitlines()[0] == "alarm   Safawinet-ALB-5xx-Errors"
    assert "---" not in drawn


def test_the_widest_column_gives_way():
    assert fit([["a", "one two three four"], ["bbbb", "x"]], 16) == [4, 10]


def test_a_record_wraps_under_its_value():
    assert record({"reason": "one two three four five six"}, 30) == "reason  one two three four\n        five six"


@pytest.mark.parametrize(
    ("variables", "colour"),
    [
        ({}, None),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, None),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, None),
        ({"CLICOLOR_FORCE": "1", "TERM": "dumb"}, True),
        ({"TERM": "dumb"}, False),
        ({"CLICOLOR": "0"}, False),
    ],
)
def test_variables_that_decide_on_colour(variables, colour, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert out.colored() is colour
