"""`opsctl sessions`: who is signed in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from psycopg import sql

from opsctl.changing import DURATION
from opsctl.cli import group, views
from opsctl.commands.logout import resolve

if TYPE_CHECKING:
    from opsctl.systems import Systems

PAGE = 5_000

sessions = group("sessions")


@sessions.command("list")
@click.option("--user", help="Only this user's, by id or e-mail.")
@click.option("--since", type=DURATION, help="Only those begun within this span.")
@views
def list_(systems: Systems, user: str | None, since: timedelta | None) -> Iterator[dict[str, Any]]:
    """List refresh sessions in the order of their ids, a line each (`-o json`: a JSON object a line)."""
    settings = systems.environment.need("sessions")
    ident, owner, ends = (sql.Identifier(n) for n in (settings.id_column, settings.user_column, settings.expires_column))
    began = (
        sql.SQL("{}").format(sql.Identifier(settings.created_column))
        if settings.created_column
        else sql.SQL("{} - %(lifetime)s").format(ends)
    )
    values: dict[str, Any] = {} if settings.created_column else {"lifetime": timedelta(seconds=settings.lifetime.total_seconds())}
    where = [sql.SQL("{} > %(last)s").format(ident)]
    if user is not None:
        where.append(sql.SQL("{}::text = %(user)s").format(owner))
        values["user"] = resolve(systems, user)
    if since is not None:
        where.append(sql.SQL("{} >= %(since)s").format(began))
        values["since"] = systems.database.server_time() - since
    query = sql.SQL("SELECT {} AS session, {}::text AS user, {} AS began, {} AS expires FROM {} WHERE {} ORDER BY {} LIMIT {}").format(
        ident, owner, began, ends, sql.Identifier(settings.table), sql.SQL(" AND ").join(where), ident, sql.Literal(PAGE)
    )
    return _pages(systems, query, values)


def _pages(systems: Systems, query: sql.Composed, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    last: Any = 0
    while rows := systems.database.query(query, last=last, **values):
        yield from rows
        last = rows[-1]["session"]
