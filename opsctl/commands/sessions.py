"""`opsctl sessions`: who is signed in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import read_only, requires
from opsctl.cli.types import DURATION
from opsctl.commands.logout import resolved

if TYPE_CHECKING:
    from opsctl.systems import Systems

sessions = group("sessions")


@sessions.command("list")
@requires("postgres:sessions.list postgres:sessions.users postgres:users.find redis:sessions.count")
@click.option("--user", help="Only sessions of this user (id or e-mail).")
@click.option("--since", type=DURATION, help="Only sessions that started within this time, or that have no start time.")
@read_only
def list_(systems: Systems, user: str | None, since: timedelta | None) -> Iterator[dict[str, Any]]:
    """List refresh sessions in the order of their ids, one line each (`-o json`: one JSON object a line).

    Examples:
        opsctl sessions list --user jane@example.com
        opsctl sessions list --since 1h -o json
    """
    ids = [None] if user is None else resolved(systems, [user])
    return systems.session_rows.listed(ids[0], since)
