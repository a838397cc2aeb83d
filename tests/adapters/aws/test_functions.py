"""Functions over moto: what is read, what is kept, and what is refused before AWS is asked."""

from __future__ import annotations

import io
import json
import zipfile

import botocore.session
import pytest

from opsctl.adapters.aws.functions import APART, OWN, Functions, Variables
from opsctl.adapters.aws.session import AwsSession
from opsctl.errors import Denied, DriftError, ExternalError, NotFound, ReadOnly, Refused
from opsctl.redaction import Secret, vault

NAME = "hh-authz"
TRUST = {"Version": "2012-10-17", "Statement": []}


@pytest.fixture
def function(writing: AwsSession) -> str:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.js", "")
    role = writing.call("iam", "create_role", RoleName=NAME, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    how = {"Runtime": "nodejs22.x", "Role": role, "Handler": "index.handler", "Code": {"ZipFile": code.getvalue()}}
    environment = {"Variables": {"EDGE": "the-former-edge-value", "LOG_LEVEL": "info"}}
    writing.call("lambda", "create_function", FunctionName=NAME, Description="decides", Environment=environment, **how)
    return NAME


@pytest.fixture
def rest(fake, monkeypatch: pytest.MonkeyPatch):
    """The loopback AWS, which also answers the methods that Lambda's protocol uses."""
    for method in ("do_GET", "do_PUT"):
        monkeypatch.setattr(fake.RequestHandlerClass, method, fake.RequestHandlerClass.do_POST, raising=False)
    return fake


def variables(session: AwsSession) -> dict[str, str]:
    found: dict[str, str] = session.call("lambda", "get_function_configuration", FunctionName=NAME)["Environment"]["Variables"]
    return found


def test_how_a_function_is_configured(reading: AwsSession, function: str) -> None:
    state = Functions(reading).state(function)
    assert (state.name, state.version, state.status, state.description) == (NAME, "$LATEST", "Successful", "decides")
    assert state.modified.utcoffset().total_seconds() == 0
    assert state.variables["EDGE"] == Secret("the-former-edge-value")
    assert set(state.variables) == {"EDGE", "LOG_LEVEL"}
    assert "former" not in repr(state)


def test_a_variable_that_nobody_asked_for_is_not_hidden_everywhere(reading: AwsSession, writing: AwsSession, function: str) -> None:
    """Else a plan that names what another variable holds couldn't be kept."""
    writing.call("lambda", "update_function_configuration", FunctionName=NAME, Environment={"Variables": {"STORE": "/hh/any/secret-id"}})
    assert "STORE" in Functions(reading).state(function).variables
    assert vault.redact("/hh/any/secret-id") == "/hh/any/secret-id"


def test_the_other_variables_are_kept(writing: AwsSession, function: str) -> None:
    functions = Functions(writing)
    functions.set_variable(function, "EDGE", Secret("the-new-edge-value"), functions.state(function).revision)
    assert variables(writing) == {"EDGE": "the-new-edge-value", "LOG_LEVEL": "info"}


def test_a_revision_that_somebody_else_made_is_not_overwritten(writing: AwsSession, function: str) -> None:
    with pytest.raises(DriftError, match="Somebody else"):
        Functions(writing).set_variable(function, "EDGE", Secret("the-new-edge-value"), "another-revision")
    assert variables(writing)["EDGE"] == "the-former-edge-value"


@pytest.mark.parametrize(
    ("code", "error"),
    [("PreconditionFailedException", DriftError), ("ResourceConflictException", ExternalError), ("TooBad", ExternalError)],
)
def test_what_lambda_says_when_somebody_else_is_at_it(rest, code: str, error: type[Exception]) -> None:
    rest.answer = lambda: (409, json.dumps({"__type": code, "message": "no"}))
    with pytest.raises(error) as refused:
        Functions(AwsSession(rest.config, sandbox=True, writing=True)).describe_as(NAME, "another", "r1")
    assert type(refused.value) is error


def test_variables_that_cannot_be_decrypted_are_never_written_over(rest) -> None:
    answer = {
        "FunctionName": NAME,
        "LastModified": "2026-01-01T00:00:00.000+0000",
        "Environment": {"Error": {"ErrorCode": "KMSAccessDenied"}},
    }
    rest.answer = lambda: (200, json.dumps(answer))
    with pytest.raises(Denied, match="KMSAccessDenied"):
        Functions(AwsSession(rest.config, sandbox=True, writing=True)).set_variable(NAME, "EDGE", Secret("the-new-edge-value"), "")


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME", "LAMBDA_TASK_ROOT", "_HANDLER", "1ST", "X"])
def test_names_that_lambda_keeps_are_refused(name: str) -> None:
    with pytest.raises(Refused, match=name):
        Variables({}).merged(name, Secret("any-value"))


def test_more_than_lambda_takes_is_refused_without_the_value() -> None:
    almost = Variables({"OTHER": "x" * 4080})
    assert almost.merged("EDGE", Secret("fitting"))["EDGE"] == "fitting"
    with pytest.raises(Refused, match=r"4,097 bytes"):
        almost.merged("EDGE", Secret("too-long"))


def test_an_alias_serves_what_was_published(writing: AwsSession, function: str) -> None:
    functions = Functions(writing)
    first = functions.publish(function, "first", "")
    writing.call("lambda", "create_alias", FunctionName=NAME, Name="live", FunctionVersion=first)
    functions.describe_as(function, "anew", functions.state(function).revision)
    second = functions.publish(function, "anew", functions.state(function).revision)
    functions.move_alias(function, "live", second, functions.alias(function, "live").revision)
    assert functions.alias(function, "live").version == second != first
    served = functions.state(function, version=second)
    assert (served.version, served.description) == (second, "anew")


def test_what_is_not_there(reading: AwsSession, function: str) -> None:
    functions = Functions(reading)
    with pytest.raises(NotFound):
        functions.state("no-such")
    with pytest.raises(NotFound):
        functions.alias(function, "no-such")


def test_a_reading_adapter_writes_nothing(reading: AwsSession, function: str) -> None:
    functions = Functions(reading)
    for write in (
        lambda: functions.set_variable(function, "EDGE", Secret("value-of-edge"), ""),
        lambda: functions.describe_as(function, "x", ""),
        lambda: functions.publish(function, "x", ""),
        lambda: functions.move_alias(function, "live", "1", ""),
    ):
        with pytest.raises(ReadOnly):
            write()


CONFIGURATION = {
    "FunctionName": NAME,
    "FunctionArn": "arn:1",
    "LastModified": "2026-01-01T00:00:00.000+0000",
    "Version": "$LATEST",
    "RevisionId": "r",
    "CodeSha256": "c",
    "Environment": {"Variables": {"EDGE": "a"}},
    "Description": "d",
    "Timeout": 10,
    "SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"},
}


def configured(rest, **settings: object):
    rest.answer = lambda: (200, json.dumps(CONFIGURATION | settings))
    return Functions(AwsSession(rest.config, sandbox=True, writing=True)).state(NAME)


def settings_of_the_model() -> list[str]:
    model = botocore.session.Session().get_service_model("lambda")
    return sorted(set(model.shape_for("FunctionConfiguration").members) - OWN - APART)


def test_every_setting_that_a_version_keeps_is_compared(rest) -> None:
    """Each member of the SDK's model, and one that it doesn't have."""
    latest = configured(rest)
    kept = [*settings_of_the_model(), "FlightMode"]
    assert {"Timeout", "MemorySize", "Layers", "VpcConfig", "Role", "Runtime", "KMSKeyArn", "TracingConfig", "EphemeralStorage"} < set(kept)
    for name in kept:
        assert latest.differ(configured(rest, **{name: _other(name)})) == [name]
    more = {"EDGE": "a", "LEVEL": "b"}
    assert latest.differ(configured(rest, CodeSha256="e", Environment={"Variables": more})) == ["the code", "the variable LEVEL"]
    assert latest.differ(configured(rest, Environment={"Variables": {"EDGE": "b"}}), apart_from="EDGE") == []


def _other(name: str) -> object:
    """Another value of a setting, of the kind that the model has for it."""
    shape = botocore.session.Session().get_service_model("lambda").shape_for("FunctionConfiguration").members.get(name)
    kind = shape.type_name if shape else "string"
    if kind == "list":
        return [{"Other": "1"}] if shape.member.type_name == "structure" else ["other"]
    return {"integer": 7, "long": 7, "structure": {"Other": "1"}}.get(kind, "other")


def test_what_each_version_has_for_itself_is_not_compared(rest) -> None:
    latest = configured(rest)
    own = dict.fromkeys(sorted(OWN - {"FunctionName", "LastModified", "LastUpdateStatus"}), "other")
    snap = {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    assert latest.differ(configured(rest, **own, SnapStart=snap, Layers=[], Description="other")) == []


def test_a_part_of_the_environment_that_the_sdk_doesnt_know_is_not_written_away(rest) -> None:
    rest.answer = lambda: (200, json.dumps(CONFIGURATION | {"Environment": {"Variables": {}, "Sealed": ["X"]}}))
    with pytest.raises(Refused, match=r"Environment\.Sealed"):
        Functions(AwsSession(rest.config, sandbox=True, writing=True)).set_variable(NAME, "EDGE", Secret("the-new-edge-value"), "r")


@pytest.mark.parametrize(("weights", "split"), [({"2": 0.1}, True), ({"2": 0.0}, True), ({}, False), (None, False)])
def test_an_alias_that_serves_two_versions_says_so(rest, weights: dict[str, float] | None, split: bool) -> None:
    routing = {} if weights is None else {"RoutingConfig": {"AdditionalVersionWeights": weights}}
    rest.answer = lambda: (200, json.dumps({"Name": "live", "FunctionVersion": "1", "RevisionId": "r", **routing}))
    assert Functions(AwsSession(rest.config, sandbox=True, writing=False)).alias(NAME, "live").split is split
