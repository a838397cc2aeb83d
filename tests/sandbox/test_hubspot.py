from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from opsctl.sandbox import hubspot
from opsctl.sandbox.hubspot import TOKENS, FakeHubSpot
from opsctl.sandbox.hubspot_contacts import FIRST, POPULATION, SEEDED
from opsctl.sandbox.services import SandboxContext
from opsctl.sandbox.web import Routes

CONTACT = "156855158284"
BASE = "/crm/v3/objects/contacts"


@dataclass
class Portal:
    """One portal with a clock that a test sets ahead."""

    tempo: float
    folder: Path
    facts: dict[str, str] = field(default_factory=dict)
    now: float = 1_700_000_000.0

    def __post_init__(self) -> None:
        world = SandboxContext(self.folder, self.tempo, lambda: self.now, facts=self.facts)
        part = hubspot.build(world)
        assert isinstance(part, FakeHubSpot)
        self.part = part
        self.client = Client(part.app)

    def call(self, method: str, path: str, body: Any = None, token: str = "hs_token", **query: str) -> TestResponse:
        headers = {"Authorization": f"Bearer {TOKENS[token]}"}
        given = {} if body is None else {"json": body}
        return self.client.open(BASE + path, method=method, headers=headers, query_string=query, **given)

    def properties(self, contact: str, *names: str) -> dict[str, Any]:
        answer = self.call("GET", f"/{contact}", properties=",".join(names))
        return {name: answer.get_json()["properties"][name] for name in names}

    def set(self, contact: str, **properties: str) -> TestResponse:
        return self.call("PATCH", f"/{contact}", {"properties": properties})

    def search(self, *filters: dict[str, Any], **body: Any) -> TestResponse:
        return self.call("POST", "/search", {"filterGroups": [{"filters": list(filters)}], **body})


@pytest.fixture
def portal(tmp_path: Path) -> Portal:
    return Portal(0, tmp_path)


@pytest.fixture
def paced(tmp_path: Path) -> Portal:
    return Portal(1, tmp_path)


def _inputs(*contacts: str, **properties: str) -> dict[str, Any]:
    return {"inputs": [{"id": contact, "properties": properties} for contact in contacts]}


def test_the_account_names_its_portal(portal: Portal) -> None:
    headers = {"Authorization": f"Bearer {TOKENS['hs_token']}"}
    assert portal.client.get("/account-info/v3/details", headers=headers).get_json()["portalId"] == 891472211


def test_a_contact_is_read_by_id_and_by_email(portal: Portal) -> None:
    assert portal.properties(CONTACT, "email", "download_enabled") == {
        "email": "contact0@example.com",
        "download_enabled": "true",
    }
    assert portal.call("GET", "/contact0%40example.com", idProperty="email").get_json()["id"] == CONTACT


def test_a_write_by_email_is_a_write_of_the_record(portal: Portal) -> None:
    answer = portal.call("PATCH", "/contact0@example.com", {"properties": {"lastname": "Ada"}}, idProperty="email")
    assert answer.get_json()["id"] == CONTACT
    assert portal.properties(CONTACT, "lastname") == {"lastname": "Ada"}


def test_a_changed_email_finds_its_contact_and_the_former_one_none(portal: Portal) -> None:
    portal.set(CONTACT, email="new@example.com")
    assert portal.call("GET", "/new@example.com", idProperty="email").get_json()["id"] == CONTACT
    assert portal.call("GET", "/contact0@example.com", idProperty="email").status_code == 404


def test_a_contact_of_the_population_comes_into_being_when_asked_for(portal: Portal) -> None:
    last = FIRST + POPULATION - 1
    assert portal.properties(str(last), "email") == {"email": f"contact{POPULATION - 1}@example.com"}
    assert portal.call("GET", f"/{last + 1}").status_code == 404
    assert portal.call("GET", "/contact500@example.com", idProperty="email").get_json()["id"] == str(FIRST + 500)


def test_an_empty_string_clears_a_property_and_a_defined_but_empty_one_is_null(portal: Portal) -> None:
    assert portal.set(CONTACT, download_token="").status_code == 200
    assert portal.properties(CONTACT, "download_token") == {"download_token": None}


def test_a_property_that_does_not_exist_is_left_out_of_a_read(portal: Portal) -> None:
    assert "shoe_size" not in portal.call("GET", f"/{CONTACT}", properties="shoe_size").get_json()["properties"]


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"shoe_size": "42"}, "PROPERTY_DOESNT_EXIST"),
        ({"hs_object_id": "1"}, "READ_ONLY_VALUE"),
        ({"download_enabled": "yes"}, "INVALID_OPTION"),
        ({"download_enabled": True}, "INVALID_STRING"),
    ],
)
def test_an_invalid_write_is_refused_whole(portal: Portal, properties: dict[str, Any], code: str) -> None:
    answer = portal.call("PATCH", f"/{CONTACT}", {"properties": {"lastname": "Ada", **properties}})
    assert (answer.status_code, answer.get_json()["category"]) == (400, "VALIDATION_ERROR")
    assert [error["code"] for error in answer.get_json()["errors"]] == [code]
    assert portal.properties(CONTACT, "lastname") == {"lastname": "Example"}


def test_history_is_told_newest_first(portal: Portal) -> None:
    for value in ("false", "false", "true"):
        portal.now += 1
        portal.set(CONTACT, download_enabled=value)
    answer = portal.call("GET", f"/{CONTACT}", propertiesWithHistory="download_enabled").get_json()
    entries = answer["propertiesWithHistory"]["download_enabled"]
    assert [entry["value"] for entry in entries] == ["true", "false", "true"]
    assert entries[0]["timestamp"] == "2023-11-14T22:13:23.000Z"
    assert set(entries[0]) == {"value", "timestamp", "sourceType", "sourceId", "sourceLabel", "updatedByUserId"}


def test_a_missing_contact_is_not_found(portal: Portal) -> None:
    for path in ("/1", "/not-an-id"):
        answer = portal.call("GET", path)
        assert (answer.status_code, answer.get_json()["category"]) == (404, "OBJECT_NOT_FOUND")
        assert answer.get_json()["correlationId"]


@pytest.mark.parametrize(
    ("token", "category"), [("wrong", "INVALID_AUTHENTICATION"), (TOKENS["hs_expired_token"], "EXPIRED_AUTHENTICATION")]
)
def test_a_wrong_and_an_expired_token_are_told_apart(portal: Portal, token: str, category: str) -> None:
    answer = portal.client.get(f"{BASE}/{CONTACT}", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.get_json()["category"]) == (401, category)


def test_no_token_is_refused(portal: Portal) -> None:
    assert portal.client.get(f"{BASE}/{CONTACT}").status_code == 401


def test_the_world_s_facts_name_the_token(tmp_path: Path) -> None:
    portal = Portal(0, tmp_path, {"hs_token": "another"})
    assert portal.call("GET", f"/{CONTACT}").status_code == 401
    assert portal.client.get(f"{BASE}/{CONTACT}", headers={"Authorization": "Bearer another"}).status_code == 200


def test_a_missing_scope_is_named(portal: Portal) -> None:
    body = _inputs(CONTACT, lastname="Ada")
    for method, path in (("PATCH", f"/{CONTACT}"), ("POST", "/batch/update")):
        answer = portal.call(method, path, body, token="hs_reading_token")
        assert (answer.status_code, answer.get_json()["category"]) == (403, "MISSING_SCOPES")
        context = answer.get_json()["errors"][0]["context"]
        assert context["requiredGranularScopes"] == ["crm.objects.contacts.write"]
    assert portal.call("GET", f"/{CONTACT}", token="hs_reading_token").status_code == 200
    assert portal.call("POST", "/batch/read", _inputs(CONTACT), token="hs_reading_token").status_code == 200


def test_a_batch_is_read_and_updated(portal: Portal) -> None:
    contacts = [str(FIRST + number) for number in range(100)]
    assert portal.call("POST", "/batch/update", _inputs(*contacts, download_enabled="false")).status_code == 200
    read = portal.call("POST", "/batch/read", {**_inputs(*contacts), "properties": ["download_enabled"]}).get_json()
    assert [result["id"] for result in read["results"]] == contacts
    assert {result["properties"]["download_enabled"] for result in read["results"]} == {"false"}
    assert read["status"] == "COMPLETE"
    assert "errors" not in read


@pytest.mark.parametrize("path", ["/batch/read", "/batch/update"])
def test_a_batch_holds_a_hundred(portal: Portal, path: str) -> None:
    contacts = [str(FIRST + number) for number in range(101)]
    assert portal.call("POST", path, _inputs(*contacts[:100])).status_code == 200
    assert portal.call("POST", path, _inputs(*contacts)).status_code == 400


def test_a_batch_read_with_history_holds_fifty(portal: Portal) -> None:
    contacts = [str(FIRST + number) for number in range(51)]
    history = {"propertiesWithHistory": ["download_token"]}
    assert portal.call("POST", "/batch/read", {**_inputs(*contacts[:50]), **history}).status_code == 200
    assert portal.call("POST", "/batch/read", {**_inputs(*contacts), **history}).status_code == 400


@pytest.mark.parametrize("path", ["/batch/read", "/batch/update"])
def test_a_duplicate_id_fails_the_whole_batch(portal: Portal, path: str) -> None:
    other = str(FIRST + 1)
    answer = portal.call("POST", path, _inputs(CONTACT, other, CONTACT, lastname="Ada"))
    assert (answer.status_code, answer.get_json()["category"]) == (400, "VALIDATION_ERROR")
    assert portal.properties(other, "lastname") == {"lastname": "Example"}


def test_an_invalid_property_fails_the_whole_batch(portal: Portal) -> None:
    body = {"inputs": [*_inputs(CONTACT, lastname="Ada")["inputs"], *_inputs(str(FIRST + 1), shoe="42")["inputs"]]}
    assert portal.call("POST", "/batch/update", body).status_code == 400
    assert portal.properties(CONTACT, "lastname") == {"lastname": "Example"}


@pytest.mark.parametrize("path", ["/batch/read", "/batch/update"])
def test_missing_ids_make_a_207_with_one_error_for_all_of_them(portal: Portal, path: str) -> None:
    answer = portal.call("POST", path, _inputs(CONTACT, "1", "2", lastname="Ada"))
    body = answer.get_json()
    assert answer.status_code == 207
    assert [result["id"] for result in body["results"]] == [CONTACT]
    assert (body["status"], body["numErrors"]) == ("COMPLETE", 1)
    assert body["errors"][0]["category"] == "OBJECT_NOT_FOUND"
    assert body["errors"][0]["context"]["ids"] == ["1", "2"]


def test_a_207_carries_the_trace_ids_that_were_sent(portal: Portal) -> None:
    body = {"inputs": [{"id": "1", "properties": {}, "objectWriteTraceId": "trace-1"}]}
    answer = portal.call("POST", "/batch/update", body).get_json()
    assert answer["errors"][0]["context"]["objectWriteTraceId"] == ["trace-1"]


@pytest.mark.parametrize("path", ["/batch/read", "/batch/update"])
def test_a_merged_id_is_left_out_of_a_200_without_an_error(portal: Portal, path: str) -> None:
    loser = str(FIRST + 1)
    portal.part.contacts.merge(loser, CONTACT)
    answer = portal.call("POST", path, _inputs(loser, str(FIRST + 2), lastname="Ada"))
    assert answer.status_code == 200
    assert [result["id"] for result in answer.get_json()["results"]] == [str(FIRST + 2)]


def test_a_merged_id_read_alone_gives_the_record_it_was_merged_into(portal: Portal) -> None:
    portal.part.contacts.merge(str(FIRST + 1), CONTACT)
    assert portal.call("GET", f"/{FIRST + 1}").get_json()["id"] == CONTACT


def test_a_batch_is_read_by_email_and_not_updated_by_it(portal: Portal) -> None:
    read = portal.call("POST", "/batch/read", {**_inputs("contact0@example.com"), "idProperty": "email"}).get_json()
    assert [result["id"] for result in read["results"]] == [CONTACT]
    update = {"inputs": [{"id": "contact0@example.com", "idProperty": "email", "properties": {"lastname": "Ada"}}]}
    assert portal.call("POST", "/batch/update", update).status_code == 400
    assert portal.properties(CONTACT, "lastname") == {"lastname": "Example"}


def test_a_search_filters_and_pages(portal: Portal) -> None:
    disabled = {"propertyName": "download_enabled", "operator": "EQ", "value": "false"}
    first = portal.search(disabled, limit=15).get_json()
    assert (first["total"], len(first["results"])) == (SEEDED // 10, 15)
    rest = portal.search(disabled, limit=15, after=first["paging"]["next"]["after"]).get_json()
    assert len(rest["results"]) == 5
    assert "paging" not in rest


@pytest.mark.parametrize(
    ("condition", "total"),
    [
        ({"propertyName": "email", "operator": "IN", "values": ["contact1@example.com", "x"]}, 1),
        ({"propertyName": "email", "operator": "NEQ", "value": "contact1@example.com"}, SEEDED - 1),
        ({"propertyName": "download_token", "operator": "NOT_HAS_PROPERTY"}, SEEDED // 10),
        ({"propertyName": "download_token", "operator": "HAS_PROPERTY"}, SEEDED - SEEDED // 10),
    ],
)
def test_a_search_knows_operators(portal: Portal, condition: dict[str, Any], total: int) -> None:
    assert portal.search(condition).get_json()["total"] == total


def test_a_search_gives_two_hundred_a_page_and_ten_thousand_in_all(portal: Portal) -> None:
    assert portal.search(limit=200, after=9_800).status_code == 200
    assert portal.search(limit=201).status_code == 400
    assert portal.search(limit=200, after=9_801).status_code == 400


def test_a_search_lags_behind_writes(paced: Portal) -> None:
    paced.now += 60
    disabled = {"propertyName": "email", "operator": "EQ", "value": "new@example.com"}
    paced.set(CONTACT, email="new@example.com")
    assert paced.search(disabled).get_json()["total"] == 0
    assert paced.properties(CONTACT, "email") == {"email": "new@example.com"}
    paced.now += 10
    assert paced.search(disabled).get_json()["total"] == 1


def test_a_search_carries_no_rate_headers(portal: Portal) -> None:
    assert not [name for name, _ in portal.search().headers if "RateLimit" in name]


def test_five_searches_a_second(paced: Portal) -> None:
    assert [paced.search().status_code for _ in range(6)] == [200] * 5 + [429]
    paced.now += 1
    assert paced.search().status_code == 200


def test_the_burst_limit_rolls_over_ten_seconds(tmp_path: Path) -> None:
    paced = Portal(1, tmp_path, {"hs_burst": "4"})
    assert [paced.call("GET", f"/{CONTACT}").status_code for _ in range(2)] == [200, 200]
    paced.now += 6
    assert [paced.call("GET", f"/{CONTACT}").status_code for _ in range(3)] == [200, 200, 429]
    paced.now += 4
    assert [paced.call("GET", f"/{CONTACT}").status_code for _ in range(3)] == [200, 200, 429]


def test_a_429_says_which_policy(tmp_path: Path) -> None:
    paced = Portal(1, tmp_path, {"hs_burst": "0"})
    body = paced.call("GET", f"/{CONTACT}").get_json()
    assert (body["status"], body["errorType"], body["policyName"]) == ("error", "RATE_LIMIT", "TEN_SECONDLY_ROLLING")
    assert set(body) == {"status", "message", "errorType", "correlationId", "policyName", "requestId"}


def test_rate_headers_count_down(paced: Portal) -> None:
    headers = paced.call("GET", f"/{CONTACT}").headers
    assert {name: headers[f"X-HubSpot-RateLimit-{name}"] for name in ("Max", "Remaining", "Interval-Milliseconds")} == {
        "Max": "190",
        "Remaining": "189",
        "Interval-Milliseconds": "10000",
    }
    assert (headers["X-HubSpot-RateLimit-Daily"], headers["X-HubSpot-RateLimit-Daily-Remaining"]) == ("625000", "624999")


def test_the_daily_count_starts_anew_at_midnight(tmp_path: Path) -> None:
    portal = Portal(0, tmp_path, {"hs_daily": "2"})
    midnight = portal.now // 86_400 * 86_400 + 86_400
    portal.now = midnight - 1
    answers = [portal.call("GET", f"/{CONTACT}") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].get_json()["policyName"] == "DAILY"
    portal.now = midnight
    assert portal.call("GET", f"/{CONTACT}").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/batch/read", {}),
        ("/batch/read", {"inputs": ["1"]}),
        ("/batch/update", {"inputs": [{"id": CONTACT}]}),
        ("/batch/update", []),
        ("/search", {"limit": "many"}),
        ("/search", {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "LIKE"}]}]}),
    ],
)
def test_an_invalid_body_is_a_validation_error(portal: Portal, path: str, body: Any) -> None:
    answer = portal.call("POST", path, body)
    assert (answer.status_code, answer.get_json()["category"]) == (400, "VALIDATION_ERROR")


def test_an_email_of_another_contact_is_refused(portal: Portal) -> None:
    answer = portal.set(CONTACT, email="Contact5@example.com", lastname="Ada")
    assert (answer.status_code, answer.get_json()["errors"][0]["code"]) == (400, "CONFLICTING_UNIQUE_VALUE")
    assert portal.properties(CONTACT, "email", "lastname") == {"email": "contact0@example.com", "lastname": "Example"}
    inputs = [{"id": CONTACT, "properties": {"email": "contact5@example.com"}}, {"id": str(FIRST + 1), "properties": {"lastname": "Ada"}}]
    batch = portal.call("POST", "/batch/update", {"inputs": inputs})
    assert batch.status_code == 207
    assert [result["id"] for result in batch.get_json()["results"]] == [str(FIRST + 1)]
    assert batch.get_json()["errors"][0]["context"]["ids"] == [CONTACT]


def test_a_contact_is_created_once(portal: Portal) -> None:
    made = portal.call("POST", "", {"properties": {"email": "ada@example.com", "lastname": "Ada"}})
    assert made.status_code == 201
    assert portal.call("GET", "/ada@example.com", idProperty="email").get_json()["id"] == made.get_json()["id"]
    assert portal.properties(made.get_json()["id"], "lastname", "download_token") == {"lastname": "Ada", "download_token": None}
    again = portal.call("POST", "", {"properties": {"email": "ADA@example.com"}})
    assert (again.status_code, again.get_json()["category"]) == (409, "CONFLICT")
    assert made.get_json()["id"] in again.get_json()["message"]


def test_a_merged_contact_s_email_is_the_winner_s(portal: Portal) -> None:
    portal.part.contacts.merge(str(FIRST + 1), CONTACT)
    assert portal.call("GET", "/contact1@example.com", idProperty="email").get_json()["id"] == CONTACT
    assert portal.properties(CONTACT, "email") == {"email": "contact0@example.com"}


def test_a_search_by_email_finds_any_contact_of_the_population(paced: Portal) -> None:
    wanted = {"propertyName": "email", "operator": "IN", "values": ["contact50000@example.com", "nobody@example.com"]}
    assert [found["id"] for found in paced.search(wanted).get_json()["results"]] == [str(FIRST + 50_000)]


def test_the_whole_population_is_written_in_batches(portal: Portal) -> None:
    for begin in range(0, 2_000, 100):
        contacts = [str(FIRST + POPULATION - 1 - begin - number) for number in range(100)]
        answer = portal.call("POST", "/batch/update", _inputs(*contacts, download_enabled="false"))
        assert (answer.status_code, len(answer.get_json()["results"])) == (200, 100)


def test_limits_are_set_and_refusals_counted(portal: Portal) -> None:
    control = Client(Routes(portal.part.controls))
    assert control.post("/limits", json={"burst": 2, "burst_seconds": 10, "daily": 4}).status_code == 200
    answers = [portal.call("GET", f"/{CONTACT}") for _ in range(3)]
    portal.now += 10
    answers += [portal.call("GET", f"/{CONTACT}") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 429]
    assert answers[0].headers["X-HubSpot-RateLimit-Max"] == "2"
    refused = {"TEN_SECONDLY_ROLLING": 1, "DAILY": 1}
    assert control.get("/counts").get_json() == {"requests": 5, "refused": refused}
    portal.part.reset()
    assert control.get("/counts").get_json() == {"requests": 0, "refused": {}}
    assert portal.call("GET", f"/{CONTACT}").status_code == 200


def test_contacts_are_merged_and_edited_by_the_control_port(portal: Portal) -> None:
    control = Client(Routes(portal.part.controls))
    loser = str(FIRST + 1)
    assert control.post("/merge", json={"loser": loser, "winner": CONTACT}).status_code == 200
    assert control.post("/merge", json={"loser": loser, "winner": CONTACT}).status_code == 400
    assert control.post(f"/edit/{CONTACT}", json={"properties": {"lastname": "Ada"}}).status_code == 200
    assert control.post(f"/edit/{CONTACT}", json={"properties": {"shoe": "42"}}).status_code == 400
    assert control.post("/edit/1", json={"properties": {}}).status_code == 400
    assert portal.call("GET", f"/{loser}", properties="lastname").get_json()["properties"]["lastname"] == "Ada"


def test_an_operation_is_the_route_s_template(portal: Portal) -> None:
    environ = {"REQUEST_METHOD": "PATCH", "PATH_INFO": f"{BASE}/{CONTACT}", "SERVER_NAME": "127.0.0.1"}
    environ |= {"SERVER_PORT": "80", "wsgi.url_scheme": "http"}
    assert portal.part.operation(environ) == "PATCH /crm/v3/objects/contacts/{id}"


def test_reset_puts_the_seeded_contacts_back(portal: Portal) -> None:
    portal.set(CONTACT, lastname="Ada", email="new@example.com")
    portal.part.contacts.merge(str(FIRST + 1), CONTACT)
    portal.part.reset()
    assert portal.properties(CONTACT, "lastname", "email") == {"lastname": "Example", "email": "contact0@example.com"}
    assert portal.call("GET", f"/{FIRST + 1}").get_json()["id"] == str(FIRST + 1)
    assert portal.call("GET", "/new@example.com", idProperty="email").status_code == 404
