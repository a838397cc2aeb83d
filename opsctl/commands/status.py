"""`opsctl status`: one page, asked all at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import root_command
from opsctl.cli.command import read_only, requires
from opsctl.cli.findings import NOT_CONFIGURED, NOT_QUERIED, findings, system_states
from opsctl.cli.types import DURATION
from opsctl.commands import alarms
from opsctl.commands.service import rows
from opsctl.concurrency import gather
from opsctl.errors import ExternalError, OpsctlError
from opsctl.formats.quantities import counted
from opsctl.render.shapes import NoRows, Page, Proportion, Watch

if TYPE_CHECKING:
    from opsctl.adapters.http.health import Health
    from opsctl.settings import Settings
    from opsctl.systems import Systems

Rows = list[dict[str, Any]]
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ISSUES = 20


def _api(systems: Systems) -> Rows:
    return _health(systems.environment.api.base, systems.api.health())


def _staging(systems: Systems) -> Rows:
    return _health(systems.environment.api.staging, systems.api.staging())


def _health(base: str | None, health: Health) -> Rows:
    return [{"base": base, "healthy": health.ok, "detail": health.detail, "ms": round(health.latency_ms)}]


def _services(systems: Systems) -> Rows:
    return rows(systems, sorted(systems.config.services))


def _database(systems: Systems) -> Rows:
    settings = systems.environment.database
    if settings.instance:
        instance = systems.rds.instance(settings.instance)
        return [{"instance": instance.id, "status": instance.status, "zone": instance.zone, "standby": instance.standby}]
    cluster = systems.rds.cluster(settings.cluster)
    return [
        {"instance": m.id, "role": "writer" if m.writer else "reader", "status": m.status, "cluster": cluster.status}
        for m in cluster.members
    ]


def _redis(systems: Systems) -> Rows:
    """Every primary's row; one that can't be asked hides no other."""
    rows: Rows = []
    for node, info in systems.redis.infos().items():
        rows += _rows_or_error(info if isinstance(info, ExternalError) else [_filled(node, info)])
    return rows


def _filled(node: str, info: dict[str, Any]) -> dict[str, Any]:
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    share = Proportion(used / most) if most else "no limit set"
    return {"primary": node, "used_mib": round(used / 2**20, 1), "of_maximum": share, "clients": info.get("connected_clients")}


def _alarms(systems: Systems) -> Rows:
    keys = ("alarm", "state", "since", "acknowledged", "warning", "reason")
    found = (alarms.row(systems, alarm) for alarm in systems.cloudwatch.alarms(list(systems.config.alarms)))
    return [{key: each[key] for key in keys} for each in found]


def _mail(systems: Systems) -> Rows:
    """Whether SES sends, how much in a day of what it may, and the account's reputation, whose newest figure counts."""
    from opsctl.adapters.aws.cloudwatch import Metric

    region = systems.config.bounces.region if systems.config.bounces else None
    account = systems.ses.account(region)
    wanted = [Metric("AWS/SES", f"Reputation.{rate}Rate", {}) for rate in ("Bounce", "Complaint")]
    rates = systems.cloudwatch.metrics(wanted, systems.now() - DAY, period=3600, region=region)
    bounce, complaint = (round(100 * points[-1].value, 3) if points else None for points in rates)
    row = {"sending": account.sending, "enforcement": account.enforcement, "sent_in_24h": round(account.sent_in_24h)}
    return [{**row, "of": round(account.daily_quota), "bounce_percent": bounce, "complaint_percent": complaint}]


def _sentry(systems: Systems) -> Rows:
    rate = systems.sentry.rate()
    share = None if rate.share is None else round(rate.share, 3)
    return [{"errors_in_1h": rate.errors, "requests_in_1h": rate.requests, "error_percent": share}]


def _issues(systems: Systems) -> Rows:
    """The unresolved issues of the last hour, those that look like an attack's first."""
    found = sorted(systems.sentry.issues(), key=lambda issue: (not issue.suspicious, -issue.count))
    return [
        {
            "suspicious": issue.suspicious,
            "events": issue.count,
            "users": issue.users,
            "issue": issue.title,
            "where": issue.where,
            "last": issue.seen,
            "id": issue.id,
        }
        for issue in found[:ISSUES]
    ]


def _functions(systems: Systems) -> Rows:
    """How often each Lambda function ran and failed in the last hour (HH, Where to check)."""
    functions = {name: systems.environment.function(name) for name in sorted(systems.config.functions)}
    wanted = [
        ("AWS/Lambda", metric, {"FunctionName": settings.name}, settings.region)
        for settings in functions.values()
        for metric in ("Invocations", "Errors")
    ]
    sums = iter(_sums(systems, wanted))
    return [
        {"function": name, "runs_in_1h": next(sums), "errors_in_1h": next(sums), "log_group": settings.log_group}
        for name, settings in functions.items()
    ]


def _waf(systems: Systems) -> Rows:
    """What each web ACL let pass and turned away in the last hour."""
    wanted = []
    for acl in systems.config.waf.values():
        dimensions = {"WebACL": acl.acl, "Rule": acl.rule, "Region": acl.region or systems.environment.aws.region}
        wanted += [("AWS/WAFV2", metric, dimensions, acl.region) for metric in ("AllowedRequests", "BlockedRequests")]
    sums = iter(_sums(systems, wanted))
    return [{"acl": name, "allowed": next(sums), "blocked": next(sums)} for name in systems.config.waf]


def _sums(systems: Systems, wanted: list[tuple[str, str, dict[str, str], str | None]]) -> list[int]:
    """The last hour's sum of each metric (namespace, name, dimensions, region), asked by region."""
    from opsctl.adapters.aws.cloudwatch import Metric

    found: dict[int, int] = {}
    for region in {where for *_, where in wanted}:
        here = {n: Metric(space, name, by, "Sum") for n, (space, name, by, where) in enumerate(wanted) if where == region}
        columns = systems.cloudwatch.metrics(list(here.values()), systems.now() - HOUR, period=300, region=region)
        found |= {n: round(sum(point.value for point in points)) for n, points in zip(here, columns, strict=True)}
    return [found[n] for n in range(len(wanted))]


def _links(systems: Systems) -> Rows:
    return [{"what": name, "where": url} for name, url in systems.config.links.items()]


SOURCES: dict[str, Callable[[Systems], Rows]] = {
    "API": _api,
    "Staging": _staging,
    "Services": _services,
    "Database": _database,
    "Redis": _redis,
    "Alarms": _alarms,
    "Mail": _mail,
    "Sentry": _sentry,
    "Issues": _issues,
    "Functions": _functions,
    "WAF": _waf,
    "Links": _links,
}
CONFIGURED: dict[str, Callable[[Settings], object]] = {
    "API": lambda settings: settings.api,
    "Staging": lambda settings: settings.api and settings.api.staging,
    "Services": lambda settings: settings.services,
    "Database": lambda settings: settings.database,
    "Redis": lambda settings: settings.redis,
    "Alarms": lambda settings: settings.aws,
    "Mail": lambda settings: settings.aws,
    "Sentry": lambda settings: settings.sentry,
    "Issues": lambda settings: settings.sentry,
    "Functions": lambda settings: settings.functions,
    "WAF": lambda settings: settings.waf,
}
"""What configuration must have for a source to be queried, unless --only names the source."""
ALERTS = {
    "ALB 5xx errors": "Services",
    "ECS CPU": "Services",
    "RDS connections": "Database",
    "Redis memory": "Redis",
    "Sentry error rate": "Sentry",
}
"""The section to which each alert of `alarms check` belongs."""
SHORTEST = timedelta(seconds=1)


@root_command("status")
@requires(
    "cloudwatch:DescribeAlarms cloudwatch:GetMetricData cloudwatch:GetMetricStatistics ecs:DescribeServices postgres:stats "
    "rds:DescribeDBClusters rds:DescribeDBInstances redis:info sentry ses:GetAccount",
)
@click.option("--all", "everything", is_flag=True, help="Show every system's details too.")
@click.option("--watch", is_flag=True, help="Repeat and redraw until Ctrl-C.")
@click.option("--every", type=DURATION, default="5s", show_default=True, help="With --watch: how often, at least 1s.")
@click.option("--only", multiple=True, type=click.Choice(list(SOURCES), case_sensitive=False), help="Only this system, with details.")
@read_only
def status(systems: Systems, everything: bool, watch: bool, every: timedelta, only: tuple[str, ...]) -> Page | Watch:
    """Show what is wrong, then one line for each system. A system that could not be queried is named.

    Examples:
        opsctl status
        opsctl status --only database --only redis
        opsctl status --watch --every 10s
    """
    if every < SHORTEST:
        raise click.BadParameter(f"expected 1s or more, got {every}", param_hint="'--every'")
    look = partial(page, systems, only, everything=everything)
    return Watch(_pages(look, every)) if watch else look()


def _pages(look: Callable[[], Page], every: timedelta) -> Iterator[Page]:
    while True:
        yield look()
        time.sleep(every.total_seconds())


def page(systems: Systems, only: Collection[str] = (), *, everything: bool = False) -> Page:
    """Query the sources at once, and the alerts of `alarms check` that belong to them; a source that fails doesn't hide the others."""
    chosen = {name: source for name, source in SOURCES.items() if name in only or not only}
    queried = {name: source for name, source in chosen.items() if only or CONFIGURED.get(name, bool)(systems.config)}
    alerts = {key: found for key, found in alarms.alert_sources(systems).items() if ALERTS[key[0]] in queried}
    systems.refuse_wrong_account()
    queries: dict[str | tuple[str, str], Callable[[], Any]] = {name: partial(source, systems) for name, source in queried.items()}
    answers = gather(queries | {key: query for key, (_, query) in alerts.items()})
    sections = {name: _rows_or_error(answers[name]) if name in queried else [{"state": NOT_CONFIGURED}] for name in chosen}
    states = [(ALERTS[key[0]], alarms.to_alert(key, above, answers[key])) for key, (above, _) in alerts.items()]
    found = findings(sections, states)
    head = {"environment": systems.environment.name, "at": systems.now()}
    none = NoRows(f"None. {counted(len(answers), 'queries')}, all answered.")
    top: list[tuple[str, Any]] = [("Status", head), ("Findings", found or none)]
    details: list[tuple[str, Any]] = list(sections.items())
    if only:
        return Page([*top, *details])
    top.append(("Systems", system_states(sections, found)))
    return Page([*top, *details]) if everything else Page(top, details)


def _rows_or_error(found: Rows | OpsctlError) -> Rows:
    return [{"state": NOT_QUERIED, "why": found.what, "next": str(found.next)}] if isinstance(found, OpsctlError) else found
