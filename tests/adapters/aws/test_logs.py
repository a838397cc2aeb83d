"""A log line is somebody else's text: whatever is in it is shown, streamed and recorded."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from opsctl.adapters.aws.logs import LogLine
from opsctl.engine.ledger.rows import encode
from opsctl.redaction import IN_LINES, clean_text
from opsctl.render.screen import Screen

AT = datetime(2026, 1, 1, tzinfo=UTC)
ODD = {
    "half a character": "\ud800 and more",
    "half a character in JSON": r'{"type": "lease_denied", "reason": "\ud800"}',
    "controls in JSON": r'{"type": "lease_denied", "reason": "\u001b[2Kforged\u202e\u009b"}',
    "controls": "a\x1b[2K\x1b]0;t\x07\x9b\u202e\u200b",
    "deep": "[" * 60_000,
    "deep objects": '{"a":' * 12_000,
    "a long number": '{"a": ' + "9" * 6_000 + "}",
    "one megabyte": "x " * 500_000,
    "a secret behind an escape": r'{"type": "x", "msg": "Authorization: Bearer SUPER\u0053ECRET", "password": "SUPERSECRET"}',
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("output", ["table", "json"])
def test_every_line_is_shown(odd: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = LogLine(AT, "stream", ODD[odd])
    Screen(output).show(iter([{"at": line.at, "line": line.words}]))
    said = capsys.readouterr().out
    assert not IN_LINES.search(said)
    assert "SUPER" not in said
    assert len(said) < 400_000


@pytest.mark.parametrize("odd", ODD)
def test_every_line_is_recorded(odd: str) -> None:
    """As evidence, also where it wasn't cleaned."""
    for text in (ODD[odd], clean_text(ODD[odd])):
        assert isinstance(json.loads(encode({"why": text, "evidence": [text], text: 1})), dict)
    assert msgspec.json.decode(encode("\ud800")) == "\\ud800"
