"""`opsctl service`: look at, scale and redeploy ECS services."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from opsctl.changes.base import Change
from opsctl.changes.ecs import Redeploy, SetBounds, SetDesiredCount
from opsctl.cli import changes, group, views
from opsctl.errors import Refused, SystemFailed
from opsctl.render.shapes import Check, Verdict

if TYPE_CHECKING:
    from opsctl.systems import Systems

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

service = group("service")


@service.command()
@click.argument("name", required=False)
@click.option("--healthy", is_flag=True, help="Prove that they are: all tasks run, the last rollout went well, the health check says yes.")
@views
def status(systems: Systems, name: str | None, healthy: bool) -> list[dict[str, Any]] | Verdict:
    """Show what services want and run, and how their last deployment went."""
    names = [name] if name else sorted(systems.config.services)
    for one in names:
        systems.environment.service(one)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda one: row(systems, one), names))
    if rows and all(each["desired"] is None for each in rows):
        raise SystemFailed(f"No service could be asked: {rows[0]['deployment']}", "What else is up: opsctl status")
    if healthy:
        return Verdict(
            [check for each in rows for check in _well(systems, each)], "opsctl status; then opsctl service redeploy NAME --again"
        )
    return rows


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


def row(systems: Systems, name: str) -> dict[str, Any]:
    """One service as a row; what can't be asked is said in it."""
    settings = systems.environment.service(name)
    try:
        state = systems.ecs.service(settings.cluster, settings.service)
    except SystemFailed as cause:
        return {
            "service": name,
            "desired": None,
            "running": None,
            "pending": None,
            "deployment": cause.what,
            "since": None,
            "event": None,
        }
    primary = state.primary
    return {
        "service": name,
        "desired": state.desired,
        "running": state.running,
        "pending": state.pending,
        "deployment": primary.rollout_state if primary else "none",
        "since": primary.created if primary else None,
        "event": state.events[0].message if state.events else "",
    }


@service.command()
@click.argument("name")
@click.argument("count", type=click.IntRange(0))
@changes
def scale(systems: Systems, name: str, count: int) -> Iterator[Change]:
    """Set how many tasks of a service run, and let its scaling bounds allow it."""
    settings = systems.environment.service(name)
    if count > settings.scale_max:
        raise Refused(f"{count} tasks of {name} are above its scale-max of {settings.scale_max}.", f"Raise services.{name}.scale-max.")
    where = {"name": name, "cluster": settings.cluster, "service": settings.service}
    now = systems.ecs.service(settings.cluster, settings.service).desired
    steps: list[Change] = [SetDesiredCount(**where, before=now, after=count)]
    if bounds := systems.autoscaling.bounds(settings.cluster, settings.service):
        steps.append(SetBounds(**where, before=(bounds.min, bounds.max), after=(count, max(count, bounds.max))))
    # The minimum may never stand above the count, or the scaling sets the count itself and undo can't tell whose it was.
    yield from steps if count >= now else reversed(steps)


@service.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--accept-new-image", is_flag=True, help="Go on though an image's tag now means new code.")
@changes
def redeploy(systems: Systems, names: tuple[str, ...], accept_new_image: bool) -> Iterator[Change]:
    """Replace the tasks of services that are older than a secret they consume (with --again: all of them)."""
    for name in names:
        settings = systems.environment.service(name)
        consumes = tuple(sorted(n for n, secret in systems.config.secrets.items() if name in secret.consumers))
        yield Redeploy(
            name=name,
            cluster=settings.cluster,
            service=settings.service,
            since=since(systems, consumes),
            consumes=consumes,
            accept_new_image=accept_new_image,
            health=settings.health,
        )


def since(systems: Systems, consumes: tuple[str, ...]) -> datetime:
    """The moment that every task must be younger than: what this follows, now with --again, or the newest consumed secret."""
    if systems.follows:
        return systems.follows
    if systems.again:
        return systems.now()
    newest = EPOCH
    for name in consumes:
        secret = systems.environment.secret(name)
        state = systems.secrets.describe(secret.id, secret.region)
        if state.current:
            newest = max(newest, state.versions[state.current].created)
    return newest
