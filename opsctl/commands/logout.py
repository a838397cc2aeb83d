"""`opsctl logout`: end sessions in the database, the cache and the API, in that order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl import files
from opsctl.cli.app import group
from opsctl.cli.command import mutating, requires
from opsctl.cli.types import DURATION
from opsctl.contract import Change, Planning
from opsctl.errors import ConfigurationError, Denied, ExternalError, NotFound, Refused

if TYPE_CHECKING:
    from opsctl.adapters.sql.users import Users
    from opsctl.systems import Systems

STORES = ("database", "redis", "api")
SHOWN = 5

logout = group("logout")

only: Callable[[Any], Any] = click.option(
    "--only", "stores", type=click.Choice(STORES), multiple=True, help="End the sessions in this store only; repeat the option to add one."
)


@logout.command()
@requires(
    "postgres:sessions.users postgres:users.find redis:sessions.count",
    changes="end-cached-sessions end-database-sessions revoke-tokens",
)
@click.argument("users", nargs=-1, required=True, metavar="USER...")
@only
@mutating
def user(planning: Planning, users: tuple[str, ...], stores: tuple[str, ...]) -> Iterator[Change]:
    """End every session of the given users (id or e-mail).

    Examples:
        opsctl logout user jane@example.com
        opsctl logout user 4711 4712 -n
    """
    yield from ending(planning, resolved(planning.systems, users), stores)


@logout.command()
@requires(
    "postgres:sessions.users postgres:users.find postgres:users.logins redis:sessions.count",
    changes="end-cached-sessions end-database-sessions revoke-tokens",
)
@click.option(
    "--last-login-before", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Users whose last login was before this time (UTC)."
)
@click.option("--inactive-for", type=DURATION, help="Users who haven't logged in for this long.")
@click.option("--users-from", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file of ids or e-mails, one per line.")
@only
@mutating
def bulk(
    planning: Planning,
    last_login_before: datetime | None,
    inactive_for: timedelta | None,
    users_from: Path | None,
    stores: tuple[str, ...],
) -> Iterator[Change]:
    """End the sessions of every user who matches all the criteria. A missing or future last login counts as long ago.

    Examples:
        opsctl logout bulk --inactive-for 90d -n
        opsctl logout bulk --users-from users.txt
    """
    systems = planning.systems
    if inactive_for is not None and not inactive_for:
        raise click.BadParameter("expected a span longer than zero.", param_hint="--inactive-for")
    if not (last_login_before or inactive_for or users_from):
        raise click.UsageError("Give at least one criterion. To log everybody out: opsctl logout all")
    moments = [last_login_before.replace(tzinfo=UTC)] if last_login_before else []
    moments += [planning.now - inactive_for] if inactive_for else []
    named = resolved(systems, _lines(users_from)) if users_from else None
    if not moments:
        yield from ending(planning, named, stores)
        return
    found = _users(systems).matching(min(moments), named)
    yield from ending(planning, found.ids, stores, unproven=found.unproven)


@logout.command("all")
@requires("postgres", changes="end-cached-sessions end-database-sessions revoke-tokens")
@only
@mutating
def all_(planning: Planning, stores: tuple[str, ...]) -> Iterator[Change]:
    """End every session of every user.

    Examples:
        opsctl logout all -n
        opsctl logout all --incident INC-42 --reason 'Signing key exposed'
    """
    yield from ending(planning, None, stores)


def ending(planning: Planning, users: Sequence[str] | None, stores: Sequence[str], *, unproven: int = 0) -> Iterator[Change]:
    """One change for each store, all with one cutoff; for nobody the first one, which says so."""
    from opsctl.changes.sessions import EndCachedSessions, EndDatabaseSessions, RevokeTokens

    systems = planning.systems
    settings = systems.environment.sessions
    systems.environment.require(*(store for store in ("redis", "api") if store in stores))
    ids = None if users is None else tuple(sorted(set(users)))
    in_redis = systems.config.redis is not None and "redis" in (stores or STORES)
    if ids and in_redis and settings.redis_patterns:
        _tell_keys_apart(systems, ids)
    cutoff = planning.follows or _now(systems)
    found: list[Change] = []
    if "database" in (stores or STORES):
        found.append(EndDatabaseSessions(users=ids, cutoff=cutoff, unproven=unproven))
    if in_redis:
        found.append(EndCachedSessions(users=ids, cutoff=cutoff, unproven=unproven))
    if systems.config.api and "api" in (stores or STORES) and (ids is None or (accounts := _with_account(systems, ids)) or not found):
        found.append(RevokeTokens(users=None if ids is None else accounts, cutoff=cutoff, unproven=unproven))
    yield from found[:1] if ids == () else found


def resolved(systems: Systems, names: Sequence[str]) -> list[str]:
    """The ids of users named by id or e-mail, also of deleted accounts whose sessions are left.

    Raises NotFound for a name of nobody, Refused for one that stands for several users. While the database can't be asked, ids are taken
    as they are: the other stores need no more.
    """
    try:
        found = _users(systems).named(names)
    except (NotFound, Denied):
        raise
    except ExternalError:
        if any("@" in name for name in names):
            raise
        return list(names)
    several = {name: ids for name, ids in found.items() if len(ids) > 1}
    if several:
        told = "; ".join(f"{name!r} stands for {', '.join(ids[:SHOWN])}" for name, ids in list(several.items())[:SHOWN])
        raise Refused(f"A name stands for more than one user: {told}.", "Name each user by its id.")
    unknown = [name for name, ids in found.items() if not ids]
    if unknown and not _all_in_redis(systems, unknown):
        told = ", ".join(repr(name) for name in unknown[:SHOWN])
        raise NotFound(
            f"There is no user {told}{f' (and {len(unknown) - SHOWN:,} more)' if len(unknown) > SHOWN else ''}.",
            "Check the user's id or e-mail; for a deleted account, give the id.",
        )
    return [id for name, ids in found.items() for id in ids or [name]]


def _users(systems: Systems) -> Users:
    users = systems.users
    users.require_all()
    return users


def _all_in_redis(systems: Systems, ids: Sequence[str]) -> bool:
    """Whether each of a few ids has session keys in Redis: an account may be gone from the database before its keys."""
    settings = systems.environment.sessions
    if systems.config.redis is None or not settings.redis_patterns or len(ids) > SHOWN:
        return False
    return all(
        systems.redis.count(settings.redis_patterns, settings.keep, None, 0, users=[id], user_pattern=settings.redis_user_pattern).live
        for id in ids
    )


def _with_account(systems: Systems, ids: Sequence[str]) -> tuple[str, ...]:
    """Those of `ids` that the API can know; all of them while the database can't be asked."""
    try:
        there = _users(systems).existing(ids)
    except (NotFound, Denied):
        raise
    except ExternalError:
        return tuple(ids)
    return tuple(id for id in ids if id in there)


def _now(systems: Systems) -> datetime:
    """The cutoff, by the database's clock; by this machine's while the database can't be asked. Refused where sessions are hidden."""
    try:
        systems.session_rows.require_all()
        systems.session_rows.require_same()
        return systems.database.server_time()
    except Refused as hidden:
        raise Refused(hidden.what, f"{hidden.next}; the other stores meanwhile: --only redis --only api") from hidden
    except NotFound:
        raise
    except ExternalError:
        return systems.now()


def _tell_keys_apart(systems: Systems, ids: Sequence[str]) -> None:
    """Raise Refused where another user's keys in Redis would read like those of one of `ids`: `t:7` and `t`, by `ts:{user}:*`."""
    from opsctl.statements.redis_keys import user_keys

    pattern = systems.environment.sessions.redis_user_pattern
    separator = user_keys(pattern).separator.decode()
    try:
        pairs = _users(systems).confusable(ids, separator) if separator else []
    except (NotFound, Denied):
        raise
    except ExternalError:
        return
    if pairs:
        told = "; ".join(f"{one!r} and {other!r}" for one, other in pairs)
        raise Refused(
            f"By redis-user-pattern {pattern!r} the keys of these users can't be told apart: {told}.",
            "Log both out, or leave Redis to the keys' own end: --only database --only api",
        )


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in files.read(path, files.LARGEST_LIST, pipes=True).decode().splitlines()]
    except OSError as cause:
        raise ConfigurationError(f"{path} can't be read: {cause.strerror}.", "Give ids or e-mails, one a line.") from cause
    except UnicodeDecodeError as cause:
        raise ConfigurationError(f"{path} can't be read as lines of text: {cause}.", "Give ids or e-mails, one a line.") from cause
    return [line for line in lines if line and not line.startswith("#")]
