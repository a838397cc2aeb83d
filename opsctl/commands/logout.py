"""`opsctl logout`: end sessions in the database, the cache and the API, in that order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from psycopg import sql

from opsctl import files
from opsctl.changes.base import Change
from opsctl.changes.sessions import EndCachedSessions, EndDatabaseSessions, RevokeTokens
from opsctl.changing import DURATION
from opsctl.cli import changes, group
from opsctl.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from opsctl.systems import Systems

CHUNK = 5_000

logout = group("logout")


@logout.command()
@click.argument("users", nargs=-1, required=True, metavar="USER...")
@changes
def user(systems: Systems, users: tuple[str, ...]) -> Iterator[Change]:
    """End every session of some users, named by id or e-mail."""
    yield from ending(systems, [resolve(systems, one) for one in users])


@logout.command()
@click.option("--last-login-before", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Who last logged in before this (UTC).")
@click.option("--inactive-for", type=DURATION, help="Who hasn't logged in for this long.")
@click.option("--users-from", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file of ids or e-mails, one a line.")
@changes
def bulk(systems: Systems, last_login_before: datetime | None, inactive_for: timedelta | None, users_from: Path | None) -> Iterator[Change]:
    """End the sessions of every user who meets all the criteria."""
    if inactive_for is not None and not inactive_for:
        raise click.BadParameter("expected a span longer than zero.", param_hint="--inactive-for")
    if not (last_login_before or inactive_for or users_from):
        raise click.UsageError("Give at least one criterion; for everybody there is: opsctl logout all")
    moments = [last_login_before.replace(tzinfo=UTC)] if last_login_before else []
    moments += [systems.now() - inactive_for] if inactive_for else []
    named = [resolve(systems, line) for line in _lines(users_from)] if users_from else None
    yield from ending(systems, matching(systems, min(moments) if moments else None, named))


@logout.command("all")
@changes
def all_(systems: Systems) -> Iterator[Change]:
    """End every session of every user."""
    yield from ending(systems, None)


def ending(systems: Systems, users: Sequence[str] | None) -> Iterator[Change]:
    """The three changes for each five thousand users, or once for everybody, with one cutoff; for nobody the first one, which says so."""
    settings = systems.environment.need("sessions")
    cutoff = systems.follows or systems.database.server_time()
    if users is None:
        chunks: list[tuple[str, ...] | None] = [None]
    else:
        ids = sorted(set(users))
        chunks = [tuple(ids[i : i + CHUNK]) for i in range(0, len(ids), CHUNK)] or [()]
    yield from (EndDatabaseSessions(users=chunk, cutoff=cutoff) for chunk in chunks)
    if chunks == [()]:
        return
    if systems.config.redis and settings.redis_patterns:
        yield from (EndCachedSessions(users=chunk, cutoff=cutoff) for chunk in chunks)
    if systems.config.api:
        yield from (RevokeTokens(users=chunk, cutoff=cutoff) for chunk in chunks)


def resolve(systems: Systems, user: str) -> str:
    """A user's id, from an id or an e-mail; raises NotFound when there is no such user."""
    settings = systems.environment.need("sessions")
    column = settings.users_email_column if "@" in user else settings.users_id_column
    query = sql.SQL("SELECT {}::text AS id FROM {} WHERE {}::text = %(user)s").format(
        sql.Identifier(settings.users_id_column), sql.Identifier(settings.users_table), sql.Identifier(column)
    )
    rows = systems.database.query(query, user=user)
    if not rows:
        raise NotFound(f"There is no user {user!r}.", "Give an id or an e-mail as the application knows it.")
    return str(rows[0]["id"])


def matching(systems: Systems, before: datetime | None, named: Sequence[str] | None) -> list[str]:
    """The ids of the users whose last login was before a moment, among those named."""
    settings = systems.environment.need("sessions")
    ident, table = sql.Identifier(settings.users_id_column), sql.Identifier(settings.users_table)
    where = [sql.SQL("true")]
    values: dict[str, object] = {}
    if before is not None:
        where.append(sql.SQL("{} < %(before)s").format(sql.Identifier(settings.last_login_column)))  # type: ignore[arg-type]
        values["before"] = before
    if named is not None:
        where.append(sql.SQL("{}::text IN (SELECT jsonb_array_elements_text(%(named)s::jsonb))").format(ident))  # type: ignore[arg-type]
        values["named"] = json.dumps(list(named))
    query = sql.SQL("SELECT {}::text AS id FROM {} WHERE {}").format(ident, table, sql.SQL(" AND ").join(where))
    return [str(row["id"]) for row in systems.database.query(query, **values)]


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in files.read(path, files.LARGEST_LIST, pipes=True).decode().splitlines()]
    except OSError as cause:
        raise ConfigurationError(f"{path} can't be read: {cause.strerror}.", "Give ids or e-mails, one a line.") from cause
    except UnicodeDecodeError as cause:
        raise ConfigurationError(f"{path} can't be read as lines of text: {cause}.", "Give ids or e-mails, one a line.") from cause
    return [line for line in lines if line and not line.startswith("#")]
