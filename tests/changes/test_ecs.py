"""Whether a redeploy would start a new image: every container is compared, and the plan says which can't be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.adapters.aws.ecs import Container, Deployment, ServiceState, Task, TaskDefinition
from opsctl.changes.ecs import Redeploy, SetDesiredCount
from opsctl.contract import Done, InProgress, Pending
from opsctl.engine import guards, plan
from opsctl.errors import Denied, NotFound, Refused, Unreachable
from opsctl.protocols import no_progress

AT = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def world(definition: dict[str, str], meant: dict[str, Any], *tasks: dict[str, str | None]) -> SimpleNamespace:
    """A service whose containers have these images; what each image means now; the digests that each task runs."""
    images = tuple(Container(name, image) for name, image in definition.items())
    running = [
        Task(str(n), AT, AT, "d", "RUNNING", tuple(Container(*each) for each in _both(definition, task))) for n, task in enumerate(tasks)
    ]
    deployment = Deployment("d", "PRIMARY", "COMPLETED", "", AT, AT, 2, 2, 0)
    state = ServiceState("c", "s", 2, 2, 0, "family:1", [deployment], [])

    def digest(image: str) -> str | None:
        found: str | Exception | None = meant.get(image)
        if isinstance(found, Exception):
            raise found
        return found

    read = SimpleNamespace(
        ecs=SimpleNamespace(
            service=lambda cluster, service: state,
            tasks=lambda cluster, service, draining=True: running,
            task_definition=lambda arn: TaskDefinition(arn, "family", 1, images),
        ),
        ecr=SimpleNamespace(digest=digest),
    )
    read.reader = read
    return read


def _both(definition: dict[str, str], digests: dict[str, str | None]) -> list[tuple[str, str, str | None]]:
    return [(name, definition.get(name, "injected"), digest) for name, digest in digests.items()]


def redeploy(**how: Any) -> Redeploy:
    return Redeploy(name="api", cluster="c", service="s", since=AT + timedelta(hours=1), **how)


def test_every_container_is_judged_and_not_the_first_alone() -> None:
    read = world(
        {"api": f"{ECR}/api:prod", "proxy": f"{ECR}/proxy:v1"}, {f"{ECR}/api:prod": OLD, f"{ECR}/proxy:v1": NEW}, {"api": OLD, "proxy": OLD}
    )
    with pytest.raises(Refused, match=r"proxy:v1 is now sha256:b+, but proxy runs sha256:a+.*new image") as refused:
        redeploy().check(read)  # type: ignore[arg-type]
    assert "--accept-new-image" in refused.value.next
    assert redeploy(accept_new_image=True).check(read) == Pending(2, "tasks")  # type: ignore[arg-type]


def test_one_task_that_runs_other_code_is_enough() -> None:
    read = world({"api": f"{ECR}/api:prod"}, {f"{ECR}/api:prod": NEW}, {"api": NEW}, {"api": OLD})
    with pytest.raises(Refused, match="would start a new image"):
        redeploy().check(read)  # type: ignore[arg-type]


def test_the_same_code_passes_without_a_word() -> None:
    injected = {"api": OLD, "ecs-service-connect": NEW}
    read = world({"api": f"{ECR}/api:prod"}, {f"{ECR}/api:prod": OLD}, injected)
    assert redeploy().check(read) == Pending(2, "tasks")  # type: ignore[arg-type]


@pytest.mark.parametrize("image", ["ghcr.io/team/api:prod", "nginx:1.27", "public.ecr.aws/nginx/nginx:latest", f"{ECR}/unknown:v1"])
def test_what_cant_be_judged_is_said(image: str) -> None:
    read = world({"api": f"{ECR}/api:prod", "other": image}, {f"{ECR}/api:prod": OLD}, {"api": OLD, "other": OLD})
    found = redeploy().check(read)  # type: ignore[arg-type]
    assert found == Pending(2, "tasks", f"may start a new image: {image} is not in an ECR repository that opsctl can query")


@pytest.mark.parametrize(
    ("tasks", "why"), [([], "no running task"), ([{"api": None}], "doesn't report which"), ([{"other": OLD}], "doesn't report which")]
)
def test_without_a_running_digest_nothing_can_be_compared(tasks: list[dict[str, str | None]], why: str) -> None:
    found: Any = redeploy().check(world({"api": f"{ECR}/api:prod"}, {f"{ECR}/api:prod": NEW}, *tasks))  # type: ignore[arg-type]
    assert why in found.note
    assert not found.unguarded


@pytest.mark.parametrize("error", [Denied("AWS denied ecr:DescribeImages: nothing was done."), Unreachable("AWS can't be reached.")])
def test_a_look_that_is_denied_is_in_the_plan_with_its_way_round(error: Exception) -> None:
    read = world({"api": f"{ECR}/api:prod"}, {f"{ECR}/api:prod": error}, {"api": OLD})
    found: Any = redeploy().check(read)  # type: ignore[arg-type]
    assert str(error) in found.unguarded
    assert "--accept-new-image" in found.next
    planned = plan._planned(1, redeploy(), found)
    assert planned.pending
    assert str(error).rstrip(".") in planned.why
    with pytest.raises(Refused) as refused:
        guards.reject_drift(SimpleNamespace(changes=[planned]))  # type: ignore[arg-type]
    assert "--accept-new-image" in refused.value.next
    with pytest.raises(Refused):
        redeploy().apply(read, "token", no_progress)  # type: ignore[arg-type]
    assert redeploy(accept_new_image=True).check(read) == Pending(2, "tasks")  # type: ignore[arg-type]


def test_an_image_that_is_gone_stops_it() -> None:
    read = world({"api": f"{ECR}/api:prod"}, {f"{ECR}/api:prod": NotFound("The image is gone")}, {"api": OLD})
    with pytest.raises(NotFound, match="gone"):
        redeploy().check(read)  # type: ignore[arg-type]


def rolled(rollout: str, running: int = 2, *others: Deployment) -> Any:
    new = Deployment("n", "PRIMARY", rollout, "", AT + timedelta(hours=2), AT, 2, running, 0)
    state = ServiceState("c", "s", 2, 2, 0, "family:1", [new, *others], [])
    tasks = [Task(id, AT, AT, "n", "RUNNING", ()) for id in "12"]
    return SimpleNamespace(ecs=SimpleNamespace(service=lambda *_: state, tasks=lambda *_, **__: tasks))


def test_a_service_behind_a_classic_load_balancer_is_proven_by_its_counts() -> None:
    assert isinstance(redeploy().check(rolled("")), Done)
    assert isinstance(redeploy().check(rolled("", 1)), InProgress)
    old = Deployment("o", "ACTIVE", "", "", AT, AT, 2, 1, 0)
    assert isinstance(redeploy().check(rolled("", 2, old)), InProgress)


def test_a_rollout_in_a_state_that_nobody_knows_is_told() -> None:
    found: Any = redeploy().check(rolled("PONDERING"))
    assert isinstance(found, InProgress)
    assert "PONDERING, a state that opsctl doesn't know" in found.note


def scaled(query: Any, desired: int = 2) -> Any:
    """A service whose tasks hold ten connections each, beside a database that answers so."""

    def asked(text: str) -> Any:
        if isinstance(query, Exception):
            raise query
        return [{"most": query}]

    state = ServiceState("c", "s", desired, desired, 0, "family:1", [], [])
    services = {"api": SimpleNamespace(pool_size=10)}
    config = SimpleNamespace(services=services, database=object(), limits=SimpleNamespace(pool_share=0.8))
    return SimpleNamespace(config=config, ecs=SimpleNamespace(service=lambda *_: state), database=SimpleNamespace(query=asked))


def test_scaling_without_a_look_at_the_database_names_the_way_round() -> None:
    change = SetDesiredCount(name="api", cluster="c", service="s", before=2, after=5)
    assert change.check(scaled(100)) == Pending(3, "tasks")
    with pytest.raises(Refused, match="50 database connections") as refused:
        change.check(scaled(60))
    assert "--accept-connections" in refused.value.next
    found: Any = change.check(scaled(Unreachable("The database can't be reached.")))
    assert "The database can't be reached" in found.unguarded
    assert "--accept-connections" in found.next
    accepted = SetDesiredCount(name="api", cluster="c", service="s", before=2, after=5, accept_connections=True)
    for database in (60, Unreachable("The database can't be reached.")):
        assert accepted.check(scaled(database)) == Pending(3, "tasks")
    down = SetDesiredCount(name="api", cluster="c", service="s", before=2, after=1)
    assert down.check(scaled(Unreachable("x"))) == Pending(1, "tasks")
    assert accepted.inverse().inverse() == accepted
