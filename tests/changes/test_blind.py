"""An answer that shows nothing is no evidence: no change is done because of it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.adapters.aws.ecs import Deployment, ServiceState, Task
from opsctl.adapters.aws.iam import Credentials, IamAccount, Rights
from opsctl.adapters.aws.secrets import SecretState
from opsctl.changes.access import SetDenial
from opsctl.changes.alarms import SetAlarmReason
from opsctl.changes.ecs import Redeploy
from opsctl.changes.failover import FailOverInstance
from opsctl.changes.protection import Unprotect
from opsctl.changes.restores import answers
from opsctl.changes.secrets import MoveSecretStage
from opsctl.changes.snapshots import PruneSnapshot
from opsctl.contract import Change, Done, Finding, InProgress, Pending, Skipped
from opsctl.errors import ExternalError, Refused

AT = datetime(2026, 1, 1, tzinfo=UTC)
JO = "arn:aws:iam::123456789012:user/jo"


def checked(change: Change, **systems: Any) -> Finding:
    return change.check(SimpleNamespace(**systems))  # type: ignore[arg-type]


def missing_alarm(names: list[str]) -> list[Any]:
    return [SimpleNamespace(name=name, state="MISSING", updated=None) for name in names]


def test_an_alarm_that_isnt_shown_has_not_gone_back_by_itself() -> None:
    change = SetAlarmReason(alarm="cpu", transition=AT, before="a", after="b")
    found = checked(change, cloudwatch=SimpleNamespace(alarms=missing_alarm))
    assert isinstance(found, Skipped)
    assert "lists no alarm cpu" in found.why


@pytest.mark.parametrize(("there", "error"), [(SimpleNamespace(), ExternalError), (None, None)])
def test_a_snapshot_that_isnt_listed_is_gone_only_if_rds_doesnt_know_its_name(there: Any, error: type[Exception] | None) -> None:
    change = PruneSnapshot(of="prod", of_kind="cluster", id="one", keep=1)
    asked = SimpleNamespace(all=lambda of: [], find=lambda id, kind: there)
    if error is None:
        assert isinstance(checked(change, snapshots=asked), Done)
        return
    with pytest.raises(error, match="doesn't list it"):
        checked(change, snapshots=asked)


def test_a_secret_without_any_version_has_not_lost_a_label() -> None:
    state = SecretState("jwt", "arn", {}, [], False, None, AT)
    change = MoveSecretStage(name="jwt", id="jwt", stage="AWSPREVIOUS", before="v1", after=None)
    with pytest.raises(ExternalError, match="lists no version of jwt, but"):
        checked(change, secrets=SimpleNamespace(describe=lambda id, region: state))


@pytest.mark.parametrize(("subscribed", "kind"), [(True, Done), (False, Skipped)])
def test_without_a_subscription_nobody_knows_what_is_protected(subscribed: bool, kind: type) -> None:
    shield = SimpleNamespace(subscribed=lambda: subscribed, protection=lambda resource: None)
    assert isinstance(checked(Unprotect(resource="arn:x:lb/1", name="ours"), shield=shield), kind)


@pytest.mark.parametrize(("listed", "kind"), [(2, Done), (1, InProgress), (0, InProgress)])
def test_a_service_is_redeployed_only_once_as_many_tasks_are_listed_as_run(listed: int, kind: type) -> None:
    state = ServiceState("c", "s", 2, 2, 0, "family:1", [Deployment("d", "PRIMARY", "COMPLETED", "", AT, AT, 2, 2, 0)], [])
    tasks = [Task(str(n), AT, AT, "d", "RUNNING", ()) for n in range(listed)]
    ecs = SimpleNamespace(service=lambda cluster, service: state, tasks=lambda cluster, service: tasks)
    change = Redeploy(name="api", cluster="c", service="s", since=datetime(2025, 1, 1, tzinfo=UTC))
    assert isinstance(checked(change, ecs=ecs), kind)


def test_an_instance_whose_zone_isnt_told_has_not_failed_over() -> None:
    state = SimpleNamespace(zone="", status="creating")
    change = FailOverInstance(instance="db", zone="us-east-1a", to="us-east-1b")
    assert isinstance(checked(change, rds=SimpleNamespace(instance=lambda id: state)), InProgress)


def iam(**rights: Rights) -> SimpleNamespace:
    """IAM with these users, none of whom can sign in; it has no policy of our own."""
    return SimpleNamespace(
        inline=lambda user, policy: None,
        person=lambda user: SimpleNamespace(arn=f"arn:{user}"),
        account=lambda: IamAccount(rights, []),
        credentials=lambda user: Credentials([], None, 0),
    )


def denial(there: SimpleNamespace, *administrators: str) -> Finding:
    access = SimpleNamespace(access=SimpleNamespace(administrators=administrators))
    return checked(SetDenial(user="jo"), iam=there, caller=SimpleNamespace(arn="arn:me"), config=access)


def test_a_user_whom_the_listing_leaves_out_may_be_the_last_administrator() -> None:
    with pytest.raises(ExternalError, match=r"doesn't contain jo.*last administrator"):
        denial(iam())


def test_a_policy_that_the_listing_doesnt_tell_may_make_an_administrator() -> None:
    with pytest.raises(Refused, match="last administrator"):
        denial(iam(jo=Rights(JO, {"Everything": {}})))
    reads = {"Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
    assert isinstance(denial(iam(jo=Rights(JO, {"Reading": reads}))), Pending)


class Rows:
    """A restored database whose users' table has row-level security, so that none of its rows are seen."""

    writing = False
    closed = False

    def __init__(self, *, hidden: bool) -> None:
        self.hidden = hidden

    def query(self, statement: Any, **params: Any) -> list[dict[str, Any]]:
        if "table" in params:
            return [{"name": "users", "kind": "r", "role": "reader", "hidden": self.hidden}]
        return [{"n": 0}]

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("hidden", [True, False])
def test_a_copy_whose_rows_are_hidden_is_not_proven(hidden: bool) -> None:
    database = Rows(hidden=hidden)
    read: Any = SimpleNamespace(
        config=SimpleNamespace(sessions=SimpleNamespace(users_table="users")), database_at=lambda host, port, arn: database
    )
    found = answers(read, SimpleNamespace(id="copy", host="h", port=1), "arn")  # type: ignore[arg-type]
    assert isinstance(found, Done) is not hidden
    assert database.closed
