"""`opsctl sessions`: who is signed in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from psycopg import sql

from opsctl.adapters.sql.visibility import require_all_rows
from opsctl.changes.deletion import above
from opsctl.cli.app import group
from opsctl.cli.command import read_only, requires
from opsctl.cli.types import DURATION
from opsctl.commands.logout import resolved

if TYPE_CHECKING:
    from opsctl.systems import Systems

PAGE = 5_000

sessions = group("sessions")


@sessions.command("list")
@requires("postgres:sessions.list postgres:sessions.users postgres:users.find redis:sessions.count")
@click.option("--user", help="Only this user's, by id or e-mail.")
@click.option("--since", type=DURATION, help="Only those begun within this span, or with no time of beginning.")
@read_only
def list_(systems: Systems, user: str | None, since: timedelta | None) -> Iterator[dict[str, Any]]:
    """List refresh sessions in the order of their ids, a line each (`-o json`: a JSON object a line)."""
    settings = systems.environment.sessions
    require_all_rows(systems.database, settings.table)
    owner, ends = sql.Identifier(settings.user_column), sql.Identifier(settings.expires_column)
    values: dict[str, Any] = {}
    if settings.created_column:
        began: sql.Composable = sql.Identifier(settings.created_column)
    else:
        began = sql.SQL("{} - make_interval(secs => %(lifetime)s)").format(ends)
        values["lifetime"] = settings.lifetime.total_seconds()
    where: list[sql.Composable] = []
    if user is not None:
        [values["user"]] = resolved(systems, [user])
        where.append(sql.SQL("{}::text = %(user)s").format(owner))
    if since is not None:
        where.append(sql.SQL("({} >= %(since)s OR {} IS NULL)").format(began, began))
        values["since"] = systems.database.server_time() - since
    columns = sql.SQL("{} AS session, {}::text AS user, {} AS began, {} AS expires").format(
        sql.Identifier(settings.id_column), owner, began, ends
    )
    return _pages(systems, columns, where, values)


def _pages(systems: Systems, columns: sql.Composable, where: list[sql.Composable], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Page after page, each from the last one's highest id on, whatever the type of ids is."""
    settings = systems.environment.sessions
    after: tuple[sql.Composable, dict[str, Any]] = (sql.SQL("true"), {})
    while True:
        query = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {}").format(
            columns,
            sql.Identifier(settings.table),
            sql.SQL(" AND ").join([after[0], *where]),
            sql.Identifier(settings.table, settings.id_column),
            sql.Literal(PAGE),
        )
        rows = systems.database.query(query, **values, **after[1])
        yield from rows
        if len(rows) < PAGE:
            return
        after = above(settings, str(rows[-1]["session"]))
