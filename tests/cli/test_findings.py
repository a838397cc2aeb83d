"""What `status` finds wrong in rows, and what it says of each system."""

from datetime import UTC, datetime

import pytest

from opsctl.cli.findings import findings, system_states
from opsctl.render.shapes import Alert

HEALTHY = {"base": "https://api", "healthy": True, "detail": "ok", "ms": 20}
SERVICE = {"service": "api", "desired": 2, "running": 2, "pending": 0, "deployment": "COMPLETED", "since": None, "event": ""}
ALARM = {"alarm": "a", "state": "OK", "since": datetime(2026, 11, 30, tzinfo=UTC), "acknowledged": None, "warning": "", "reason": ""}
MAIL = {"sending": True, "enforcement": "HEALTHY", "sent_in_24h": 1, "of": 2, "bounce_percent": 1.0, "complaint_percent": 0.0}


@pytest.mark.parametrize(
    ("system", "row", "severity", "said"),
    [
        ("API", {**HEALTHY, "healthy": False, "detail": "/health answered 503"}, "critical", "answered 503"),
        ("API", {**HEALTHY, "ms": 6400}, "warning", "answered in 6.4 s"),
        ("Staging", {**HEALTHY, "healthy": False}, "warning", "is not healthy"),
        ("Services", {**SERVICE, "running": 1}, "warning", "api runs 1 of 2 tasks"),
        ("Services", {**SERVICE, "running": 0}, "critical", "api runs 0 of 2 tasks"),
        ("Services", {**SERVICE, "deployment": "FAILED"}, "critical", "last deployment of api failed"),
        ("Services", {**SERVICE, "desired": None, "deployment": "denied"}, "unknown", "could not be queried: denied"),
        ("Database", {"instance": "db", "status": "failed"}, "critical", "db is failed"),
        ("Alarms", {**ALARM, "state": "ALARM", "acknowledged": "nobody"}, "critical", "nobody has acknowledged it"),
        ("Alarms", {**ALARM, "state": "INSUFFICIENT_DATA"}, "unknown", "INSUFFICIENT_DATA"),
        ("Alarms", {**ALARM, "warning": "its actions are off"}, "warning", "actions are off"),
        ("Mail", {**MAIL, "sending": False}, "critical", "SES does not send"),
        ("Mail", {**MAIL, "enforcement": "PROBATION"}, "warning", "PROBATION"),
        ("Mail", {**MAIL, "bounce_percent": 5.0}, "warning", "bounce rate is 5 %"),
        ("Mail", {**MAIL, "complaint_percent": 0.5}, "critical", "complaint rate is 0.5 %"),
        ("Functions", {"function": "f", "runs_in_1h": 10, "errors_in_1h": 5}, "warning", "failed 5 of 10"),
        ("Redis", {"state": "could not be queried", "why": "it hung up.", "next": ""}, "unknown", "it hung up"),
    ],
)
def test_a_finding(system, row, severity, said):
    (found,) = findings({system: [row]}, [])
    assert (found.system, found.severity) == (system, severity)
    assert said in found.finding
    if "ms" in row or "state" in row:
        (state,) = system_states({system: [row]}, [found])
        assert state.state == severity


@pytest.mark.parametrize(
    ("system", "row"),
    [("API", HEALTHY), ("Services", SERVICE), ("Alarms", ALARM), ("Mail", MAIL), ("Database", {"instance": "db", "status": "backing-up"})],
)
def test_what_is_well_is_no_finding(system, row):
    assert findings({system: [row]}, []) == []
    assert system_states({system: [row]}, [])[0].state == "ok"


def test_the_worst_comes_first_and_alerts_are_findings():
    alert = Alert(alert="RDS connections", of="db", value=93.0, threshold=80.0, state="fires", source="the database")
    dark = Alert(alert="Redis memory", of="r", value=None, threshold=80.0, state="unknown", source="Redis hung up.")
    found = findings({"API": [{**HEALTHY, "ms": 6400}]}, [("Redis", dark), ("Database", alert)])
    assert [each.severity for each in found] == ["critical", "unknown", "warning"]
    assert found[0].finding == "RDS connections (db): 93 %, threshold 80 %"


def test_a_line_to_type_is_quoted():
    rows = {
        "Alarms": [{**ALARM, "alarm": "High CPU; $(id)", "state": "ALARM", "acknowledged": "nobody"}],
        "Services": [{**SERVICE, "service": "a b", "running": 0}],
    }
    assert {each.next for each in findings(rows, [])} == {"opsctl alarms ack 'High CPU; $(id)'", "opsctl service status 'a b'"}


def test_a_service_that_could_not_be_queried_has_no_number_of_tasks():
    row = {**SERVICE, "desired": None, "running": None, "deployment": "denied"}
    (state,) = system_states({"Services": [row]}, findings({"Services": [row]}, []))
    assert (state.state, state.summary) == ("unknown", "api could not be queried")
