"""`opsctl database`: the database's state, connections, queries and failover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from opsctl.changes.base import Change
from opsctl.changes.failover import FailOverCluster, FailOverInstance, ProveWrites, fit_cluster, fit_instance, seconds_behind
from opsctl.cli import changes, group, views
from opsctl.errors import NotFound, Refused, SystemFailed
from opsctl.render.shapes import Page

if TYPE_CHECKING:
    from opsctl.adapters.aws.rds import Cluster, Member
    from opsctl.systems import Systems

database = group("database")


@database.command()
@views
def status(systems: Systems) -> Page:
    """Show the cluster or instance, who writes and who could take over, lag, endpoints, connections and CPU."""
    settings = systems.environment.need("database")
    with ThreadPoolExecutor(16) as pool:
        ask = Asking(pool)
        held = ask("connections as the database counts them", _connections, systems)
        describe = _instance if settings.instance else _cluster
        sections = describe(systems, settings.instance or settings.cluster, ask)
        if counted := held():
            sections.append(("Connections", counted))
        if ask.unanswered:
            sections.append(("Could not be asked", [{"what": what, "why": why} for what, why in ask.unanswered.items()]))
    return Page(sections)


class Asking:
    """Asks side by side; what could not be asked is None, and `unanswered` says why."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self.unanswered: dict[str, str] = {}

    def __call__(self, what: str, question: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Begin to ask; calling what it returns waits for the answer."""
        future = self._pool.submit(question, *args)

        def answer() -> Any:
            try:
                return future.result()
            except SystemFailed as cause:
                self.unanswered.setdefault(what, cause.what)
                return None

        return answer


def _cluster(systems: Systems, name: str, ask: Asking) -> list[tuple[str, Any]]:
    state = systems.rds.cluster(name)
    world = ask("global databases", systems.rds.global_database, state.arn)
    members = [_member(systems, state, member, ask) for member in state.members]
    cluster = {
        "cluster": state.id,
        "kind": "Aurora" if state.aurora else "Multi-AZ DB cluster",
        "engine": f"{state.engine} {state.version}".strip(),
        "status": state.status,
        "writer": state.writer.id if state.writer else None,
        "next_writer": next((m.id for m in _candidates(state)), None),
        "global_database": world() or None,
    }
    endpoints = [
        {"endpoint": "writer", "host": state.endpoint, "port": state.port},
        {"endpoint": "reader", "host": state.reader_endpoint, "port": state.port},
    ]
    rows = [{name: value() if callable(value) else value for name, value in member.items()} for member in members]
    return [("Cluster", cluster), ("Members", rows), ("Endpoints", endpoints)]


def _member(systems: Systems, state: Cluster, member: Member, ask: Asking) -> dict[str, Any]:
    """One row, of which figures are still being asked for."""
    return {
        "instance": member.id,
        "role": "writer" if member.writer else "reader",
        "status": member.status,
        "zone": member.zone,
        "tier": member.tier,
        "lag_ms": None if member.writer else ask("lag", _lag, systems, state, member),
        **_figures(systems, member.id, ask),
        "class": member.size,
        "insights": "on" if member.insights else "off",
    }


def _instance(systems: Systems, name: str, ask: Asking) -> list[tuple[str, Any]]:
    state = systems.rds.instance(name)
    instance = {
        "instance": state.id,
        "kind": "Multi-AZ instance" if state.multi_az else "instance in one zone",
        "engine": f"{state.engine} {state.version}".strip(),
        "status": state.status,
        "zone": state.zone,
        "standby": state.standby or None,
        **{name: figure() for name, figure in _figures(systems, name, ask).items()},
        "class": state.size,
        "insights": "on" if state.insights else "off",
    }
    return [("Instance", instance), ("Endpoints", [{"endpoint": "writer", "host": state.endpoint, "port": state.port}])]


def _figures(systems: Systems, instance: str, ask: Asking) -> dict[str, Callable[[], Any]]:
    """CloudWatch's figures of one instance; its count of connections is there when the database itself can't be reached."""
    return {
        "connections": ask("connections as CloudWatch counts them", _figure, systems, "DatabaseConnections", instance),
        "cpu_percent": ask("CPU", _figure, systems, "CPUUtilization", instance),
    }


def _figure(systems: Systems, metric: str, instance: str) -> float | None:
    found = systems.cloudwatch.newest("AWS/RDS", metric, {"DBInstanceIdentifier": instance}, systems.now())
    return None if found is None else round(found, 1)


def _lag(systems: Systems, state: Cluster, member: Member) -> int | None:
    found = seconds_behind(systems, state, member)
    return None if found is None else round(found * 1000)


def _connections(systems: Systems) -> dict[str, Any]:
    """What the server at the writer's endpoint says of its own connections."""
    query = "SELECT count(*) AS open, current_setting('max_connections')::int AS most FROM pg_stat_activity"
    found = systems.database.query(f"{query} WHERE backend_type = 'client backend'")[0]
    return {"open": found["open"], "max_connections": found["most"], "share": f"{found['open'] / found['most']:.0%}"}


@database.command()
@click.option("--to", metavar="INSTANCE", help="The reader that becomes the writer; else the available one of the lowest promotion tier.")
@changes
def failover(systems: Systems, to: str | None) -> Iterator[Change]:
    """Give the database another writer, and prove it by a write; every connection breaks, and writes stop for a moment."""
    settings = systems.environment.need("database")
    change = _of_instance(systems, settings.instance, to) if settings.instance else _of_cluster(systems, settings.cluster, to)
    yield change
    yield ProveWrites(failover=change)


def _of_cluster(systems: Systems, name: str, to: str | None) -> FailOverCluster:
    state = systems.rds.cluster(name)
    chosen = _first(state) if to is None else _named(state, to.lower())
    if state.writer is None:
        raise Refused(f"{name} has no writer just now; it is {state.status}: nothing was sent.", "Look again: opsctl database status")
    if chosen != state.writer.id:
        fit_cluster(systems, state, chosen)
    return FailOverCluster(cluster=name, writer=state.writer.id, to=chosen, named=to is not None)


def _of_instance(systems: Systems, name: str, to: str | None) -> FailOverInstance:
    if to is not None:
        raise click.UsageError(f"--to names a reader of a cluster; {name} is an instance, which has one standby.")
    state = systems.rds.instance(name)
    fit_instance(state)
    return FailOverInstance(instance=name, zone=state.zone, to=state.standby)


def _named(state: Cluster, to: str) -> str:
    known = [member.id for member in state.members]
    if to not in known:
        there = ", ".join(known) or "none"
        raise NotFound(f"{state.id} has no instance {to!r}; it has {there}.", "Choose a reader: opsctl database status")
    return to


def _first(state: Cluster) -> str:
    if not state.readers:
        raise Refused(
            f"{state.id} has no reader that could become the writer, so a failover would only be an outage: nothing was sent.",
            f"Add a reader (aws rds create-db-instance --db-cluster-identifier {state.id}); a restart is aws rds reboot-db-instance",
        )
    return (_candidates(state) or state.readers)[0].id


def _candidates(state: Cluster) -> list[Member]:
    """The readers that are available, the first to be promoted first."""
    return [member for member in state.readers if member.status == "available"]
