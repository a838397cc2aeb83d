"""`opsctl alarms`: what fires, against its real source, and who looks after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli import completion
from opsctl.cli.app import group
from opsctl.cli.command import mutating, read_only, requires
from opsctl.concurrency import gather
from opsctl.contract import Change, Planning
from opsctl.errors import ConfigurationError, ExternalError, NotFound, OpsctlError
from opsctl.render.shapes import Alert, Alerts

if TYPE_CHECKING:
    from opsctl.adapters.aws.cloudwatch import Alarm
    from opsctl.settings import ServiceSettings
    from opsctl.systems import Systems

LAG = timedelta(minutes=5)
"""How late CloudWatch's figure of a minute may be."""
MINUTE = 60
# A role without pg_read_all_stats is shown no other's backend_type, so that it would count its own connection alone.
CONNECTIONS = """
SELECT count(*) AS used, current_setting('max_connections')::int AS most,
       current_user::text AS role, pg_has_role('pg_read_all_stats', 'USAGE') AS sees_others
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
NEXT = "What is up: opsctl status; the procedure: opsctl playbook run alert-response"

Ask = Callable[[], tuple[float, str]]
"""Returns a value in percent and where it is from; raises OpsctlError when it can't be had."""

alarms = group("alarms")


@alarms.command("list")
@requires("cloudwatch:DescribeAlarms")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every alarm of the region, not only those that are configured.")
@read_only
def list_(systems: Systems, names: tuple[str, ...], everything: bool) -> list[dict[str, Any]]:
    """List CloudWatch alarms: state, since when, why, and who acknowledged them.

    Examples:
        opsctl alarms list
        opsctl alarms list --all
    """
    if names and everything:
        raise click.UsageError("Name alarms, or ask for --all.")
    found = systems.cloudwatch.alarms([] if everything else list(names or systems.config.alarms))
    if names and (missing := [alarm.name for alarm in found if alarm.updated is None]):
        raise _unknown(systems, missing[0])
    return [row(systems, alarm) for alarm in found]


def _unknown(systems: Systems, name: str) -> NotFound:
    return NotFound(f"CloudWatch has no alarm {name!r} in {systems.environment.aws.region}.", "opsctl alarms list --all")


def row(systems: Systems, alarm: Alarm) -> dict[str, Any]:
    """An alarm as a row; the ledger is asked only about one that is in ALARM."""
    from opsctl.changes.alarms import ALARM

    return {
        "alarm": alarm.name,
        "state": alarm.state,
        "since": alarm.updated,
        "acknowledged": _acknowledged(systems, alarm.name, alarm.updated) if alarm.state == ALARM and alarm.updated else None,
        "threshold": alarm.threshold,
        "warning": alarm.warning,
        "reason": alarm.reason,
    }


def _acknowledged(systems: Systems, name: str, transition: datetime) -> str:
    from opsctl.changes.alarms import acknowledged

    known = acknowledged(systems.history, name, transition)
    return f"{known.by} at {known.at:%Y-%m-%d %H:%M:%S}, run {known.run}" if known else "nobody"


@alarms.command()
@requires("cloudwatch:DescribeAlarms", changes="set-acknowledgement set-alarm-reason")
@click.argument("name", shell_complete=completion.ALARMS)
@click.option("--annotate", metavar="TEXT", help="Also write this text to CloudWatch as the alarm's reason, if its state is ALARM.")
@mutating
def ack(planning: Planning, name: str, annotate: str | None) -> Iterator[Change]:
    """Acknowledge an alarm: record that you are working on it. The alarm's state does not change.

    Examples:
        opsctl alarms ack Safawinet-ALB-5xx-Errors
        opsctl alarms ack Safawinet-ALB-5xx-Errors --annotate 'Bad deployment, rolling back'
    """
    from opsctl.changes.alarms import SetAcknowledgement, SetAlarmReason

    systems = planning.systems
    if annotate is not None and not annotate.strip():
        raise click.UsageError("--annotate needs a text.")
    (alarm,) = systems.cloudwatch.alarms([name])
    if alarm.updated is None:
        raise _unknown(systems, name)
    if annotate:
        yield SetAlarmReason(alarm=name, transition=alarm.updated, before=alarm.reason, after=annotate)
    yield SetAcknowledgement(alarm=name, transition=alarm.updated, page=systems.config.channels.page is not None)


@alarms.command()
@requires("cloudwatch:GetMetricData cloudwatch:GetMetricStatistics postgres:stats rds:DescribeDBClusters redis:info sentry")
@read_only
def check(systems: Systems) -> Alerts:
    """Compute the critical alerts from current measurements. Exit 3 if an alert fires, 1 if a source could not be queried.

    Examples:
        opsctl alarms check
        opsctl alarms check -o json
    """
    sources = alert_sources(systems)
    systems.refuse_wrong_account()
    found = gather({key: query for key, (_, query) in sources.items()})
    rows = [to_alert(key, above, found[key]) for key, (above, _) in sources.items()]
    return Alerts.of(rows, NEXT)


def alert_sources(systems: Systems) -> dict[tuple[str, str], tuple[float, Ask]]:
    """Every critical alert, by its name and what it is about: its threshold, and the query of its value."""
    return dict(_alerts(systems))


def to_alert(key: tuple[str, str], above: float, found: tuple[float, str] | OpsctlError) -> Alert:
    """The alert of a query's answer; `unknown` of its error."""
    alert, of = key
    if isinstance(found, OpsctlError):
        return Alert(alert=alert, of=of, value=None, threshold=above, state="unknown", source=f"{found.what} {found.next}".rstrip())
    value, source = found
    return Alert(alert=alert, of=of, value=round(value, 3), threshold=above, state="fires" if value > above else "ok", source=source)


def _alerts(systems: Systems) -> Iterator[tuple[tuple[str, str], tuple[float, Ask]]]:
    """Every alert, of everything that it is about: its threshold, and how its value is had."""
    alerts, services = systems.config.alerts, systems.config.services
    balancers = {s.load_balancer: name for name, s in sorted(services.items(), reverse=True) if s.load_balancer}
    for balancer, name in balancers.items() or [("", "no service")]:
        yield ("ALB 5xx errors", name), (alerts.alb_5xx.above, partial(_alb, systems, balancer, alerts.alb_5xx.over))
    for name, service in sorted(services.items()):
        yield ("ECS CPU", name), (alerts.ecs_cpu.above, partial(_cpu, systems, service, alerts.ecs_cpu.over))
    database = systems.config.database
    at = database.instance or database.cluster if database else "none"
    yield ("RDS connections", at), (alerts.rds_connections.above, partial(_connections, systems))
    cache = systems.config.redis
    yield (
        ("Redis memory", cache.cluster if cache else "none"),
        (alerts.redis_memory.above, partial(_memory, systems, alerts.redis_memory.above)),
    )
    sentry = systems.config.sentry
    yield ("Sentry error rate", sentry.project if sentry else "none"), (alerts.sentry_errors.above, partial(_errors, systems))


def _alb(systems: Systems, balancer: str, over: timedelta) -> tuple[float, str]:
    """5xx answers among all requests: the targets', and the balancer's own, as when no target is left.

    CloudWatch has no figure of errors where there was none, and RequestCount leaves out requests for which there was no target.
    """
    from opsctl.adapters.aws.cloudwatch import Metric

    if not balancer:
        raise ConfigurationError("no service names its load-balancer.", "Add load-balancer to [services.NAME].")
    names = ("RequestCount", "HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count")
    wanted = [Metric("AWS/ApplicationELB", name, {"LoadBalancer": balancer}, "Sum") for name in names]
    found = systems.cloudwatch.metrics(wanted, _begin(systems, over), period=MINUTE)
    minutes = sorted({point.at for points in found for point in points})[-_minutes(over) :]
    if not minutes:
        raise ExternalError(f"CloudWatch has no figure of {balancer} in the last minutes: no requests, or no such load balancer.")
    requests, targets, own = (sum(point.value for point in points if point.at >= minutes[0]) for points in found)
    source = f"CloudWatch: 5xx of the targets {targets:,.0f}, of the balancer {own:,.0f}; RequestCount {requests:,.0f}; {len(minutes)} min"
    failed = targets + own
    return 100 * failed / max(requests, failed, 1), source


def _cpu(systems: Systems, service: ServiceSettings, over: timedelta) -> tuple[float, str]:
    """The lowest of the last minutes' averages: above the threshold only if every one of them is."""
    here = {"ClusterName": service.cluster, "ServiceName": service.service}
    minutes = _minutes(over)
    points = systems.cloudwatch.metric("AWS/ECS", "CPUUtilization", here, _begin(systems, over), period=MINUTE)[-minutes:]
    if len(points) < minutes:
        raise ExternalError(f"CloudWatch has the CPUUtilization of {len(points)} of the last {minutes} minutes of {service.service}.")
    values = [point.value for point in points]
    return min(values), f"CloudWatch: the lowest minute of {minutes}; the highest {max(values):.2f} %, the last {values[-1]:.2f} %"


def _minutes(over: timedelta) -> int:
    return int(over.total_seconds()) // MINUTE


def _begin(systems: Systems, over: timedelta = timedelta()) -> datetime:
    """The whole minute from which on figures are asked for, so that the newest of `over` are among them."""
    return (systems.now() - over - LAG).replace(second=0, microsecond=0)


def _connections(systems: Systems) -> tuple[float, str]:
    """Asked of the database itself; when it can't be reached, or shows this role no others' connections, CloudWatch's count of them."""
    from opsctl.adapters.sql.activity import stats_denied

    try:
        (row,) = systems.database.query(CONNECTIONS)
    except ExternalError as cause:
        most = systems.config.alerts.rds_connections.most
        return _counted_connections(systems, cause, most, f"the configured {most}")
    used, most = row["used"], row["most"]
    if not row["sees_others"]:
        return _counted_connections(systems, stats_denied(row["role"]), most, f"max_connections {most}")
    return 100 * used / most, f"the database: {used} of max_connections {most}"


def _counted_connections(systems: Systems, cause: ExternalError, most: int | None, of: str) -> tuple[float, str]:
    """CloudWatch's count against `most`, which is `of` in words; `cause` is why the database doesn't tell, and is said in any case."""
    try:
        count = _count(systems)
        if most is None:
            raise ExternalError(f"CloudWatch counts {count:.0f}, of how many isn't configured (alerts.rds-connections.most).")
    except ExternalError as silent:
        raise ExternalError(f"{cause.what} {silent.what}", cause.next) from cause
    why = f"{cause.what} {cause.next}".rstrip()
    return 100 * count / most, f"CloudWatch: DatabaseConnections {count:.0f} of {of}, as the database itself doesn't tell: {why}"


def _count(systems: Systems) -> float:
    """The newest of CloudWatch's counts of the connections to the instance, or to the cluster's writer."""
    database = systems.environment.database
    instance = database.instance
    if not instance:
        writer = systems.rds.cluster(database.cluster).writer
        if writer is None:
            raise ExternalError(f"{database.cluster} has no writer just now, whose connections CloudWatch could count.")
        instance = writer.id
    here = {"DBInstanceIdentifier": instance}
    points = systems.cloudwatch.metric("AWS/RDS", "DatabaseConnections", here, _begin(systems), statistic="Maximum")
    if not points:
        raise ExternalError(f"CloudWatch has no DatabaseConnections of {instance} either.")
    return points[-1].value


def _memory(systems: Systems, above: float) -> tuple[float, str]:
    """Of the fullest primary: each takes its own share of the keys, and one that is full refuses writes whatever the others have left.

    One that can't be asked is raised, unless another stands `above` the threshold, which fires whatever that one would say.
    """
    infos = systems.redis.infos()
    silent = [told for told in infos.values() if isinstance(told, ExternalError)]
    full = {node: _filled(told) for node, told in infos.items() if not isinstance(told, ExternalError)}
    fullest = max(full, key=lambda node: full[node][0], default="")
    if silent and (not full or full[fullest][0] <= above):
        raise silent[0]
    share, words = full[fullest]
    which = f" of {fullest}, the fullest of {len(infos)} primaries" if len(infos) > 1 else ""
    return share, f"Redis INFO{which}: {words}" + "".join(f"; {told.what}" for told in silent)


def _filled(info: dict[str, Any]) -> tuple[float, str]:
    """Of maxmemory; without one, of the machine's memory, which is then what ends it."""
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    of = "maxmemory"
    if not most:
        most, of = int(info.get("total_system_memory", 0)), "the machine's memory, since no maxmemory is set:"
    if not most:
        raise ExternalError(f"Redis uses {used / 2**20:,.1f} MiB; no maxmemory is set, so there is nothing to compare it with.")
    return 100 * used / most, f"used_memory {used / 2**20:,.1f} MiB of {of} {most / 2**20:,.0f} MiB"


def _errors(systems: Systems) -> tuple[float, str]:
    rate = systems.sentry.rate()
    if rate.share is None:
        raise ExternalError(f"Sentry counts {rate.errors:,} errors and no transaction in the last hour, so there is no rate.")
    return rate.share, f"Sentry: {rate.errors:,} errors, {rate.requests:,} transactions in the last hour"
