"""Which reader may take over from a writer."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.changes import failover
from opsctl.errors import ExternalError, Refused

NOW = datetime(2026, 1, 1, tzinfo=UTC)

READER = SimpleNamespace(id="reader", status="available")
CLUSTER: Any = SimpleNamespace(id="cluster", status="available", readers=[READER])
READ: Any = SimpleNamespace(environment=SimpleNamespace(database=SimpleNamespace(max_lag=timedelta(seconds=5))))


@pytest.mark.parametrize(("lag", "allowed"), [(None, True), (5.0, True), (5.1, False)])
def test_a_reader_may_be_as_late_as_max_lag(lag: float | None, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "seconds_behind", lambda *_: (lag, ""))
    if allowed:
        failover.fit_cluster(READ, CLUSTER, "reader")
    else:
        with pytest.raises(Refused, match="max-lag"):
            failover.fit_cluster(READ, CLUSTER, "reader")


def test_a_write_that_fails_at_first_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old writer refuses writes for some seconds after a failover was requested."""
    monkeypatch.setattr(failover, "PAUSE", 0)
    answers = iter([ExternalError("read-only"), None])

    def execute(statement: Any) -> None:
        if error := next(answers):
            raise error

    database = SimpleNamespace(transaction=nullcontext, execute=execute)
    write: Any = SimpleNamespace(database=database, reader=None, history=SimpleNamespace(begun=lambda *_: None), now=lambda: NOW)
    change: Any = SimpleNamespace(failover=SimpleNamespace(target="database/cluster", over=lambda read: True))
    assert failover.ProveWrites.apply(change, write, "run-1", lambda *_, **__: None)["tries"] == 2
