"""Changes to contacts, against HubSpot's stand-in: what each finds, makes and takes back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from portal import Portal, contact_id

from opsctl import fingerprints
from opsctl.changes.contacts import SetContactProperties
from opsctl.changes.tokens import EndTokenRequest, MintToken, RevokeToken
from opsctl.commands.pairing import pin
from opsctl.contract import Done, Drifted, InProgress, Irreversible, Pending, Skipped
from opsctl.errors import DriftError, ExternalError, OutcomeUnknown, PartialFailure, Throttled
from opsctl.protocols import no_progress
from opsctl.systems import Systems

ENABLED, REQUESTED, TOKEN = "download_enabled", "download_requested", "download_token"
ONE, TWO, DISABLED = contact_id(1), contact_id(2), contact_id(9)
WRITE = "POST /crm/v3/objects/contacts/batch/update"
PATCH = "PATCH /crm/v3/objects/contacts/{id}"


def fingerprint(value: bytes) -> str:
    return fingerprints.of(b"a key", value)


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    made = Portal(tmp_path)
    yield made
    made.close()


@pytest.fixture
def read(portal: Portal) -> Systems:
    return remembering(portal.systems(writing=False))


@pytest.fixture
def write(portal: Portal) -> Systems:
    return remembering(portal.systems(writing=True))


def remembering(systems: Systems) -> Systems:
    systems.fingerprint = fingerprint
    return systems


def disable(*contacts: tuple[str, str | None]) -> SetContactProperties:
    return SetContactProperties(name=ENABLED, contacts=tuple((id, before, "false") for id, before in contacts))


def held(portal: Portal, id: str, name: str = ENABLED) -> str | None:
    found = portal.contacts.find(id)
    assert found is not None
    return found.value(name)


def test_many_are_set_by_one_call_that_names_only_those_that_differ(portal: Portal, read: Systems, write: Systems) -> None:
    change = disable((ONE, "true"), (TWO, "true"), (DISABLED, "false"))
    assert change.check(read) == Pending(2, "contacts")
    assert change.apply(write, "token", no_progress) == {"updated": 2}
    (call,) = portal.sent("POST /batch/update")
    assert [each["id"] for each in call.body["inputs"]] == [ONE, TWO]
    assert isinstance(change.check(read), Done)
    back = change.inverse()
    assert back.check(read) == Pending(2, "contacts")
    back.apply(write, "token", no_progress)
    assert [held(portal, id) for id in (ONE, TWO, DISABLED)] == ["true", "true", "false"]


def test_an_empty_value_is_put_back_as_empty(portal: Portal, read: Systems, write: Systems) -> None:
    portal.contacts.write(ONE, {ENABLED: ""})
    change = disable((ONE, None))
    change.apply(write, "token", no_progress)
    change.inverse().apply(write, "token", no_progress)
    assert held(portal, ONE) is None
    assert change.inverse().check(read) == Done("download_enabled has the wanted value for all 1")


def test_somebody_elses_value_is_not_written_over(portal: Portal, read: Systems) -> None:
    portal.contacts.write(TWO, {ENABLED: ""})
    found = disable((ONE, "true"), (TWO, "true")).check(read)
    assert isinstance(found, Drifted)
    assert TWO in found.why
    assert ONE not in found.why


def test_a_contact_that_was_merged_since_stops_it(portal: Portal, read: Systems) -> None:
    portal.contacts.merge(TWO, ONE)
    assert disable((ONE, "true"), (TWO, "true")).check(read) == Drifted(f"deleted or merged since: {TWO}")


def test_what_hubspot_left_out_is_named_beside_what_it_did(portal: Portal, write: Systems) -> None:
    portal.contacts.merge(TWO, ONE)
    with pytest.raises(PartialFailure, match=f"changed 1 of 2 contacts, and refused {TWO}: .*merged") as raised:
        disable((ONE, "true"), (TWO, "true")).apply(write, "token", no_progress)
    assert raised.value.parts == [ONE]
    assert held(portal, ONE) == "false"
    with pytest.raises(ExternalError, match="changed 0 of 1 contacts"):
        disable((ONE, "true"), (TWO, "true")).apply(write, "token", no_progress)
    assert [each["id"] for each in portal.sent("POST /batch/update")[-1].body["inputs"]] == [TWO]


def test_what_changed_between_the_look_and_the_call_is_not_written_over(portal: Portal, write: Systems) -> None:
    portal.contacts.write(TWO, {ENABLED: ""})
    with pytest.raises(DriftError, match=f"{TWO} is neither the value in the plan"):
        disable((ONE, "true"), (TWO, "true")).apply(write, "token", no_progress)
    assert held(portal, ONE) == "true"


def theirs(portal: Portal, how: str) -> None:
    """Somebody else decides about TWO."""
    if how == "merged":
        portal.contacts.merge(TWO, DISABLED)
    else:
        portal.contacts.write(TWO, {ENABLED: how})


@pytest.mark.parametrize("how", ["merged", ""])
def test_taken_back_where_it_is_still_ours(portal: Portal, read: Systems, write: Systems, how: str) -> None:
    change = disable((ONE, "true"), (TWO, "true"))
    change.apply(write, "token", no_progress)
    theirs(portal, how)
    back = change.inverse()
    found = back.check(read)
    assert isinstance(found, Pending)
    assert (found.count, found.note) == (1, f"1 skipped, because somebody else changed, merged or deleted them: {TWO}")
    assert back.apply(write, "token", no_progress) == {"updated": 1}
    assert held(portal, ONE) == "true"
    found = back.check(read)
    assert isinstance(found, Done)
    assert "has the wanted value for all 1; 1 skipped" in found.why


def test_one_that_was_so_before_is_no_part_of_the_way_back(portal: Portal, read: Systems, write: Systems) -> None:
    change = disable((ONE, "true"), (TWO, "false"))
    portal.contacts.write(TWO, {ENABLED: "false"})
    change.apply(write, "token", no_progress)
    portal.contacts.write(TWO, {ENABLED: "true"})
    assert change.inverse().check(read) == Pending(1, "contacts")
    change.inverse().apply(write, "token", no_progress)
    assert change.inverse().check(read) == Done("download_enabled has the wanted value for all 1")
    assert held(portal, TWO) == "true"


def test_nothing_that_is_ours_is_left_alone_whole(portal: Portal, read: Systems, write: Systems) -> None:
    change = disable((TWO, "true"))
    change.apply(write, "token", no_progress)
    theirs(portal, "")
    assert isinstance(change.inverse().check(read), Skipped)


@pytest.mark.parametrize(("action", "so"), [("timeout-after-effect", "false"), ("drop", "true")])
def test_a_lost_answer_is_looked_up(portal: Portal, read: Systems, write: Systems, action: str, so: str) -> None:
    portal.fault(WRITE, action)
    change = disable((ONE, "true"))
    with pytest.raises(OutcomeUnknown):
        change.apply(write, "token", no_progress)
    assert held(portal, ONE) == so
    assert isinstance(change.check(read), Done if so == "false" else Pending)


def test_a_limit_that_lasts_changes_nothing(portal: Portal, write: Systems) -> None:
    portal.fault(WRITE, "throttle", times=0)
    write.hubspot._http.pause = lambda seconds: None
    with pytest.raises(Throttled):
        disable((ONE, "true")).apply(write, "token", no_progress)
    assert held(portal, ONE) == "true"


def test_what_many_changes_are_called() -> None:
    assert disable((ONE, "true")).target == f"contact/{ONE}"
    assert disable((ONE, "true"), (TWO, "true")).target == f"contacts/{ONE}..{TWO}"
    assert disable((ONE, "true")).difference() == ("true", "false")
    assert disable((ONE, "true"), (TWO, None)).inverse().summary == "set download_enabled of 2 contacts to nothing or true"


def pinned(read: Systems, id: str = ONE) -> dict[str, Any]:
    return pin(read, id)


def test_a_request_that_is_on_is_turned_off_first(portal: Portal, read: Systems, write: Systems) -> None:
    off, on = EndTokenRequest(**pinned(read)), MintToken(**pinned(read))
    assert off.check(read) == Pending(1, "contacts")
    assert on.depends_on == {off.target}
    off.apply(write, "token", no_progress)
    assert off.check(read) == Done("the token request is cleared")
    on.apply(write, "token", no_progress)
    assert [call.body["properties"] for call in portal.calls if call.method == "PATCH"] == [{REQUESTED: "false"}, {REQUESTED: "true"}]


def test_a_request_that_is_off_is_let_be(read: Systems) -> None:
    assert EndTokenRequest(**pinned(read, DISABLED)).check(read) == Done("the token request is cleared")


def test_once_it_was_asked_for_it_is_waited_for_and_never_asked_again(portal: Portal, read: Systems, write: Systems) -> None:
    off, on = EndTokenRequest(**pinned(read)), MintToken(**pinned(read))
    off.apply(write, "token", no_progress)
    on.apply(write, "token", no_progress)
    assert isinstance(on.check(read), InProgress)
    assert off.check(read) == Done("the token request was set since the plan")
    portal.contacts.write(ONE, {REQUESTED: "false"})
    assert isinstance(on.check(read), InProgress)
    portal.contacts.write(ONE, {TOKEN: "a-new-token-abcd"})
    found = on.check(read)
    assert isinstance(found, Done)
    assert f"the token is now {fingerprint(b'a-new-token-abcd')}" in found.why
    assert "a-new-token" not in found.why


def test_a_token_for_one_whose_downloads_are_disabled_is_warned_of(read: Systems) -> None:
    found = MintToken(**pinned(read, DISABLED)).check(read)
    assert isinstance(found, Pending)
    assert "downloads are disabled" in found.note


def test_by_webhook_the_same_event_is_sent_whenever_it_is_sent(write: Systems, read: Systems) -> None:
    sent: list[tuple[Any, ...]] = []
    write.__dict__["webhook"] = type("Webhook", (), {"send": lambda self, *words, **more: sent.append((words, more))})()
    at = datetime(2030, 1, 2, tzinfo=UTC)
    change = MintToken(**pinned(read), event=4711, at=at)
    change.apply(write, "run-1", no_progress)
    change.apply(write, "run-1", no_progress)
    assert sent == [((ONE, REQUESTED, "true"), {"event": 4711, "at": at})] * 2
    assert change.depends_on == frozenset()


def test_a_revoked_token_is_gone_and_the_request_ready_to_be_made(portal: Portal, read: Systems, write: Systems) -> None:
    change = RevokeToken(**pinned(read))
    found = change.check(read)
    assert isinstance(found, Pending)
    change.apply(write, "token", no_progress)
    assert held(portal, ONE, TOKEN) is None
    assert held(portal, ONE, REQUESTED) == "false"
    assert change.check(read) == Done("that token is deleted")
    assert isinstance(MintToken(**{**pinned(read), "before": change.before}).check(read), Pending)


def test_another_token_than_the_pinned_one_is_let_be(portal: Portal, read: Systems) -> None:
    change = RevokeToken(**pinned(read))
    portal.contacts.write(ONE, {TOKEN: "somebody-minted-abcd"})
    found = change.check(read)
    assert isinstance(found, Done)
    assert found.why.startswith(f"the token is {fingerprint(b'somebody-minted-abcd')}, no longer ")


def test_no_token_is_nothing_to_revoke(read: Systems) -> None:
    assert RevokeToken(**pinned(read, DISABLED)).check(read) == Done("there is no token")


@pytest.mark.parametrize("action", ["timeout-after-effect", "drop"])
def test_a_revocation_whose_answer_is_lost_is_not_repeated_blindly(portal: Portal, read: Systems, write: Systems, action: str) -> None:
    change = RevokeToken(**pinned(read))
    portal.fault(PATCH, action)
    with pytest.raises(OutcomeUnknown):
        change.apply(write, "token", no_progress)
    assert (held(portal, ONE, TOKEN) is None) is (action == "timeout-after-effect")
    assert isinstance(change.check(read), Done if action == "timeout-after-effect" else Pending)


@pytest.mark.parametrize("kind", [EndTokenRequest, MintToken, RevokeToken])
def test_a_token_has_no_way_back(read: Systems, kind: Any) -> None:
    assert isinstance(kind(**pinned(read)).inverse(), Irreversible)
    assert kind(**pinned(read)).proven_by_history
