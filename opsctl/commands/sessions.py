"""`opsctl sessions`: who is signed in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import read_only, requires
from opsctl.cli.types import DURATION
from opsctl.commands.logout import resolved
from opsctl.render.shapes import Listing

if TYPE_CHECKING:
    from opsctl.systems import Systems

sessions = group("sessions")


@sessions.command("list")
@requires("postgres:sessions.list postgres:sessions.users postgres:users.find redis:sessions.count")
@click.option("--user", help="Only sessions of this user (id or e-mail).")
@click.option("--since", type=DURATION, help="Only sessions that started within this time, or that have no start time.")
@click.option("--limit", type=click.IntRange(1), help="How many to list; 50 on a terminal, else all.")
@click.option("--all", "whole", is_flag=True, help="List all, on a terminal too.")
@read_only
def list_(systems: Systems, user: str | None, since: timedelta | None, limit: int | None, whole: bool) -> Iterator[dict[str, Any]]:
    """List refresh sessions in the order of their ids, one line each (`-o json`: one JSON object a line).

    Examples:
        opsctl sessions list --user jane@example.com
        opsctl sessions list --since 1h -o json
    """
    if limit and whole:
        raise click.UsageError("--limit and --all contradict each other.")
    owner = None if user is None else resolved(systems, [user])[0]
    rows = systems.session_rows
    return Listing(rows.listed(owner, since), partial(rows.count_listed, owner, since), limit=limit, whole=whole)
