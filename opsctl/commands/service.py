"""`opsctl service`: look at, scale and redeploy ECS services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from opsctl.cli import completion
from opsctl.cli.app import group
from opsctl.cli.command import gives_verdict, mutating, read_only, requires
from opsctl.cli.types import DURATION
from opsctl.concurrency import first_error_if_all_failed, gather
from opsctl.contract import Change, Planning
from opsctl.errors import ConfigurationError, NotFound, OpsctlError, Refused
from opsctl.render.shapes import Check, Series, Verdict

if TYPE_CHECKING:
    from opsctl.adapters.aws.cloudwatch import DataPoint
    from opsctl.settings import ServiceSettings
    from opsctl.systems import Systems

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEAST, MOST = timedelta(minutes=1), timedelta(days=15)
ECS, ALB = "AWS/ECS", "AWS/ApplicationELB"
AVERAGE, P95, SUM = "Average", "p95", "Sum"


class Figure(NamedTuple):
    """What `metrics` shows: each column's name, with the metric and the statistic that CloudWatch calls it."""

    namespace: str
    columns: dict[str, tuple[str, str]]


def _level(namespace: str, name: str, unit: str) -> Figure:
    return Figure(namespace, {f"average {unit}": (name, AVERAGE), f"p95 {unit}": (name, P95)})


METRICS = {
    "cpu": _level(ECS, "CPUUtilization", "%"),
    "memory": _level(ECS, "MemoryUtilization", "%"),
    "response-time": _level(ALB, "TargetResponseTime", "s"),
    "requests": Figure(ALB, {"requests": ("RequestCount", SUM)}),
    "5xx": Figure(ALB, {"5xx": ("HTTPCode_Target_5XX_Count", SUM), "requests": ("RequestCount", SUM)}),
}

service = group("service")


@service.command()
@requires("ecs:DescribeServices")
@click.argument("name", shell_complete=completion.SERVICES, required=False)
@click.option("--healthy", is_flag=True, help="Verify that all tasks run, the last rollout succeeded and the health check passes.")
@gives_verdict(flag="healthy")
@read_only
def status(systems: Systems, name: str | None, healthy: bool) -> list[dict[str, Any]] | Verdict:
    """Show each service's desired and running tasks, and its last deployment.

    Examples:
        opsctl service status
        opsctl service status api --healthy
    """
    names = [name] if name else sorted(systems.config.services)
    for one in names:
        systems.environment.service(one)
    found = rows(systems, names)
    if healthy:
        return Verdict(
            [check for each in found for check in _well(systems, each)], "opsctl status; then opsctl service redeploy NAME --again"
        )
    return found


def _well(systems: Systems, row: dict[str, Any]) -> Iterator[Check]:
    """Whether a service does its work; what can't be asked isn't so."""
    name, url = row["service"], systems.environment.service(row["service"]).health
    if row["desired"] is None:
        yield Check(f"{name} can be asked", False, row["deployment"])
        return
    if row["desired"] == 0:
        yield Check(f"{name} runs", None, "no task is wanted")
        return
    yield Check(f"{name} runs all its tasks", row["running"] == row["desired"], f"{row['running']} of {row['desired']}")
    yield Check(f"{name}'s last rollout went well", row["deployment"] == "COMPLETED", row["deployment"])
    if url:
        found = systems.health(url)
        yield Check(f"{name} calls itself healthy", found.ok, f"{found.detail}, {found.latency_ms:.0f} ms")


def rows(systems: Systems, names: Iterable[str]) -> list[dict[str, Any]]:
    """Each service as a row, asked side by side; one that can't be asked says so in its row. Raises the error when none can be."""
    found = first_error_if_all_failed(gather({name: partial(_row, systems, name) for name in names}))
    return [_unasked(name, each.what) if isinstance(each, OpsctlError) else each for name, each in found.items()]


def _row(systems: Systems, name: str) -> dict[str, Any]:
    settings = systems.environment.service(name)
    state = systems.ecs.service(settings.cluster, settings.service)
    primary = state.primary
    return {
        "service": name,
        "desired": state.desired,
        "running": state.running,
        "pending": state.pending,
        "deployment": state.rollout or "none",
        "since": primary.created if primary else None,
        "event": state.events[0].message if state.events else "",
    }


def _unasked(name: str, why: str) -> dict[str, Any]:
    return {"service": name, "desired": None, "running": None, "pending": None, "deployment": why, "since": None, "event": None}


@service.command()
@requires("cloudwatch:GetMetricData ecs:DescribeServices")
@click.argument("name", shell_complete=completion.SERVICES)
@click.option("--metric", type=click.Choice(list(METRICS)), default="cpu", show_default=True, help="The metric to show.")
@click.option("--since", type=DURATION, default="1h", show_default=True, help="How far back to look, from 1m to 15d.")
@read_only
def metrics(systems: Systems, name: str, metric: str, since: timedelta) -> Series:
    """Show a service's load or response times over time: average, 95th percentile or count.

    Examples:
        opsctl service metrics api --metric cpu --since 6h
    """
    from opsctl.adapters.aws.cloudwatch import Metric

    if not LEAST <= since <= MOST:
        raise click.BadParameter(f"expected 1m to 15d, which is how long CloudWatch keeps minutes, got {since}", param_hint="'--since'")
    settings, asked = systems.environment.service(name), METRICS[metric]
    here = _dimensions(name, settings, asked.namespace)
    wanted = [Metric(asked.namespace, what, here, statistic) for what, statistic in asked.columns.values()]
    since_minute = (systems.now() - since).replace(second=0, microsecond=0)
    found = dict(zip(asked.columns, systems.cloudwatch.metrics(wanted, since_minute, period=_period(since)), strict=True))
    if not any(found.values()):
        running = systems.ecs.service(settings.cluster, settings.service).running
        raise NotFound(
            f"CloudWatch has no {wanted[-1].name} of {name} in the last {since}; ECS says that {running} of its tasks run.",
            f"A longer --since; opsctl service status {name}",
        )
    return Series(_rows(asked, found), next(iter(asked.columns)))


def _rows(asked: Figure, found: dict[str, list[DataPoint]]) -> list[dict[str, Any]]:
    """A row a moment; what is counted and has no figure then didn't happen, as errors mostly don't."""
    rows: list[dict[str, Any]] = [{"at": at} for at in sorted({point.at for points in found.values() for point in points})]
    for column, points in found.items():
        counted = asked.columns[column][1] == SUM
        values = {point.at: round(point.value) if counted else round(point.value, 3) for point in points}
        for row in rows:
            row[column] = values.get(row["at"], 0 if counted else None)
    return rows


def _dimensions(name: str, settings: ServiceSettings, namespace: str) -> dict[str, str]:
    """All the dimensions that a service's metrics have: CloudWatch finds nothing by some of them."""
    if namespace == ECS:
        return {"ClusterName": settings.cluster, "ServiceName": settings.service}
    if not (settings.load_balancer and settings.target_group):
        missing = "load-balancer and target-group"
        raise ConfigurationError(f"services.{name} has no {missing}, by which CloudWatch knows its answers.", f"Add {missing} to it.")
    return {"LoadBalancer": settings.load_balancer, "TargetGroup": settings.target_group}


def _period(since: timedelta) -> int:
    """Seconds of one row: whole minutes, so that there are a dozen or so."""
    return max(60, round(since.total_seconds() / 12 / 60) * 60)


@service.command()
@requires("application-autoscaling:DescribeScalableTargets ecs:DescribeServices", changes="set-bounds set-desired-count")
@click.argument("name", shell_complete=completion.SERVICES)
@click.argument("count", type=click.IntRange(0))
@click.option(
    "--accept-connections",
    is_flag=True,
    help="Continue even if the database may lack connections for so many tasks, or if that is unknown.",
)
@mutating
def scale(planning: Planning, name: str, count: int, accept_connections: bool) -> Iterator[Change]:
    """Set how many tasks of a service run, and extend its autoscaling bounds to allow that number.

    Examples:
        opsctl service scale api 4 -n
        opsctl service scale api 4 --reason 'Evening peak'
    """
    from opsctl.changes.ecs import SetBounds, SetDesiredCount

    systems = planning.systems
    settings = systems.environment.service(name)
    if count > settings.scale_max:
        raise Refused(f"{count} tasks of {name} are above its scale-max of {settings.scale_max}.", f"Raise services.{name}.scale-max.")
    where = {"name": name, "cluster": settings.cluster, "service": settings.service}
    now = systems.ecs.service(settings.cluster, settings.service).desired
    steps: list[Change] = [SetDesiredCount(**where, before=now, after=count, accept_connections=accept_connections)]
    if bounds := systems.autoscaling.bounds(settings.cluster, settings.service):
        steps.append(SetBounds(**where, before=(bounds.min, bounds.max), after=(count, max(count, bounds.max))))
    # The minimum may never stand above the count, or the scaling sets the count itself and undo can't tell whose it was.
    yield from steps if count >= now else reversed(steps)


@service.command()
@requires("ecs:DescribeServices secretsmanager:DescribeSecret secretsmanager:ListSecretVersionIds", changes="redeploy")
@click.argument("names", shell_complete=completion.SERVICES, nargs=-1, required=True, metavar="NAME...")
@click.option("--accept-new-image", is_flag=True, help="Continue even if an image's tag now points to new code, or if that is unknown.")
@mutating
def redeploy(planning: Planning, names: tuple[str, ...], accept_new_image: bool) -> Iterator[Change]:
    """Replace services' tasks that started before a secret of theirs changed (with --again: all tasks).

    Examples:
        opsctl service redeploy api worker -n
        opsctl service redeploy api --again
    """
    from opsctl.changes.ecs import Redeploy

    systems = planning.systems
    for name in names:
        settings = systems.environment.service(name)
        consumes = tuple(sorted(n for n, secret in systems.config.secrets.items() if name in secret.consumers))
        change = Redeploy(
            name=name,
            cluster=settings.cluster,
            service=settings.service,
            since=since(planning, settings, consumes),
            consumes=consumes,
            accept_new_image=accept_new_image,
            health=settings.health,
        )
        if change.health and not (planning.follows or planning.again):
            change.fit(systems)
        yield change


def since(planning: Planning, settings: ServiceSettings, consumes: tuple[str, ...]) -> datetime:
    """The moment that a service's deployment must be younger than, always on a clock of AWS, since it is compared with such.

    What this follows; with --again the beginning of its newest deployment; else that of the newest version of a consumed secret.
    """
    systems = planning.systems
    if planning.follows:
        return planning.follows
    if planning.again:
        deployments = systems.ecs.service(settings.cluster, settings.service).deployments
        return max((deployment.created for deployment in deployments), default=EPOCH)
    newest = EPOCH
    for name in consumes:
        secret = systems.environment.secret(name)
        state = systems.secrets.describe(secret.id, secret.region)
        if state.current:
            newest = max(newest, state.versions[state.current].created)
    return newest
