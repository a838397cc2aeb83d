"""Each fault does to a call what it says, and no more often than it says."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
from werkzeug.serving import make_server

from opsctl.sandbox.faults import Faults, FaultyApp, Rule
from opsctl.sandbox.server import RequestHandler


class Counter:
    """A part that counts its effects."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bodies: list[bytes] = []

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.bodies.append(body)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    def operation(self, environ: Mapping[str, Any]) -> str:
        # As AWS' front does for services that name their operation in the body.
        said = environ["wsgi.input"].read().decode()
        return said.removeprefix("Action=") if said.startswith("Action=") else environ["PATH_INFO"]

    def reset(self) -> None:
        self.bodies.clear()


class Served:
    """A part behind faults, on a port of its own."""

    def __init__(self, name: str) -> None:
        self.part, self.faults = Counter(name), Faults()
        self.server = make_server("127.0.0.1", 0, FaultyApp(self.part, self.faults), threaded=True, request_handler=RequestHandler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def post(self, path: str = "/", body: str = "{}", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=20)
        connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


@pytest.fixture
def api() -> Iterator[Served]:
    yield from served("api")


@pytest.fixture
def aws() -> Iterator[Served]:
    yield from served("aws")


def served(name: str) -> Iterator[Served]:
    here = Served(name)
    yield here
    here.faults.clear()
    here.server.shutdown()
    here.server.server_close()


def test_a_fault_holds_for_its_calls_only(api: Served) -> None:
    api.faults.add(Rule("api", "/v1/*", "fail", times=2))
    assert api.post("/health")[0] == 200
    assert [api.post("/v1/login")[0] for _ in range(3)] == [500, 500, 200]
    assert len(api.part.bodies) == 2
    assert api.faults.rules() == []


def test_a_fault_without_end_lasts_until_it_is_cleared(api: Served) -> None:
    api.faults.add(Rule("api", "*", "throttle", times=0))
    answers = [api.post() for _ in range(3)]
    assert [status for status, _, _ in answers] == [429] * 3
    assert answers[0][1]["retry-after"] == "1"
    api.faults.clear()
    assert api.post()[0] == 200


@pytest.mark.parametrize(("action", "effects"), [("timeout-after-effect", 1), ("drop", 0)])
def test_a_lost_answer_tells_nothing_of_the_effect(api: Served, action: str, effects: int) -> None:
    api.faults.add(Rule("api", "*", action))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        api.post(body='{"a": 1}')
    assert api.part.bodies == [b'{"a": 1}'] * effects
    assert api.post()[2] == b"done"


def test_a_slow_call_goes_on_when_faults_are_cleared(api: Served) -> None:
    api.faults.add(Rule("api", "*", "slow", seconds=600))
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(api.post()[0]))
    caller.start()
    while api.faults.rules():
        caller.join(0.01)
    assert api.part.bodies == []
    api.faults.clear()
    caller.join(20)
    assert answers == [200]


def test_aws_faults_speak_the_service_s_protocol(aws: Served) -> None:
    aws.faults.add(Rule("aws", "*", "throttle", times=3))
    status, headers, body = aws.post(X_Amz_Target="AmazonEC2ContainerServiceV20141113.UpdateService")
    assert (status, json.loads(body)["__type"]) == (400, "ThrottlingException")
    status, _, body = aws.post(body="Action=DescribeDBClusters", Content_Type="application/x-www-form-urlencoded")
    assert (status, b"<Code>ThrottlingException</Code>" in body) == (429, True)
    status, headers, _ = aws.post("/Execute")
    assert (status, headers["x-amzn-errortype"]) == (429, "ThrottlingException")


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [
        (Rule("aws", "Delete*", "refuse"), 400, "AccessDeniedException"),
        (Rule("aws", "Delete*", "refuse", status=401), 401, "ExpiredTokenException"),
        (Rule("aws", "Delete*", "fail"), 500, "InternalFailure"),
    ],
)
def test_an_operation_named_in_the_body_is_met(aws: Served, rule: Rule, status: int, code: str) -> None:
    aws.faults.add(rule)
    assert aws.post(body="Action=ListThings", X_Amz_Target="T")[0] == 200
    told = aws.post(body="Action=DeleteThing", X_Amz_Target="T")
    assert (told[0], json.loads(told[2])["__type"]) == (status, code)
    assert aws.part.bodies == [b"Action=ListThings"]


def test_a_fault_that_makes_no_sense_is_refused() -> None:
    for wrong in ({"action": "explode"}, {"action": "slow", "seconds": -1}, {"action": "fail", "status": 200}):
        with pytest.raises(ValueError, match=r"[Ff]ault|Expected seconds"):
            Rule("api", "*", **wrong)  # type: ignore[arg-type]
