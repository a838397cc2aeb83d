"""`opsctl status`: one page, asked all at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from opsctl.changing import DURATION
from opsctl.cli import single, views
from opsctl.commands.service import row
from opsctl.errors import OpsctlError
from opsctl.render.shapes import Page

if TYPE_CHECKING:
    from opsctl.systems import Systems

Rows = list[dict[str, Any]]
HOUR = timedelta(hours=1)


@single("status")
@click.option("--watch", is_flag=True, help="Ask again until interrupted.")
@click.option("--every", type=DURATION, default="5s", show_default=True, help="With --watch: how often.")
@views
def status(systems: Systems, watch: bool, every: timedelta) -> Page | Iterator[Page]:
    """Show what is up: API, services, database, Redis, functions, WAF, alarms. What could not be asked is said plainly."""
    return _watching(systems, every) if watch else page(systems)


def _watching(systems: Systems, every: timedelta) -> Iterator[Page]:
    while True:
        yield page(systems)
        time.sleep(every.total_seconds())


def page(systems: Systems) -> Page:
    """Ask every source at once; one that can't be asked doesn't hide the others."""
    sources: dict[str, Callable[[Systems], Rows]] = {
        "API": _api,
        "Services": _services,
        "Database": _database,
        "Redis": _redis,
        "Functions": _functions,
        "WAF": _waf,
        "Alarms": _alarms,
        "Links": _links,
    }
    with ThreadPoolExecutor(len(sources)) as pool:
        asked = {name: pool.submit(_asked, source, systems) for name, source in sources.items()}
        return Page([(name, found.result()) for name, found in asked.items()])


def _asked(source: Callable[[Systems], Rows], systems: Systems) -> Rows:
    try:
        return source(systems)
    except OpsctlError as cause:
        return [{"state": "could not be asked", "why": cause.what}]


def _api(systems: Systems) -> Rows:
    health = systems.api.health()
    base = systems.environment.need("api").base
    return [{"base": base, "healthy": health.ok, "detail": health.detail, "ms": round(health.latency_ms)}]


def _services(systems: Systems) -> Rows:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda name: row(systems, name), sorted(systems.config.services)))


def _database(systems: Systems) -> Rows:
    settings = systems.environment.need("database")
    if settings.instance:
        instance = systems.rds.instance(settings.instance)
        return [{"instance": instance.id, "status": instance.status, "zone": instance.zone, "standby": instance.standby}]
    cluster = systems.rds.cluster(settings.cluster)
    return [
        {"instance": m.id, "role": "writer" if m.writer else "reader", "status": m.status, "cluster": cluster.status}
        for m in cluster.members
    ]


def _redis(systems: Systems) -> Rows:
    memory = systems.redis.info("memory")
    clients = systems.redis.info("clients")
    used, most = int(memory["used_memory"]), int(memory.get("maxmemory", 0))
    share = f"{used / most:.0%}" if most else "no limit set"
    return [{"used_mib": round(used / 2**20, 1), "of_maximum": share, "clients": clients.get("connected_clients")}]


def _functions(systems: Systems) -> Rows:
    """How often each Lambda function ran and failed in the last hour (HH, Where to check)."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda name: _function(systems, name), sorted(systems.config.functions)))


def _function(systems: Systems, name: str) -> dict[str, Any]:
    settings = systems.environment.function(name)
    where = ("AWS/Lambda", {"FunctionName": settings.name}, settings.region)
    runs, errors = _sum(systems, "Invocations", *where), _sum(systems, "Errors", *where)
    return {"function": name, "runs_in_1h": runs, "errors_in_1h": errors, "log_group": settings.log_group}


def _waf(systems: Systems) -> Rows:
    """What each web ACL let pass and turned away in the last hour."""
    rows = []
    for name, acl in systems.config.waf.items():
        dimensions = {"WebACL": acl.acl, "Rule": acl.rule, "Region": acl.region or systems.environment.aws.region}
        where = ("AWS/WAFV2", dimensions, acl.region)
        rows.append({"acl": name, **{word: _sum(systems, f"{word.capitalize()}Requests", *where) for word in ("allowed", "blocked")}})
    return rows


def _sum(systems: Systems, metric: str, namespace: str, dimensions: dict[str, str], region: str | None) -> int:
    since = systems.now() - HOUR
    points = systems.cloudwatch.metric(namespace, metric, dimensions, since, period=300, statistic="Sum", region=region)
    return round(sum(point.value for point in points))


def _alarms(systems: Systems) -> Rows:
    alarms = systems.cloudwatch.alarms(list(systems.config.alarms))
    return [{"alarm": a.name, "state": a.state, "since": a.updated, "reason": a.reason} for a in alarms]


def _links(systems: Systems) -> Rows:
    return [{"what": name, "where": url} for name, url in systems.config.links.items()]
