"""An alarm without data is neither over nor under way."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.changes.alarms import SetAcknowledgement
from opsctl.contract import Done, Pending, Skipped

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("state", "kind"), [("ALARM", Pending), ("OK", Done), ("INSUFFICIENT_DATA", Skipped), ("MISSING", Skipped)])
def test_only_an_alarm_that_is_ok_is_over(state: str, kind: type) -> None:
    read: Any = SimpleNamespace(
        history=SimpleNamespace(past=lambda *_: []),
        cloudwatch=SimpleNamespace(alarms=lambda names: [SimpleNamespace(name=names[0], state=state, updated=AT)]),
    )
    assert isinstance(SetAcknowledgement(alarm="cpu", transition=AT).check(read), kind)
