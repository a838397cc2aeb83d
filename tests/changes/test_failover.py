"""Which reader may take over from a writer."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.changes import failover
from opsctl.errors import Refused

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
