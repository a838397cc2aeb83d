"""SES's answers, also the odd ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from opsctl.adapters.aws.ses import Ses, SesAccount

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Told:
    """An AWS session that gives these answers, one a call, and keeps what was asked."""

    writing = False

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers, self.asked = list(answers), []

    def call(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters.get("NextToken"))
        return self.answers.pop(0)


def page(*addresses: str, **more: str) -> dict[str, Any]:
    summaries = [{"EmailAddress": each, "Reason": "BOUNCE", "LastUpdateTime": AT} for each in addresses]
    return {"SuppressedDestinationSummaries": summaries, **more}


def test_every_page_is_asked_for_an_empty_one_too() -> None:
    told = Told(page("A@b.example", NextToken="1"), page(NextToken="2"), page("c@b.example"))
    assert [each.address for each in Ses(told).suppressed()] == ["a@b.example", "c@b.example"]  # type: ignore[arg-type]
    assert told.asked == [None, "1", "2"]


def test_an_account_without_figures_may_not_send() -> None:
    assert Ses(Told({})).account() == SesAccount(False, False, "unknown", 0.0, 0.0, 0.0)  # type: ignore[arg-type]


def test_nothing_sent_is_no_point() -> None:
    assert Ses(Told({})).sent() == []  # type: ignore[arg-type]
