"""When a word on the status page is news, and to which incident it belongs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.adapters.http.notifiers import StatusIncident
from opsctl.changes.notices import EndStatus, PostStatus
from opsctl.contract import Change, Done, Pending
from opsctl.errors import ExternalError
from opsctl.protocols import no_progress

TITLE = "API slow"
LOOK = "we look into it"


class Page:
    """A status page: its incidents, newest first, and what was said on each."""

    def __init__(self) -> None:
        self.held: list[StatusIncident] = []
        self.said: list[tuple[str, str, str]] = []
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def incidents(self) -> list[StatusIncident]:
        return list(self.held)

    def post(self, name: str, status: str, body: str) -> StatusIncident:
        made = StatusIncident(f"i{len(self.held) + 1}", name, "", "", self.now, self.now)
        self.held.insert(0, made)
        return self.update(made.id, status, body)

    def update(self, id: str, status: str, body: str) -> StatusIncident:
        self.now += timedelta(seconds=1)
        self.said.append((id, status, body))
        (number,) = (n for n, incident in enumerate(self.held) if incident.id == id)
        self.held[number] = replace(self.held[number], status=status, body=body, said_at=self.now)
        return self.held[number]


@pytest.fixture
def page() -> Page:
    return Page()


def found(page: Page, change: Change) -> Any:
    return change.check(SimpleNamespace(statuspage=page))  # type: ignore[arg-type]


def say(page: Page, status: Any, text: str = LOOK, title: str = TITLE) -> list[tuple[str, str, str]]:
    """Post it where it isn't so, as the engine does; what was said by that."""
    before = len(page.said)
    change = PostStatus(title=title, status=status, text=text)
    if isinstance(found(page, change), Pending):
        change.apply(SimpleNamespace(statuspage=page), "token", no_progress)  # type: ignore[arg-type]
        assert isinstance(found(page, change), Done), "what was just said is so"
    return page.said[before:]


def test_the_same_word_is_said_once(page: Page) -> None:
    assert say(page, "investigating") == [("i1", "investigating", LOOK)]
    assert say(page, "investigating") == []
    assert say(page, "investigating", f" {LOOK}\n") == [], "the page may fold white space"


def test_other_words_with_the_same_status_are_another_update(page: Page) -> None:
    say(page, "investigating")
    assert say(page, "investigating", "we found it") == [("i1", "investigating", "we found it")]
    assert say(page, "investigating") == [("i1", "investigating", LOOK)], "only the newest word counts"


def test_a_former_incident_of_that_title_says_nothing_about_a_new_one(page: Page) -> None:
    said = [one for status in ("investigating", "resolved") * 2 for one in say(page, status)]
    assert [(id, status) for id, status, _ in said] == [
        ("i1", "investigating"),
        ("i1", "resolved"),
        ("i2", "investigating"),
        ("i2", "resolved"),
    ]
    assert say(page, "resolved") == []


def become(page: Page, status: str, problem: str = "", name: str = TITLE) -> None:
    page.held = [replace(incident, status=status, problem=problem, name=name) for incident in page.held]


def test_a_report_on_a_former_incident_opens_nothing(page: Page) -> None:
    """A new outage of the same title is a new incident; the former one isn't set back."""
    say(page, "resolved")
    become(page, "postmortem")
    assert say(page, "investigating") == [("i2", "investigating", LOOK)]
    assert say(page, "resolved", "over") == [("i2", "resolved", "over")]


@pytest.mark.parametrize("status", ["scheduled", "in_progress", "verifying", "completed"])
def test_a_maintenance_of_that_title_is_no_incident(page: Page, status: str) -> None:
    page.post(TITLE, "resolved", LOOK)
    become(page, status)
    assert say(page, "investigating") == [("i2", "investigating", LOOK)]


def test_another_incident_that_cant_be_read_bars_nothing(page: Page) -> None:
    page.post("Logins", "resolved", LOOK)
    become(page, "", "it is unreadable", "Logins")
    assert say(page, "investigating") == [("i2", "investigating", LOOK)]
    nameless = replace(page.held[-1], name="")
    page.held = [nameless]
    assert "1 of the page's incidents can't be read" in found(page, PostStatus(title=TITLE, status="identified", text="x")).note
    with pytest.raises(ExternalError, match="can't be"):
        found(page, EndStatus(title=TITLE, text="over"))


def test_one_of_that_title_that_cant_be_judged_stops_it(page: Page) -> None:
    page.post(TITLE, "resolved", LOOK)
    become(page, "paused", "opsctl doesn't know its status")
    for change in (PostStatus(title=TITLE, status="identified", text="x"), EndStatus(title=TITLE, text="over")):
        with pytest.raises(ExternalError, match="opsctl doesn't know its status"):
            found(page, change)


def test_other_words_on_what_is_over_go_to_the_incident_that_ended_last(page: Page) -> None:
    for status in ("investigating", "resolved") * 2:
        say(page, status)
    assert say(page, "resolved", "it was the disk") == [("i2", "resolved", "it was the disk")]


def test_resolved_is_so_only_when_none_of_that_title_is_open(page: Page) -> None:
    for text, status in (("first", "investigating"), ("second", "investigating"), ("third", "resolved")):
        page.post(TITLE, status, text)
    assert say(page, "resolved", "over") == [("i2", "resolved", "over"), ("i1", "resolved", "over")]
    assert say(page, "resolved", "over") == []


def test_an_older_one_that_is_still_open_gets_the_word(page: Page) -> None:
    page.post(TITLE, "investigating", LOOK)
    page.post(TITLE, "resolved", "over")
    assert say(page, "monitoring", "we watch") == [("i1", "monitoring", "we watch")]


def test_another_title_is_another_matter(page: Page) -> None:
    say(page, "resolved")
    assert say(page, "resolved", title="Logins fail") == [("i2", "resolved", LOOK)]


def test_the_way_back_ends_what_is_open_and_tells_nobody_of_what_is_over(page: Page) -> None:
    say(page, "investigating")
    back = PostStatus(title=TITLE, status="investigating", text=LOOK).inverse()
    assert isinstance(back, EndStatus)
    assert found(page, back) == Pending(1, "notices", "subscribers are notified")
    back.apply(SimpleNamespace(statuspage=page), "token", no_progress)  # type: ignore[arg-type]
    assert page.said[-1] == ("i1", "resolved", f"Resolved: {LOOK}")
    say(page, "resolved", "in somebody else's words")
    assert isinstance(found(page, back), Done)
