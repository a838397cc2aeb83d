"""`opsctl maintenance`: telling users of maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import mutating, requires
from opsctl.cli.types import DURATION
from opsctl.contract import Change, Planning

LONGEST = timedelta(days=30)
AHEAD = timedelta(days=366)
MOST = 1_000
"""How many characters a message may have."""

maintenance = group("maintenance")


class MomentType(click.ParamType[datetime | str]):
    """A moment in ISO 8601, UTC unless it says otherwise: `2026-11-22T02:00`; or the word `now`."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | str:
        """Raises a usage error for what is not a time, also for a date that doesn't exist."""
        if isinstance(value, datetime):
            return value
        if value == "now":
            return "now"
        try:
            moment = datetime.fromisoformat(value)
            # An offset may carry it out of the years that there are.
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError) as cause:
            self.fail(f"{value!r} is not a time such as 2026-11-22T02:00 (UTC): {cause}.", param, ctx)
        return moment.replace(microsecond=0)


def positive(ctx: click.Context, param: click.Parameter, value: timedelta) -> timedelta:
    """Raise a usage error for a maintenance that doesn't last, or never ends."""
    if not timedelta(0) < value <= LONGEST:
        raise click.BadParameter(f"a maintenance lasts longer than nothing and {LONGEST.days} days at most.")
    return value


def readable(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Raise a usage error for a message that nobody can read."""
    if not value.strip() or len(value) > MOST or not value.replace("\n", "").isprintable():
        raise click.BadParameter(f"a message has between 1 and {MOST:,} printable characters.")
    return value


@maintenance.command()
@requires(changes="announce-maintenance")
@click.option("--message", required=True, callback=readable, help="What users read.")
@click.option("--duration", required=True, type=DURATION, callback=positive, help="How long it will take.")
@click.option("--at", type=MomentType(), default="now", show_default=True, metavar="T", help="When it begins: 2026-11-22T02:00 (UTC).")
@mutating
def announce(planning: Planning, message: str, duration: timedelta, at: datetime | str) -> Iterator[Change]:
    """Announce a maintenance to users through the API.

    Examples:
        opsctl maintenance announce --message 'Database upgrade' --duration 30m --at 2026-12-24T02:00
    """
    from opsctl.changes.maintenance import AnnounceMaintenance
    from opsctl.changes.notices import Ask

    begins = at if isinstance(at, datetime) else None
    if begins and not planning.now <= begins <= planning.now + AHEAD:
        word = "in the past" if begins < planning.now else "more than a year ahead"
        raise click.UsageError(f"--at {begins:%Y-%m-%dT%H:%M} UTC is {word}; it is {planning.now:%Y-%m-%dT%H:%M} UTC now.")
    lasts = in_words(duration)
    if planning.systems.config.api:
        yield AnnounceMaintenance(message=message.strip(), duration=lasts, at=begins)
    else:
        window = f"from {begins:%Y-%m-%d %H:%M} UTC" if begins else "from now"
        yield Ask(question=f"Tell the users of a maintenance {window}, for {lasts}: {message.strip()}")


def in_words(duration: timedelta) -> str:
    """`2h` -> `2 hours`, as users read it."""
    seconds = int(duration.total_seconds())
    word, size = next((w, s) for w, s in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)) if seconds % s == 0)
    return f"{seconds // size} {word}{'' if seconds == size else 's'}"
