"""Contacts read, resolved and changed, on the stand-in; whose portal it is; and what HubSpot's refusals mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from portal import Portal, contact_id

from opsctl.adapters.http.answers import convert
from opsctl.adapters.hubspot.records import BatchResponse, BatchUpdateResponse, HubSpotContact, outcome_of, require_seen, results_of
from opsctl.errors import CredentialsInvalid, Denied, ExternalError, NotFound, OutcomeUnknown, ReadOnly, Retry, Throttled, WrongPlace
from opsctl.redaction import vault
from opsctl.sandbox.hubspot import PORTAL

FIRST = contact_id(0)
OFF, ON = {"download_enabled": "false"}, {"download_enabled": "true"}


@pytest.fixture
def portal(tmp_path):
    made = Portal(tmp_path)
    yield made
    made.close()


@pytest.fixture
def reading(portal):
    return portal.systems(writing=False).hubspot


@pytest.fixture
def writing(portal):
    return portal.systems(writing=True).hubspot


def value(portal, id, name="download_enabled"):
    return portal.contacts.find(id).value(name)


def test_a_contact_is_read_by_id_and_by_email(portal, reading):
    by_id = reading.contact(FIRST, ["download_enabled"])
    by_email = reading.contact("contact0@example.com", ["download_enabled"])
    assert by_id == by_email
    assert (by_id.id, by_id.email, by_id.properties["download_enabled"]) == (FIRST, "contact0@example.com", "true")


@pytest.mark.parametrize("email", ["ada+hh@example.com", "a?c=d&e#f@example.com", "ada%40@example.com", "ädä@example.com"])
def test_any_email_reaches_its_own_contact(portal, reading, email):
    portal.contacts.write(FIRST, {"email": email})
    assert reading.contact(email).id == FIRST
    assert portal.calls[-1].query["idProperty"] == "email"


def test_an_empty_property_is_none_and_an_undefined_one_is_an_error(portal, reading):
    portal.contacts.write(FIRST, {"download_token": ""})
    assert reading.contact(FIRST, ["download_token"]).properties["download_token"] is None
    with pytest.raises(ExternalError, match="returned no contact property shoe_size"):
        reading.contact(FIRST, ["download_token", "shoe_size"])
    with pytest.raises(ExternalError, match="returned no contact property shoe_size"):
        reading.read([FIRST], ["shoe_size"])


def test_a_value_without_the_history_that_was_asked_for_is_an_error():
    found = HubSpotContact("1", None, {"token": "t", "empty": None}, {"empty": []})
    require_seen(found, ["token", "empty"], ["empty"])
    with pytest.raises(ExternalError, match="returned no history of token"):
        require_seen(found, ["token"], ["token"])


def test_a_history_begins_with_the_newest_and_tells_who_wrote(reading, writing):
    writing.set(FIRST, OFF)
    newest, oldest = reading.contact(FIRST, history=["download_enabled"]).history["download_enabled"]
    assert (newest.value, newest.source, oldest.value) == ("false", "INTEGRATION", "true")
    assert datetime.now(UTC) - newest.at < timedelta(minutes=1)
    assert newest.at > oldest.at


def test_the_id_of_a_merged_contact_is_that_of_the_contact_it_was_merged_into(portal, reading):
    portal.contacts.merge(contact_id(1), FIRST)
    assert reading.contact(contact_id(1)).id == FIRST


@pytest.mark.parametrize("who", ["1", "nobody@example.com", contact_id(100_000)])
def test_nobody_there_is_not_found(reading, who):
    with pytest.raises(NotFound, match=who):
        reading.contact(who)


def test_a_pairing_token_that_was_read_is_hidden_from_then_on(reading):
    found = reading.contact(FIRST, ["download_token"], ["download_token"])
    token = found.properties["download_token"]
    assert token not in repr(found)
    assert token not in vault.redact(f"minted_token {FIRST} {token}")


def test_many_are_read_a_hundred_a_call_and_the_missing_are_named(portal, reading):
    portal.contacts.merge(contact_id(7), FIRST)
    ids = [contact_id(number) for number in range(250)]
    found, missing = reading.read([*ids, "12", FIRST], ["download_enabled"])
    assert list(found) == [id for id in ids if id != contact_id(7)]
    assert missing == [contact_id(7), "12"]
    assert found[contact_id(3)].properties["download_enabled"] == "true"
    assert [len(call.body["inputs"]) for call in portal.sent("POST /batch/read")] == [100, 100, 51]


def test_emails_are_resolved_whatever_their_case_and_doubles_are_named(portal, reading):
    emails = [f"Contact{number}@Example.com" for number in range(150)]
    found, missing, double = reading.resolve([*emails, "nobody@example.com", "contact3@example.com"])
    assert found == {f"Contact{number}@Example.com": contact_id(number) for number in range(150)}
    assert (missing, double) == (["nobody@example.com"], ["contact3@example.com"])
    assert len(portal.sent("POST /batch/read")) == 2
    assert reading.resolve([]) == ({}, [], [])


def test_two_emails_of_one_contact_name_it_twice(server, portal):
    hubspot = portal.systems(writing=False, base=server.base).hubspot
    one = '{"id": "1", "properties": {"email": "ada@example.com", "hs_additional_emails": "Love@example.com;x@example.com"}}'
    server.answers = [(200, {}, f'{{"portalId": {PORTAL}}}'), (200, {}, f'{{"status": "COMPLETE", "results": [{one}]}}')]
    assert hubspot.resolve(["love@example.com", "ada@example.com"]) == ({"love@example.com": "1"}, [], ["ada@example.com"])


def test_many_are_updated_and_each_that_was_not_has_its_reason(portal, writing):
    portal.contacts.merge(contact_id(7), contact_id(200))
    ids = [contact_id(number) for number in range(150)]
    done, errors = writing.update(dict.fromkeys([*ids, "12"], OFF))
    assert done == [id for id in ids if id != contact_id(7)]
    assert sorted(errors) == ["12", contact_id(7)]
    assert "OBJECT_NOT_FOUND" in errors["12"]
    assert "merged" in errors[contact_id(7)]
    assert {value(portal, id) for id in done} == {"false"}
    assert value(portal, contact_id(200)) == "true"
    assert [len(call.body["inputs"]) for call in portal.sent("POST /batch/update")] == [100, 51]


def test_an_update_with_a_bad_property_changes_nothing(portal, writing):
    with pytest.raises(ExternalError, match="shoe_size") as failed:
        writing.update({FIRST: OFF, contact_id(1): {"shoe_size": "42"}})
    assert "shoe_size" in failed.value.next
    assert value(portal, FIRST) == "true"


def test_one_is_set_and_what_it_is_now_comes_back(portal, writing):
    assert writing.set(FIRST, OFF).properties["download_enabled"] == "false"
    assert value(portal, FIRST) == "false"
    with pytest.raises(NotFound):
        writing.set("12", OFF)


def test_a_reading_one_changes_nothing(portal, reading):
    for call in (
        lambda: reading.set(FIRST, OFF),
        lambda: reading.update({FIRST: OFF}),
        lambda: reading._http.call("PATCH", f"/crm/v3/objects/contacts/{FIRST}", "x", json={}),
        lambda: reading._http.client.post(f"{portal.base}/crm/v3/objects/contacts/batch/update", json={}),
    ):
        with pytest.raises(ReadOnly):
            call()
    assert portal.calls == []


def test_the_portal_is_proven_once_before_anything_else(portal, writing):
    writing.set(FIRST, OFF)
    writing.contact(FIRST)
    assert portal.calls[0].path == "/account-info/v3/details"
    assert len(portal.sent("GET /details")) == 1


def test_another_portal_than_the_environments_is_left_alone(portal):
    systems = portal.systems(writing=True, portal=4711)
    for call in (
        lambda: systems.hubspot.set(FIRST, OFF),
        lambda: systems.hubspot.update({FIRST: OFF}),
        lambda: systems.hubspot.read([FIRST]),
    ):
        with pytest.raises(WrongPlace, match=f"{PORTAL}.*4711"):
            call()
    assert systems.hubspot.account().portal == int(PORTAL)
    assert {call.path for call in portal.calls} == {"/account-info/v3/details"}


def test_a_token_may_be_proven_before_it_is_stored(portal):
    systems = portal.systems(writing=False)
    good = portal.systems(writing=False, token="hs_next_token")
    assert systems.hubspot_as(good.resolve(good.config.hubspot.token)).verify_portal().portal == int(PORTAL)
    bad = portal.systems(writing=False, token="hs_expired_token")
    with pytest.raises(CredentialsInvalid, match="expired"):
        systems.hubspot_as(bad.resolve(bad.config.hubspot.token)).verify_portal()


def test_a_token_without_the_scope_names_it(portal):
    hubspot = portal.systems(writing=True, token="hs_reading_token").hubspot
    for call in (lambda: hubspot.set(FIRST, OFF), lambda: hubspot.update({FIRST: OFF})):
        with pytest.raises(Denied, match=r"crm\.objects\.contacts\.write") as failed:
            call()
        assert "crm.objects.contacts.write" in str(failed.value.next)
    assert value(portal, FIRST) == "true"


@pytest.mark.parametrize("token", ["a-token-of-nobody", "hs_expired_token"])
def test_a_token_that_is_not_valid_says_how_to_store_another(portal, token):
    with pytest.raises(CredentialsInvalid) as failed:
        portal.systems(writing=False, token=token).hubspot.contact(FIRST)
    assert failed.value.next.endswith("opsctl secrets rotate hubspot-token --value-from -")
    assert "a-token-of-nobody" not in f"{failed.value} {failed.value.__cause__!r}"


def test_the_daily_limit_stops_a_run_that_may_be_resumed(tmp_path):
    portal = Portal(tmp_path, hs_daily="2")
    try:
        hubspot = portal.systems(writing=True).hubspot
        hubspot.set(FIRST, OFF)
        with pytest.raises(Throttled, match="daily limit") as failed:
            hubspot.set(FIRST, ON)
        assert "midnight in the portal's time zone (UTC)" in str(failed.value.next)
        assert isinstance(failed.value.next, Retry)
        # Asking again is of no use.
        assert len(portal.sent(f"PATCH /{FIRST}")) == 2
        assert value(portal, FIRST) == "false"
    finally:
        portal.close()


def test_a_burst_limit_is_waited_out_for_a_write_too(portal, writing):
    waits = []
    writing._http.pause = waits.append
    writing.verify_portal()
    writing._http.limiter.learn(190, 10)
    portal.fault("PATCH*", "throttle")
    writing.set(FIRST, OFF)
    # What the fault's Retry-After says.
    assert waits == [1]
    assert value(portal, FIRST) == "false"


def test_a_limit_that_lasts_is_told(portal, writing):
    portal.fault("PATCH*", "throttle", times=0)
    with pytest.raises(Throttled, match="throttles"):
        writing.set(FIRST, OFF)
    assert len(portal.sent(f"PATCH /{FIRST}")) == 4


@pytest.mark.parametrize("status", [423, 477, 502, 503, 504, 521, 523, 524])
def test_a_moments_weakness_is_no_failure_of_a_read(portal, reading, status):
    portal.fault("GET /crm*", "fail", status=status, times=2)
    assert reading.contact(FIRST).id == FIRST
    portal.fault("POST*", "fail", status=status)
    assert reading.read([FIRST]).missing == []


def test_a_connection_that_is_lost_under_a_read_is_no_failure(portal, reading):
    portal.fault("GET /crm*", "drop", times=2)
    assert reading.contact(FIRST).id == FIRST


def test_a_read_that_is_not_answered_in_time_is_not_asked_again(portal, reading):
    reading.verify_portal()
    reading._http.client.timeout = 0.05
    portal.fault("GET /crm*", "slow", seconds=2, times=0)
    with pytest.raises(ExternalError, match="in time"):
        reading.contact(FIRST)
    assert len(portal.sent("GET /details")) == 1


@pytest.mark.parametrize("status", [500, 522, 525, 526])
def test_what_lasts_is_not_asked_again(portal, reading, status):
    portal.fault("GET /crm*", "fail", status=status, times=0)
    with pytest.raises(ExternalError, match=str(status)):
        reading.contact(FIRST)
    assert len(portal.sent(f"GET /{FIRST}")) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 524])
def test_a_write_that_may_have_happened_is_never_sent_again(portal, writing, status):
    portal.fault("P*", "fail", status=status, times=0)
    for call, sent in ((lambda: writing.set(FIRST, OFF), f"PATCH /{FIRST}"), (lambda: writing.update({FIRST: OFF}), "POST /batch/update")):
        with pytest.raises(OutcomeUnknown):
            call()
        assert len(portal.sent(sent)) == 1


@pytest.mark.parametrize("status", [423, 477])
def test_a_record_that_is_locked_for_a_moment_is_written_after_it(portal, writing, status):
    portal.fault("PATCH*", "fail", status=status)
    writing.set(FIRST, OFF)
    assert value(portal, FIRST) == "false"


@pytest.mark.parametrize("action", ["drop", "timeout-after-effect"])
def test_a_lost_answer_is_a_doubt_for_a_write_and_a_failure_for_a_read(portal, writing, reading, action):
    portal.fault("P*", action, times=0)
    with pytest.raises(OutcomeUnknown, match="may or may not have happened"):
        writing.set(FIRST, OFF)
    with pytest.raises(OutcomeUnknown):
        writing.update({FIRST: OFF})
    assert value(portal, FIRST) == ("false" if action == "timeout-after-effect" else "true")
    with pytest.raises(ExternalError, match="closed the connection"):
        reading.read([FIRST])


def test_a_no_in_the_middle_of_an_update_is_none_of_the_whole(portal, writing):
    original = writing._http._send

    def fail_second(method, path, effect, **parts):
        if portal.sent("POST /batch/update"):
            portal.fault("POST*", "refuse")
        return original(method, path, effect, **parts)

    writing._http._send = fail_second
    with pytest.raises(OutcomeUnknown, match="100 contacts had been updated before"):
        writing.update({contact_id(number): OFF for number in range(150)})


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"results": [{"id": 1}]}', '{"results": 1}'])
def test_an_answer_that_cannot_be_read_is_a_doubt_after_a_write(server, portal, body):
    server.answers = [(200, {}, f'{{"portalId": {PORTAL}}}'), (200, {}, body)]
    hubspot = portal.systems(writing=True, base=server.base).hubspot
    with pytest.raises(ExternalError, match="HubSpot"):
        hubspot.contact("1")
    with pytest.raises(OutcomeUnknown):
        hubspot.set("1", OFF)
    if "id" not in body:
        with pytest.raises(ExternalError):
            hubspot.read(["1"])
        with pytest.raises(OutcomeUnknown):
            hubspot.update({"1": OFF})


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING", "CANCELED", "ELSEWHERE"])
def test_a_batch_that_hubspot_has_not_completed_refuses_nobody(status):
    with pytest.raises(OutcomeUnknown, match="may change some of them later"):
        outcome_of(convert({"status": status, "results": []}, BatchUpdateResponse), ["1", "2"])
    with pytest.raises(ExternalError, match="did not complete the batch"):
        results_of(convert({"status": status, "results": []}, BatchResponse))


def test_a_batch_that_is_not_complete_and_names_everybody_is_told_as_it_is():
    errors = [{"category": "VALIDATION_ERROR", "message": "no", "context": {"ids": ["2"]}}]
    assert outcome_of(convert({"status": "PENDING", "results": [{"id": "1"}], "errors": errors}, BatchUpdateResponse), ["1", "2"]) == (
        ["1"],
        {"2": "VALIDATION_ERROR: no"},
    )


def test_who_is_left_out_of_a_complete_batch_was_merged_or_deleted():
    _, refused = outcome_of(convert({"status": "COMPLETE", "results": [{"id": "1"}]}, BatchUpdateResponse), ["1", "2"])
    assert "merged into another contact, or deleted" in refused["2"]
