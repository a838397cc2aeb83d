from datetime import UTC, datetime, timedelta
from pathlib import Path

from opsctl.changes import find_kind
from opsctl.engine.ledger.ledger import open_ledger
from opsctl.engine.ledger.rows import Run

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_the_newest_run_is_the_last_that_was_opened_whatever_the_clock_said(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.db", find_kind)
    for name, hours in {"before": 0, "ahead": 1, "back": 0}.items():
        run = Run(
            id=name,
            environment="test",
            account="1",
            caller="me",
            operator="me",
            command="scale",
            opened=NOW + timedelta(hours=hours),
            version="1",
            config_digest="c0ffee",
        )
        ledger.open(run, [])
        ledger.close(name, "unchanged", {})
    ledger.reopen("before", {})
    ledger.close("before", "unchanged", {})
    assert [run.id for run in ledger.runs()] == ["back", "ahead", "before"]
    assert [run.id for run in ledger.runs(limit=1)] == ["back"]
