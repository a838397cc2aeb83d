"""`opsctl status` and `service metrics`: one page whatever is down, drawn in place while it is watched, and a service over time."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest
from customers import refusal, told
from terminal import until
from world import World

from opsctl.commands import alarms
from opsctl.commands.status import SOURCES, page
from opsctl.errors import ExternalError

DETAILS = ["API", "Staging", "Services", "Database", "Redis", "Alarms", "Mail", "Sentry", "Issues", "Functions", "WAF", "Links"]
SECTIONS = ["Status", "Findings", "Systems", *DETAILS]


def metrics(world: World, *line: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told(world, "service", "metrics", *line)
    return found


def test_the_page_has_everything(world: World) -> None:
    page = told(world, "status")
    assert list(page) == SECTIONS
    assert not [name for name, rows in page.items() if "could not be queried" in str(rows)]
    assert page["Staging"][0]["healthy"] is True
    (mail,) = page["Mail"]
    assert (mail["sending"], mail["enforcement"], mail["bounce_percent"], mail["complaint_percent"]) == (True, "HEALTHY", 4.7, 0.06)
    assert 0 < mail["sent_in_24h"] < mail["of"]
    assert page["Sentry"] == [{"errors_in_1h": 360, "requests_in_1h": 72_000, "error_percent": 0.5}]
    assert [row["suspicious"] for row in page["Issues"]] == [True, True, False, False, False, False]
    assert {row["acknowledged"] for row in page["Alarms"] if row["state"] == "ALARM"} == {"nobody"}
    assert sum(row["runs_in_1h"] for row in page["Functions"]) > 3_000
    text = world.opsctl("status", "--all", check=0).out
    assert all(f"\n{name}\n" in f"\n{text}" for name in SECTIONS)


def test_the_findings_come_first_and_the_page_fits_a_screen(world: World) -> None:
    lines = world.opsctl("status", check=0).out.splitlines()
    assert lines.index("Findings") < lines.index("Systems")
    assert len(lines[lines.index("Systems") :]) == 1 + len(SOURCES) - 1
    assert "API" not in lines


def test_what_is_wrong_is_a_finding(world: World) -> None:
    world.fault("api", "GET /health", "slow", seconds=2.2, times=0)
    page = told(world, "status")
    found = {row["system"]: row for row in page["Findings"]}
    assert "answered in 2." in found["API"]["finding"]
    assert "opsctl playbook run high-response-times" in found["API"]["next"]
    states = {row["system"]: row["state"] for row in page["Systems"]}
    assert states["API"] == "warning"


def test_one_that_cannot_be_asked_is_said_and_hides_no_other(world: World) -> None:
    world.fault("notices", "GET /sentry/*", "drop", times=0)
    world.fault("aws", "ses*.*", "throttle", times=0)
    world.fault("aws", "rds.*", "refuse", times=0)
    page = told(world, "status")
    silent = {name for name in DETAILS if "could not be queried" in str(page[name])}
    assert silent == {"Sentry", "Issues", "Mail", "Database"}
    assert "denied" in page["Database"][0]["why"].lower()
    assert page["Redis"][0]["used_mib"] > 0
    unknown = {row["system"] for row in page["Findings"] if row["severity"] == "unknown"}
    assert silent <= unknown


def test_every_primary_of_redis_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    full = {"used_memory": 2**20, "maxmemory": 2**21, "connected_clients": 3}
    silent = ExternalError("Redis at b:2 hung up.", "Run it again.")
    monkeypatch.setattr(alarms, "alert_sources", lambda systems: {})
    found = page(Mock(redis=Mock(infos=lambda: {"a:1": full, "b:2": silent})), ["Redis"])
    assert found.sections[2] == (
        "Redis",
        [
            {"primary": "a:1", "used_mib": 1.0, "of_maximum": 0.5, "clients": 3},
            {"state": "could not be queried", "why": "Redis at b:2 hung up.", "next": "Run it again."},
        ],
    )


def test_only_what_was_asked_for(world: World) -> None:
    assert list(told(world, "status", "--only", "redis", "--only", "API")) == ["Status", "Findings", "API", "Redis"]
    assert world.opsctl("status", "--only", "nope").code == 2


def test_watched_elsewhere_than_on_a_terminal(world: World) -> None:
    child = world.opsctl.start("-o", "json", "status", "--watch", "--every", "1s", "--only", "redis")
    until(lambda: child._said(1).count("\n") >= 2)
    os.kill(child.pid, signal.SIGINT)
    done = child.wait()
    assert done.code == 0
    pages = [json.loads(line) for line in done.out.splitlines()]
    assert all(set(page) == {"Status", "Findings", "Redis"} for page in pages)
    assert pages[0]["Status"]["at"] < pages[1]["Status"]["at"]
    plain = world.opsctl.start("status", "--watch", "--only", "links")
    until(lambda: "Links" in plain._said(1))
    os.kill(plain.pid, signal.SIGINT)
    assert "\x1b" not in plain.wait().out


@pytest.mark.parametrize("every", ["0s", "soon"])
def test_how_often_makes_sense(world: World, every: str) -> None:
    assert world.opsctl("status", "--watch", "--every", every).code == 2


@pytest.mark.parametrize(
    ("metric", "columns"),
    [
        ("cpu", ["at", "average %", "p95 %"]),
        ("memory", ["at", "average %", "p95 %"]),
        ("response-time", ["at", "average s", "p95 s"]),
        ("requests", ["at", "requests"]),
        ("5xx", ["at", "5xx", "requests"]),
    ],
)
def test_a_service_over_time(world: World, metric: str, columns: list[str]) -> None:
    rows = metrics(world, "api", "--metric", metric)
    assert 11 <= len(rows) <= 13
    assert {tuple(row) for row in rows} == {tuple(columns)}
    times = [datetime.fromisoformat(row["at"]) for row in rows]
    assert {(later - earlier).seconds for earlier, later in pairwise(times)} == {300}
    assert all(row[name] is not None for row in rows for name in columns)


@pytest.mark.parametrize("since", ["1m", "5m", "36h", "15d"])
def test_any_span_is_a_dozen_rows_or_so(world: World, since: str) -> None:
    done = world.opsctl("-o", "json", "service", "metrics", "api", "--since", since)
    assert done.code in (0, 1)
    assert done.code == 1 or 0 < len(done.json) <= 14


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("api --metric colour", 2, "'colour'"),
        ("nope", 2, "no service 'nope'"),
        ("api --since 0s", 2, "1m to 15d"),
        ("api --since 16d", 2, "1m to 15d"),
        ("api --since yesterday", 2, "expected a duration"),
        ("worker --metric requests", 2, "load-balancer"),
    ],
)
def test_what_makes_no_sense(world: World, line: str, code: int, said: str) -> None:
    done = world.opsctl("service", "metrics", *line.split())
    assert done.code == code, str(done)
    assert said in done.err


def test_no_error_is_none_and_not_nothing(world: World) -> None:
    rows = metrics(world, "api", "--metric", "5xx", "--since", "10m")
    assert {row["5xx"] for row in rows} == {0, 4}
    assert {row["requests"] for row in rows} == {1_200}


def test_no_figure_is_said(world: World) -> None:
    world.configure({'service = "safawinet-worker-prod"': 'service = "gone"'})
    assert "There is no ECS service gone" in refusal(world.opsctl("service", "metrics", "worker"), 1)
    world.configure({"app/safawinet-prod/50dc6c495c0c9188": "app/other/1"})
    done = world.opsctl("service", "metrics", "api", "--metric", "response-time")
    assert "no TargetResponseTime of api in the last 1h; ECS says that 2 of its tasks run" in refusal(done, 1)
