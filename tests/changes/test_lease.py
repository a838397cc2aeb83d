"""What the lease endpoint's answers mean, and the line that each leaves in a log."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.adapters.aws.logs import LogLine
from opsctl.adapters.http.lease import LeaseAnswer
from opsctl.changes import lease as changes
from opsctl.changes.lease import TakeLease, cause, logged, seen
from opsctl.contract import Irreversible
from opsctl.errors import Denied

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "reason", "why", "next"),
    [
        (200, "", "downloads work", "opsctl client doctor"),
        (401, "Unauthorized", "X-Edge-Auth is missing or wrong", "opsctl client doctor"),
        (403, "disabled", "the checkbox is No", "opsctl downloads enable 7"),
        (403, "invalid-token", "wrong, expired or revoked", "opsctl pairing mint 7"),
        (403, "", "wrong, expired or revoked", "opsctl pairing mint 7"),
        (500, "internal-error", "the function failed", "opsctl logs query lease-errors"),
        (502, "hubspot-error", "HubSpot answered the function with an error", "opsctl secrets verify hubspot-token"),
        (504, "", "the function failed", "opsctl logs query lease-errors"),
    ],
)
def test_each_status_has_a_cause_and_a_next_command(status: int, reason: str, why: str, next: str) -> None:
    found = cause(LeaseAnswer(status, reason), "7")
    assert why in found.why
    assert next in found.next


class Logs:
    """Shows `lines` from the `late`th look on; keeps what was asked."""

    def __init__(self, lines: list[LogLine], late: int = 0) -> None:
        self.lines, self.late = lines, late
        self.asked: list[tuple[str, str, str | None]] = []

    def recent(self, group: str, since: datetime, limit: int, pattern: str = "", region: str | None = None) -> list[LogLine]:
        self.asked.append((group, pattern, region))
        return self.lines if len(self.asked) > self.late else []


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PAUSE", 0.0)


def systems(logs: Any) -> Any:
    groups = {name: SimpleNamespace(log_group=f"/aws/lambda/{name}", region="us-west-2") for name in ("hh-lease", "hh-authz")}
    lease = SimpleNamespace(function="hh-lease", authorizer="hh-authz")
    return SimpleNamespace(environment=SimpleNamespace(lease=lease, function=groups.__getitem__), logs=logs)


def line(text: str, second: int = 5) -> LogLine:
    return LogLine(NOW.replace(second=second), "stream", text)


def test_the_line_is_found_by_the_gateways_name_for_the_request() -> None:
    logs = Logs([line('{"type":"lease_ok","requestId":"abcdef-1234"}')], late=2)
    assert logged(systems(logs), LeaseAnswer(200, "", "abcdef-1234"), "7", NOW) == (["03:04:05 lease_ok requestId=abcdef-1234"], "")
    assert logs.asked == [("/aws/lambda/hh-lease", '"abcdef-1234"', "us-west-2")] * 3


def test_a_line_of_the_request_that_is_not_its_outcome_is_not_enough() -> None:
    logs = Logs([line('{"type":"lease_asked","requestId":"abcdef-1234"}')])
    lines, missing = logged(systems(logs), LeaseAnswer(403, "disabled", "abcdef-1234"), "7", NOW)
    assert lines == ["03:04:05 lease_asked requestId=abcdef-1234"]
    assert "no lease_denied" in missing


@pytest.mark.parametrize(("status", "kind"), [(200, "lease_ok"), (403, "lease_denied")])
def test_without_one_the_contacts_own_is_taken(status: int, kind: str) -> None:
    logs = Logs([line(f'{{"type":"{kind}"}}')])
    assert logged(systems(logs), LeaseAnswer(status), "7", NOW) == ([f"03:04:05 {kind}"], "")
    assert logs.asked == [("/aws/lambda/hh-lease", f'{{ $.type = "{kind}" && $.contactId = "7" }}', "us-west-2")]


@pytest.mark.parametrize("status", [500, 502])
def test_a_failures_line_names_no_contact_and_may_be_anothers(status: int) -> None:
    logs = Logs([line('{"type":"lease_error"}')])
    lines, doubt = logged(systems(logs), LeaseAnswer(status), "7", NOW)
    assert lines == ["03:04:05 lease_error"]
    assert "may belong to another request" in doubt
    assert logs.asked[0][1] == '{ $.type = "lease_error" }'


@pytest.mark.parametrize("answer", [LeaseAnswer(401, "Unauthorized", "abcdef-1234"), LeaseAnswer(403, "Forbidden", "abcdef-1234")])
def test_what_the_gateway_refused_is_in_the_authorizers_log(answer: LeaseAnswer) -> None:
    logs = Logs([line("denied abcdef-1234")])
    assert logged(systems(logs), answer, "7", NOW) == (["03:04:05 denied abcdef-1234"], "")
    assert logs.asked == [("/aws/lambda/hh-authz", '"abcdef-1234"', "us-west-2")]


def test_the_authorizer_knows_no_contact_so_that_nothing_is_taken_for_its_line() -> None:
    logs = Logs([line("somebody else's")])
    lines, missing = logged(systems(logs), LeaseAnswer(401), "7", NOW)
    assert (lines, logs.asked) == ([], [])
    assert "its log line can't be identified" in missing


def test_a_line_that_does_not_come_is_said() -> None:
    missing = "the log of hh-lease contains no lease_denied of it yet"
    assert logged(systems(Logs([])), LeaseAnswer(403, "disabled", "abcdef-1234"), "7", NOW) == ([], missing)


@pytest.mark.parametrize(
    ("answer", "coded", "missing", "said"),
    [
        (LeaseAnswer(403, "disabled"), True, "", ""),
        (LeaseAnswer(403, "invalid-token"), True, "", ""),
        (LeaseAnswer(403, "disabled"), False, "", ""),
        (LeaseAnswer(403, "invalid-token"), False, "", "has no pairing code"),
        (LeaseAnswer(403, "Forbidden"), True, "", "before it reached the function"),
        (LeaseAnswer(403, "disabled"), True, "no lease_denied of it", "without its log line"),
    ],
)
def test_a_refusal_is_proven_by_the_function_and_its_line(answer: LeaseAnswer, coded: bool, missing: str, said: str) -> None:
    found = TakeLease(contact="7", expect=403).unproven(answer, coded=coded, missing=missing)
    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("expect", "answer", "way"),
    [
        (403, LeaseAnswer(200), "opsctl downloads disable 7 (or for the pairing code alone: opsctl pairing revoke 7)"),
        (403, LeaseAnswer(502), "opsctl secrets verify hubspot-token"),
        (200, LeaseAnswer(403, "disabled"), "opsctl downloads enable 7"),
    ],
)
def test_another_answer_than_expected_names_the_command_that_mends_it(expect: int, answer: LeaseAnswer, way: str) -> None:
    assert TakeLease(contact="7", expect=expect).way(answer, cause(answer, "7")) == way


def test_a_log_that_may_not_be_read_is_said() -> None:
    def refuse(*_: Any) -> Any:
        raise Denied("logs:FilterLogEvents is missing.")

    denied = systems(SimpleNamespace(recent=refuse))
    assert logged(denied, LeaseAnswer(403, "disabled"), "7", NOW) == ([], "logs:FilterLogEvents is missing")
    assert seen(denied, "7", NOW, NOW) == ["logs:FilterLogEvents is missing"]


def test_what_the_customer_was_answered_before_is_shown_without_secrets() -> None:
    said = [line(f"minted_token 7 the-token-{n}", n) for n in range(6)]
    logs = Logs(said)
    assert seen(systems(logs), "7", NOW, NOW.replace(second=4)) == [f"03:04:0{n} minted_token 7 [secret]" for n in (2, 3, 4)]
    assert logs.asked[0][1] == '{ $.contactId = "7" }'


def test_an_answer_leaves_no_state_and_a_lease_no_way_back() -> None:
    change = TakeLease(contact="7", reads=("secret/edge/AWSCURRENT",))
    assert (change.outcome_known_by, change.proven_by_history, change.target) == ("nothing", True, "lease/7")
    assert change.depends_on == {"contact/7", "secret/edge/AWSCURRENT"}
    assert not TakeLease(contact="7", source="env:CODE").proven_by_history
    assert isinstance(change.inverse(), Irreversible)
