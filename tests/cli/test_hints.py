"""Hints become the line to type."""

from __future__ import annotations

import pytest

from opsctl.cli.hints import next_line
from opsctl.errors import Hint, Retry


@pytest.mark.parametrize(
    ("hint", "line"),
    [
        ("", ""),
        ("opsctl runs show R", "opsctl runs show R"),
        (Retry(), "Run the same command again."),
        (Retry("Wait a minute"), "Wait a minute, then run the same command again."),
        (Retry("Pass it again", options=("< FILE",)), "Pass it again, then run the same command again."),
        (Retry(run="R"), "opsctl runs resume R"),
        (Retry("Ask for s3:Get.", "R"), "Ask for s3:Get; then: opsctl runs resume R"),
        (Retry("Pass it again", "R", ("< FILE",)), "Pass it again; then: opsctl runs resume R < FILE"),
        (Retry("", "R", ("", "--skip x --reason WHY")), "opsctl runs resume R; or: opsctl runs resume R --skip x --reason WHY"),
    ],
)
def test_a_hint_becomes_the_line_to_type(hint: Hint, line: str) -> None:
    assert next_line(hint) == line
