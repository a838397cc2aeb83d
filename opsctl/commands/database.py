"""`opsctl database`: the database's state, connections, queries and failover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opsctl.adapters.sql_redaction import brief
from opsctl.cli.app import group
from opsctl.cli.command import mutating, read_only, requires
from opsctl.cli.database_rows import BY, UNSEEN, activity_sections, connection_rows, count_by, insight_rows, statement_rows, unqueried
from opsctl.cli.types import DURATION
from opsctl.concurrency import gather, unwrap
from opsctl.contract import Change, Planning
from opsctl.errors import ExternalError, NotFound, OpsctlError, Refused
from opsctl.render.shapes import UNASKED, Page

if TYPE_CHECKING:
    from opsctl.adapters.aws.rds import Cluster, ClusterMember
    from opsctl.adapters.sql.activity import Activity, InstanceResult
    from opsctl.changes.backends import LongQuery
    from opsctl.changes.failover import FailOverCluster, FailOverInstance
    from opsctl.systems import Systems

Figures = dict[tuple[str, str], float | None]
"""By instance and metric."""

FIGURES, WORLD = "CloudWatch's figures", "global databases"
Sections = list[tuple[str, Any]]
T = TypeVar("T")

database = group("database")


@database.command()
@requires("cloudwatch:GetMetricData rds:DescribeDBClusters rds:DescribeDBInstances rds:DescribeGlobalClusters")
@read_only
def status(systems: Systems) -> Page:
    """Show the cluster or instance: the writer, possible writers, lag, endpoints, connections and CPU.

    Examples:
        opsctl database status
    """
    settings = systems.environment.database
    sections, found = (_instance if settings.instance else _cluster)(systems, settings.instance or settings.cluster)
    unanswered = [{"what": what, "why": told.what} for what, told in found.items() if isinstance(told, ExternalError)]
    return Page([*sections, (UNASKED, unanswered)] if unanswered else sections)


def _told(told: T | OpsctlError) -> T | None:
    """What a source said, or None when it could not be queried."""
    return None if isinstance(told, ExternalError) else unwrap(told)


def _cluster(systems: Systems, name: str) -> tuple[Sections, dict[str, Any]]:
    """The sections of a cluster, and what was asked beside it: each source's answer or error."""
    state = systems.rds.cluster(name)
    lag = "AuroraReplicaLag" if state.aurora else "ReplicaLag"
    found: dict[str, Any] = gather(
        {
            FIGURES: partial(_figures, systems, [member.id for member in state.members], lag),
            WORLD: partial(systems.rds.global_database, state.arn),
        }
    )
    figures = _told(found[FIGURES]) or {}
    cluster = {
        "cluster": state.id,
        "kind": "Aurora" if state.aurora else "Multi-AZ DB cluster",
        "engine": f"{state.engine} {state.version}".strip(),
        "status": state.status,
        "writer": state.writer.id if state.writer else None,
        "next_writer": next((m.id for m in _candidates(state)), None),
        "global_database": _told(found[WORLD]) or None,
    }
    endpoints = [
        {"endpoint": "writer", "host": state.endpoint, "port": state.port},
        {"endpoint": "reader", "host": state.reader_endpoint, "port": state.port},
    ]
    rows = [_member(member, figures, lag, 1 if state.aurora else 1000) for member in state.members]
    return [("Cluster", cluster), ("Members", rows), ("Endpoints", endpoints)], found


def _member(member: ClusterMember, figures: Figures, lag: str, milliseconds: int) -> dict[str, Any]:
    behind = None if member.writer else figures.get((member.id, lag))
    return {
        "instance": member.id,
        "role": "writer" if member.writer else "reader",
        "status": member.status,
        "zone": member.zone,
        "tier": member.tier,
        "lag_ms": None if behind is None else round(behind * milliseconds),
        **_load(member.id, figures),
        "class": member.size,
        "insights": "on" if member.insights else "off",
    }


def _instance(systems: Systems, name: str) -> tuple[Sections, dict[str, Any]]:
    """As `_cluster`, of an instance by itself."""
    state = systems.rds.instance(name)
    found: dict[str, Any] = gather({FIGURES: partial(_figures, systems, [name])})
    instance = {
        "instance": state.id,
        "kind": "Multi-AZ instance" if state.multi_az else "instance in one zone",
        "engine": f"{state.engine} {state.version}".strip(),
        "status": state.status,
        "zone": state.zone,
        "standby": state.standby or None,
        **_load(name, _told(found[FIGURES]) or {}),
        "class": state.size,
        "insights": "on" if state.insights else "off",
    }
    return [("Instance", instance), ("Endpoints", [{"endpoint": "writer", "host": state.endpoint, "port": state.port}])], found


def _figures(systems: Systems, instances: list[str], *more: str) -> Figures:
    """CloudWatch's newest figures of instances, asked at once; their count of connections is there when the database can't be reached."""
    from opsctl.adapters.aws.cloudwatch import Metric

    asked = [(instance, name) for instance in instances for name in ("DatabaseConnections", "CPUUtilization", *more)]
    wanted = [Metric("AWS/RDS", name, {"DBInstanceIdentifier": instance}) for instance, name in asked]
    return dict(zip(asked, systems.cloudwatch.newest(wanted, systems.now()), strict=True))


def _load(instance: str, figures: Figures) -> dict[str, float | None]:
    found = {"connections": figures.get((instance, "DatabaseConnections")), "cpu_percent": figures.get((instance, "CPUUtilization"))}
    return {name: None if value is None else round(value, 1) for name, value in found.items()}


@database.command()
@requires(
    "cloudwatch:GetMetricData rds:DescribeDBClusters rds:DescribeDBInstances",
    changes="fail-over-cluster fail-over-instance prove-writes",
)
@click.option(
    "--to", metavar="INSTANCE", help="The reader that becomes the writer; by default the available reader with the lowest promotion tier."
)
@click.option(
    "--accept-global", is_flag=True, help="Continue in this region even if the cluster is part of a global database, or if that is unknown."
)
@mutating
def failover(planning: Planning, to: str | None, accept_global: bool) -> Iterator[Change]:
    """Make another instance the database's writer, and verify it with a test write. Every connection breaks and writes stop for a moment.

    Examples:
        opsctl database failover -n
        opsctl database failover --to safawinet-reader-1
    """
    from opsctl.changes.failover import ProveWrites

    systems = planning.systems
    settings = systems.environment.database
    if settings.instance:
        change: FailOverCluster | FailOverInstance = _of_instance(systems, settings.instance, to)
    else:
        change = _of_cluster(systems, settings.cluster, to, accept_global=accept_global)
    yield change
    yield ProveWrites(failover=change)


def _of_cluster(systems: Systems, name: str, to: str | None, *, accept_global: bool) -> FailOverCluster:
    from opsctl.changes.failover import FailOverCluster, fit_cluster

    state = systems.rds.cluster(name)
    chosen = _first(state) if to is None else _named(state, to.lower())
    if state.writer is None:
        raise Refused(f"{name} has no writer just now; it is {state.status}.", "Look again: opsctl database status")
    if chosen != state.writer.id:
        fit_cluster(systems, state, chosen)
    return FailOverCluster(cluster=name, writer=state.writer.id, to=chosen, named=to is not None, accept_global=accept_global)


def _of_instance(systems: Systems, name: str, to: str | None) -> FailOverInstance:
    from opsctl.changes.failover import FailOverInstance, fit_instance

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
            f"{state.id} has no reader that could become the writer, so a failover would only be an outage.",
            f"Add a reader (aws rds create-db-instance --db-cluster-identifier {state.id}); a restart is aws rds reboot-db-instance",
        )
    return (_candidates(state) or state.readers)[0].id


def _candidates(state: Cluster) -> list[ClusterMember]:
    """The readers that are available, the first to be promoted first."""
    return [member for member in state.readers if member.status == "available"]


def positive(ctx: click.Context, param: click.Parameter, value: timedelta) -> timedelta:
    """Refuse a time span of nothing."""
    if not value:
        raise click.BadParameter("expected more than no time at all, such as 5m.", ctx, param)
    return value


@database.command()
@requires("postgres:activity")
@read_only
def connections(systems: Systems) -> Page:
    """Count the database's connections against the maximum: by instance, state, user, application and client.

    Examples:
        opsctl database connections
        opsctl database connections -o json
    """
    answers = systems.backends.connections()
    rows = connection_rows(systems, answers)
    told = unqueried(systems, answers)
    if not any(row["connections"] is not None for row in rows):
        raise next(answer.why for answer in answers if answer.why)
    held = [row for answer in answers if answer.found for row in answer.found.held]
    by = [(f"By {title}", count_by(held, key)) for title, key in BY.items()] if held else []
    return Page([("Instances", rows), *by, *told])


@database.command()
@requires("pi:DescribeDimensionKeys pi:GetResourceMetrics postgres:activity")
@click.option("--older-than", type=DURATION, help="Only queries and transactions that have run for this long.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many rows of each kind.")
@read_only
def activity(systems: Systems, older_than: timedelta | None, limit: int) -> Page:
    """Show running queries, what each waits for, slow statements, and Performance Insights' top queries. Values in queries are hidden.

    Examples:
        opsctl database activity
        opsctl database activity --older-than 5m --limit 50
    """
    found: dict[str, Any] = gather(
        {
            "running": systems.backends.running,
            "statements": partial(statement_rows, systems, limit),
            "insights": partial(insight_rows, systems, limit),
        }
    )
    running: list[InstanceResult[list[Activity]]] = unwrap(found["running"])
    insights: list[dict[str, Any]] = unwrap(found["insights"])
    asked = any(answer.found is not None for answer in running)
    if not asked and all(row["load"] is None for row in insights):
        raise next(answer.why for answer in running if answer.why)
    return Page(
        [
            *(activity_sections(running, older_than, limit) if asked else []),
            ("Slow statements (pg_stat_statements)", unwrap(found["statements"])),
            ("Performance Insights, the last hour", insights),
            *unqueried(systems, running),
        ]
    )


@database.command("kill-long-running")
@requires("postgres:activity", changes="end-blockers end-queries")
@click.option(
    "--older-than",
    default="5m",
    show_default=True,
    type=DURATION,
    callback=positive,
    help="End queries that have run for longer than this.",
)
@click.option(
    "--grace",
    default="5s",
    show_default=True,
    type=DURATION,
    callback=positive,
    help="How long a cancelled query may go on before its connection is ended.",
)
@click.option("--blockers", is_flag=True, help="First end sessions that are idle in a transaction and block others.")
@mutating
def kill_long_running(planning: Planning, older_than: timedelta, grace: timedelta, blockers: bool) -> Iterator[Change]:
    """End active queries that run too long. Replication, vacuum, backups and superusers' queries are not ended.

    Examples:
        opsctl database kill-long-running --older-than 10m -n
        opsctl database kill-long-running --older-than 10m --blockers
    """
    from opsctl.changes.backends import EndQueries

    answers = planning.systems.backends.running()
    if not any(answer.found is not None for answer in answers):
        raise next(answer.why for answer in answers if answer.why)
    found = {answer.instance.id: answer.found for answer in answers if answer.found is not None}
    unasked = {answer.instance.id: f"it can't be asked: {answer.why.what}" for answer in answers if answer.why}
    unseen = {instance.id: UNSEEN for instance in planning.systems.backends.unavailable}
    for instance, running in found.items():
        yield from _blockers(instance, running, asked=blockers)
    for instance in [*found, *unasked, *unseen]:
        old = [each for each in found.get(instance, []) if each.active and each.seconds >= older_than.total_seconds()]
        yield EndQueries(
            instance=instance,
            older_than=str(older_than),
            grace=int(grace.total_seconds()),
            queries=tuple(_pinned(each) for each in old if not each.spared),
            spared=tuple(f"{each.pid} ({each.spared})" for each in old if each.spared),
            unasked=unasked.get(instance, ""),
            unseen=unseen.get(instance, ""),
        )


def _blockers(instance: str, running: Sequence[Activity], *, asked: bool) -> Iterator[Change]:
    """What others wait for without doing anything itself; nothing where nobody does."""
    from opsctl.adapters.sql.activity import holding
    from opsctl.changes.backends import EndBlockers, LongQuery

    known = {each.pid: each for each in running}
    sessions: list[LongQuery] = []
    kept: list[str] = []
    for pid, waiting in holding(running).items():
        each = known.get(pid)
        if each is None and pid == 0:
            kept.append(f"a prepared transaction, for which {waiting} wait (SELECT gid FROM pg_prepared_xacts; then ROLLBACK PREPARED)")
        elif each is not None and each.idle and each.spared:
            kept.append(f"{pid}, for which {waiting} wait ({each.spared})")
        elif each is not None and each.idle:
            told = f"{each.application or 'no name'} as {each.role}, {each.transaction_seconds:.0f} s in its transaction, {waiting} wait"
            sessions.append(LongQuery(pid=pid, backend_start=each.backend_start, query_start=each.query_start, told=told))
    if sessions or kept:
        yield EndBlockers(instance=instance, sessions=tuple(sessions), kept=tuple(kept), asked=asked)


def _pinned(found: Activity) -> LongQuery:
    from opsctl.changes.backends import LongQuery

    told = f"{found.application or 'no name'} as {found.role}, {found.seconds:.0f} s: {brief(found.query, 60)}"
    return LongQuery(pid=found.pid, backend_start=found.backend_start, query_start=found.query_start, told=told)
