"""`opsctl logs`: watch log groups, and query them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli import queries
from opsctl.cli.app import group
from opsctl.cli.command import read_only, requires
from opsctl.cli.types import DURATION
from opsctl.redaction import clean_text
from opsctl.render.shapes import Series

if TYPE_CHECKING:
    from opsctl.adapters.aws.logs import LogLine
    from opsctl.systems import Systems

MOST = 1_000

logs = group("logs")


@logs.command()
@requires("logs:FilterLogEvents")
@click.argument("group")
@click.option("--follow", is_flag=True, help="Keep showing new lines until Ctrl-C.")
@click.option("--since", type=DURATION, default="10m", show_default=True, help="How far back to start.")
@click.option("--filter", "pattern", default="", help="A CloudWatch filter pattern: lease_denied, '{ $.type = \"lease_error\" }'.")
@read_only
def tail(systems: Systems, group: str, follow: bool, since: timedelta, pattern: str) -> Iterator[dict[str, Any]]:
    """Show the lines of a log group. JSON is made readable and secrets are hidden. GROUP is a name in the configuration or the full name.

    Examples:
        opsctl logs tail hh-lease --since 1h
        opsctl logs tail hh-lease --follow --filter lease_denied
    """
    name, region = queries.group(systems.environment, group)
    start = systems.now() - since
    if follow:
        return map(readable, systems.logs.follow(name, start, pattern, region))
    return map(readable, systems.logs.recent(name, start, MOST, pattern, region))


def readable(line: LogLine) -> dict[str, Any]:
    """A line as its time and its words."""
    return {"at": line.at, "line": line.words}


@logs.command()
@requires("logs:GetQueryResults logs:StartQuery logs:StopQuery")
@click.argument("name")
@click.option("--since", type=DURATION, default="24h", show_default=True, help="How far back to look.")
@read_only
def query(systems: Systems, name: str, since: timedelta) -> Series:
    """Run a saved query (a file of config/queries) with CloudWatch Logs Insights.

    Examples:
        opsctl logs query lease-errors --since 24h
        opsctl logs query lease-outcomes --since 7d -o json
    """
    asked = queries.load(systems.environment, name)
    now = systems.now()
    rows: list[dict[str, Any]] = []
    for region in sorted({region for _, region in asked.groups}, key=str):
        names = [group for group, where in asked.groups if where == region]
        rows += systems.insights.rows(asked.text, names, now - since, now, region)
    return Series([{key: _cell(key, value) for key, value in row.items()} for row in rows], asked.plot)


def _cell(key: str, value: str) -> Any:
    """Insights answers text alone: moments and what was counted are made what they are."""
    try:
        if key == "@timestamp":
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        if "(" in key:
            return int(value) if value.isdigit() else float(value)
    except ValueError:
        pass
    return clean_text(value)
