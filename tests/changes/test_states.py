"""What is waited for: each state of the API's own list is on its way, good or final, and one that isn't listed is told."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest

from opsctl.adapters.aws.secrets import SecretState, VersionState
from opsctl.changes.managed_secrets import RotateManagedSecret
from opsctl.changes.secrets import MoveSecretStage
from opsctl.changes.states import DATABASE, FUNCTION_UPDATE, REPLICA, SNAPSHOT, States
from opsctl.contract import Done, Failed, InProgress
from opsctl.errors import Denied

AT = datetime(2026, 1, 1, tzinfo=UTC)
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:partner-x"


@pytest.mark.parametrize("states", [DATABASE, SNAPSHOT, REPLICA, FUNCTION_UPDATE])
def test_each_state_means_one_thing(states: States) -> None:
    assert not states.good & states.coming
    assert not states.good & states.final
    assert not states.coming & states.final


@pytest.mark.parametrize(
    ("service", "shape", "states"), [("secretsmanager", "StatusType", REPLICA), ("lambda", "LastUpdateStatus", FUNCTION_UPDATE)]
)
def test_every_state_of_the_model_is_judged(service: str, shape: str, states: States) -> None:
    words = set(botocore.session.Session().get_service_model(service).shape_for(shape).enum)
    assert words == states.good | states.coming | states.final


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("available", type(None)),
        ("creating", InProgress),
        ("storage-optimization", InProgress),
        ("incompatible-network", Failed),
        ("insufficient-capacity", Failed),
        ("inaccessible-encryption-credentials-recoverable", Failed),
        ("stopped", Failed),
        ("deleting", Failed),
    ],
)
def test_a_databases_states(state: str, kind: type) -> None:
    assert isinstance(DATABASE.waited("db", state, "databases"), kind)


def test_a_state_that_isnt_listed_is_told() -> None:
    assert DATABASE.waited("db", "pondering", "databases") == InProgress("db is pondering, a state that opsctl doesn't know")


def rotating(failure: Any = "", *, stages: frozenset[str] = frozenset({"AWSPENDING"})) -> Any:
    def failed(arn: str, *_: Any) -> str:
        assert arn == ARN
        if isinstance(failure, Exception):
            raise failure
        return str(failure)

    versions = {"old": VersionState("old", frozenset({"AWSCURRENT"}), AT), "new": VersionState("new", stages, AT)}
    state = SecretState("partner", ARN, versions, [], True, None, AT)
    secrets = SimpleNamespace(describe=lambda *_: state)
    return SimpleNamespace(secrets=secrets, cloudtrail=SimpleNamespace(rotation_failure=failed), now=lambda: AT)


def test_a_rotation_that_failed_isnt_waited_for() -> None:
    change = RotateManagedSecret(name="partner", id="partner", version="new", before="old")
    assert change.check(rotating()) == InProgress("the rotation is in progress")
    failed = change.check(rotating("The rotation function failed at createSecret."))
    assert isinstance(failed, Failed)
    assert "failed at createSecret" in failed.why
    given_up = change.check(rotating(stages=frozenset()))
    assert isinstance(given_up, Failed)
    unseen = change.check(rotating(Denied("AWS denied cloudtrail:LookupEvents: nothing was done.")))
    assert isinstance(unseen, InProgress)
    assert "whether it failed is unknown: AWS denied cloudtrail:LookupEvents" in unseen.note


@pytest.mark.parametrize(
    ("replicas", "kind"),
    [
        ([], Done),
        ([("us-west-2", "InSync")], Done),
        ([("us-west-2", "InProgress")], InProgress),
        ([("us-west-2", "InProgress"), ("eu-west-1", "Failed")], Failed),
        ([("us-west-2", "Detached")], Failed),
        ([("us-west-2", "Pondering")], InProgress),
    ],
)
def test_a_replica_that_failed_isnt_waited_for(replicas: list[tuple[str, str]], kind: type) -> None:
    versions = {"new": VersionState("new", frozenset({"AWSCURRENT"}), AT)}
    state = SecretState("partner", ARN, versions, replicas, False, None, AT)
    read: Any = SimpleNamespace(secrets=SimpleNamespace(describe=lambda *_: state), now=lambda: AT)
    move = MoveSecretStage(name="partner", id="partner", stage="AWSCURRENT", before="old", after="new")
    assert isinstance(move.check(read), kind)
