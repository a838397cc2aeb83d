from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from opsctl.adapters.aws.ecs import Deployment, ServiceState, Task
from opsctl.changes.ecs import Redeploy
from opsctl.commands.service import redeploy
from opsctl.contract import Done, Pending, Planning

SECOND = timedelta(seconds=1)
BEGUN = datetime(2024, 5, 1, 12, tzinfo=UTC)
"""When AWS began the newest deployment, on its own clock."""


def deployment(name: str, status: str, created: datetime, rollout: str = "COMPLETED") -> Deployment:
    return Deployment(name, status, rollout, "", created, created + SECOND, 2, 2, 0)


def systems(now: datetime, *deployments: Deployment) -> SimpleNamespace:
    """What is read of a service, on a machine whose clock says `now`."""
    settings = SimpleNamespace(cluster="c", service="s", health=None)
    state = ServiceState("c", "s", 2, 2, 0, "definition", list(deployments), [])
    newest = deployments[0]
    tasks = [Task(id, newest.created, newest.created + SECOND, newest.id, "RUNNING", ()) for id in ("a", "b")]
    return SimpleNamespace(
        now=lambda: now,
        environment=SimpleNamespace(service=lambda name: settings),
        config=SimpleNamespace(secrets={}),
        ecs=SimpleNamespace(service=lambda cluster, service: state, tasks=lambda *a, draining=True: tasks if draining else []),
    )


def planned(read: SimpleNamespace) -> Redeploy:
    (change,) = redeploy.function(Planning(read, read.now(), again=True), ("api",), False)
    return change


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(0), timedelta(hours=1)])
def test_again_asks_for_a_deployment_newer_than_the_newest_by_the_clock_of_aws(off: timedelta) -> None:
    now = BEGUN + 2 * SECOND + off
    first = deployment("one", "PRIMARY", BEGUN)
    change = planned(systems(now, first))
    assert isinstance(change.check(systems(now, first)), Pending)
    second = deployment("two", "PRIMARY", BEGUN + 3 * SECOND)
    assert isinstance(change.check(systems(now, second, deployment("one", "INACTIVE", BEGUN))), Done)


def test_again_never_takes_a_rollout_that_was_taken_back_for_the_new_one() -> None:
    back = deployment("one", "PRIMARY", BEGUN - timedelta(days=1))
    failed = deployment("two", "INACTIVE", BEGUN, "FAILED")
    assert isinstance(planned(systems(BEGUN, back, failed)).check(systems(BEGUN, back, failed)), Pending)
