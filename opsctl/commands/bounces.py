"""`opsctl bounces`: mail that came back."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import mutating, read_only, requires
from opsctl.cli.types import DURATION
from opsctl.concurrency import gather, unwrap
from opsctl.config import state_folder
from opsctl.contract import Change, Planning
from opsctl.errors import ConfigurationError, ExternalError, NotFound, OpsctlError, Refused
from opsctl.render.shapes import Page, Series
from opsctl.settings import Duration

if TYPE_CHECKING:
    from opsctl.adapters.aws.ses import SendingStatistics, SesAccount, Suppressed
    from opsctl.adapters.sql.bounce_queries import BounceRule
    from opsctl.settings import BounceSettings
    from opsctl.systems import Systems

Rows = list[dict[str, Any]]

IDENTIFIER = re.compile(r"[\x21-\x7e]{1,256}")

BATCH = 100
BUCKETS = [(timedelta(hours=6), timedelta(minutes=15)), (timedelta(days=2), timedelta(hours=1))]
"""Up to which span the plot has a bar for how long; beyond, a bar a day."""
REPUTATION = {"bounces": "Reputation.BounceRate", "complaints": "Reputation.ComplaintRate"}
SES_CHECKS = timedelta(hours=24)
"""How far back the newest value of the account's reputation is looked for."""

bounces = group("bounces")


@bounces.command()
@requires("cloudwatch:GetMetricData postgres:mail.stats ses:GetAccount ses:GetSendStatistics")
@click.option("--since", type=DURATION, default="14d", show_default=True, help="How far back; SES itself keeps two weeks.")
@read_only
def stats(systems: Systems, since: timedelta) -> Page:
    """Show how much mail SES sent and how much bounced, the account's reputation, and the database's own counts.

    Examples:
        opsctl bounces stats
        opsctl bounces stats --since 7d -o json
    """
    _longer_than_zero(since, "--since")
    settings = systems.environment.bounces
    begin = systems.now() - since
    found: dict[str, Any] = gather(
        {
            "users": lambda: systems.bounce_queries.by_status(),
            "counted": lambda: systems.bounce_queries.by_kind(begin),
            "sent": partial(systems.ses.sent, settings.region),
            "account": partial(systems.ses.account, settings.region),
            "rates": partial(_reputation, systems, settings),
        }
    )
    sent = [point for point in unwrap(found["sent"]) if point.at >= begin]
    return Page(
        [
            ("Account", _account(unwrap(found["account"]))),
            ("Reputation", _rates(_rows(found["rates"]), sent)),
            ("Users", _rows(found["users"])),
            ("Counted", _rows(found["counted"])),
            ("Sent", _series(sent, since)),
        ]
    )


def _rows(told: Rows | OpsctlError) -> Rows:
    """What SES says is shown also while the others can't be asked."""
    return [{"state": "could not be queried", "why": told.what}] if isinstance(told, ExternalError) else unwrap(told)


def _account(account: SesAccount) -> dict[str, Any]:
    return {
        "may send": account.sending,
        "enforcement": account.enforcement,
        "out of the SES sandbox": account.production,
        "sent in 24h": f"{account.sent_in_24h:,.0f} of {account.daily_quota:,.0f}",
        "per second": account.per_second,
    }


def _reputation(systems: Systems, settings: BounceSettings) -> Rows:
    """The newest value of the account's two rates, as SES computes them over a representative volume of mail."""
    from opsctl.adapters.aws.cloudwatch import Metric

    wanted = [Metric("AWS/SES", metric, {}) for metric in REPUTATION.values()]
    found = systems.cloudwatch.metrics(wanted, systems.now() - SES_CHECKS, period=900, region=settings.region)
    newest = ((name, points[-1] if points else None) for name, points in zip(REPUTATION, found, strict=True))
    return [{"rate": name, "percent": point and _percent(point.value), "at": point and point.at} for name, point in newest]


def _rates(asked: Rows, sent: list[SendingStatistics]) -> Rows:
    """Each rate beside SES's two lines, and what was sent since; without reputation, the latter is held against them."""
    from opsctl.adapters.aws.ses import PAUSE, REVIEW

    told = {row["rate"]: row["percent"] for row in asked if "rate" in row}
    attempts = sum(point.attempts for point in sent)
    rows: Rows = []
    for name in REPUTATION:
        percents = {"ses_percent": told.get(name), "sent_percent": _share(sum(getattr(point, name) for point in sent), attempts)}
        review, pause = _percent(REVIEW[name]), _percent(PAUSE[name])
        held = next((percent for percent in percents.values() if percent is not None), None)
        rows.append({"rate": name, **percents, "review_at": review, "pause_at": pause, "state": _state(held, review, pause)})
    return rows if told else [*rows, *({"rate": "ses_percent", **row} for row in asked)]


def _state(percent: float | None, review: float, pause: float) -> str:
    if percent is None:
        return "nothing was sent"
    return "SES may pause sending" if percent >= pause else "SES may review the account" if percent >= review else "below review"


def _series(sent: list[SendingStatistics], since: timedelta) -> Series:
    """What was sent, a row for each quarter of an hour, hour or day; the plot has SES's two lines."""
    from opsctl.adapters.aws.ses import PAUSE, REVIEW

    step = next((each for longest, each in BUCKETS if since <= longest), timedelta(days=1)).total_seconds()
    rows = []
    for begin, points in groupby(sent, key=lambda point: point.at.timestamp() // step * step):
        some = list(points)
        names = ("attempts", "bounces", "complaints", "rejects")
        counted = {name: sum(getattr(point, name) for point in some) for name in names}
        percent = _share(counted["bounces"], counted["attempts"])
        rows.append({"from": datetime.fromtimestamp(begin, UTC), **counted, "bounce_percent": percent})
    lines = {"SES reviews the account": _percent(REVIEW["bounces"]), "SES may pause sending": _percent(PAUSE["bounces"])}
    return Series(rows, "bounce_percent", by="from", lines=lines)


def _percent(share: float) -> float:
    return round(share * 100, 3)


def _share(some: int, of_all: int) -> float | None:
    return _percent(some / of_all) if of_all else None


@bounces.command("list")
@requires("postgres:mail.list ses:ListSuppressedDestinations")
@click.option("--since", type=DURATION, help="Only addresses that SES listed, or that last bounced, within this time.")
@click.option("--reason", type=click.Choice(["bounce", "complaint"]), help="Only addresses that are listed for this reason.")
@read_only
def list_(systems: Systems, since: timedelta | None, reason: str | None) -> Rows:
    """List the addresses on SES's suppression list, compare them with the database's marks, and show the differences.

    Examples:
        opsctl bounces list --since 7d
        opsctl bounces list --reason bounce
    """
    from opsctl.adapters.sql.bounce_queries import compared

    _longer_than_zero(since, "--since")
    settings = systems.environment.bounces
    suppressed = {compared(each.address): each for each in systems.ses.suppressed(settings.region)}
    held = {row["address"]: row for row in systems.bounce_queries.marked_addresses(list(suppressed))}
    rows = [_beside(address, suppressed.get(address), held.get(address), settings) for address in suppressed | held]
    begin = systems.now() - since if since else None
    wanted = [row for row in rows if _wanted(row, begin, reason)]
    return sorted(wanted, key=lambda row: (row["since"] or datetime.min.replace(tzinfo=UTC), row["address"]), reverse=True)


def _beside(address: str, ses: Suppressed | None, held: dict[str, Any] | None, settings: BounceSettings) -> dict[str, Any]:
    """An address as both know it; `since` is SES's date, or without one when what it is there for, bounce or complaint, last came."""
    marked = held is not None and held["status"] in settings.marked
    only_ses = "no such user" if held is None else "" if marked else "not marked in the database"
    said = only_ses if ses else "not on SES's list"
    kind = held["kind"].upper() if held else "BOUNCE"
    return {
        "address": address,
        "reason": ses.reason if ses else kind,
        "since": ses.at if ses else held and held["at"],
        "on_ses_list": ses is not None,
        "user": held["user"] if held else None,
        "status": held["status"] if held else None,
        "bounces": held["bounces"] if held else None,
        "active": held["active"] if held else None,
        "difference": said,
    }


def _wanted(row: dict[str, Any], begin: datetime | None, reason: str | None) -> bool:
    late = begin is None or (row["since"] is not None and row["since"] >= begin)
    return late and (reason is None or row["reason"] == reason.upper())


@bounces.command()
@requires("postgres:mail.over", changes="set-users-active")
@click.option(
    "--threshold",
    type=click.IntRange(1),
    metavar="N",
    help="Deactivate users with at least this many bounces; by default as configured (5).",
)
@click.option("--window", type=DURATION, help="How far back bounces count; by default as configured (30d).")
@click.option("--accept-outage", is_flag=True, help="Continue even if most of the bounces are of one domain or one hour.")
@mutating
def enforce(planning: Planning, threshold: int | None, window: Duration | None, accept_outage: bool) -> Iterator[Change]:
    """Deactivate users with too many bounces within a time window. Complaints and older bounces don't count.

    Examples:
        opsctl bounces enforce -n
        opsctl bounces enforce --threshold 5 --window 30d
    """
    from opsctl.adapters.sql.bounce_queries import BounceRule
    from opsctl.changes.enforcement import SetUsersActive

    systems = planning.systems

    settings = systems.environment.bounces
    span, most = settings.window if window is None else window, threshold or settings.threshold
    _longer_than_zero(span, "--window")
    rule = BounceRule(most, systems.database.server_time() - span, settings.exempt)
    found = list(systems.bounce_queries.users_over_threshold(rule))
    if not accept_outage and any(row["active"] and not row["exempt"] for row in found):
        _no_outage(systems, settings, rule)
    spared = sum(row["exempt"] for row in found)
    users = [(row["id"], row["active"]) for row in found if not row["exempt"]]
    for first in range(0, max(len(users), 1), BATCH):
        some = tuple(users[first : first + BATCH])
        yield SetUsersActive(active=False, users=some, threshold=most, window=str(span), spared=0 if first else spared)


def _no_outage(systems: Systems, settings: BounceSettings, rule: BounceRule) -> None:
    """Raise Refused where one domain (of several users) or one hour makes up most of the bounces of those to be deactivated."""
    shares = {"domain": settings.domain_share, "hour": settings.hour_share}
    for most in systems.bounce_queries.concentration(rule):
        share = most.bounces / most.of_all
        # One user's bounces are of one domain, whoever's fault they are.
        alone = most.what == "domain" and most.addresses == 1
        if share > shares[most.what] and not alone:
            raise Refused(
                f"{most.bounces:,} of the {most.of_all:,} bounces ({share:.0%}, more than {shares[most.what]:.0%}) are of one {most.what},"
                f" {most.which}: that looks like an outage of the provider, not like the users' doing. Nobody was deactivated.",
                f"Wait until it is over. If it is none: --accept-outage, or another {most.what}-share in [bounces].",
            )


def _longer_than_zero(span: timedelta | None, option: str) -> None:
    if span is not None and span <= timedelta(0):
        raise click.BadParameter("expected a span longer than zero.", param_hint=option)


@bounces.command()
@requires(changes="count-notifications count-queue")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="[FILE|-]")
@click.option("--queue", is_flag=True, help="Read notifications from the configured SQS queue, and delete those that were counted.")
@click.option("--aside", type=click.Path(dir_okay=False, path_type=Path), help="Write notifications that can't be read to this file.")
@mutating
def process(planning: Planning, file: str | None, queue: bool, aside: Path | None) -> Iterator[Change]:
    """Record SES's bounces and complaints from a file, standard input (-) or the queue. Each notification is counted once.

    Examples:
        opsctl bounces process notifications.json -n
        opsctl bounces process --queue
    """
    from opsctl.changes.bounces import STDIN, CountNotifications, CountQueue

    systems = planning.systems
    if queue == (file is not None):
        raise click.UsageError("Give one of these: a file, - for standard input, or --queue.")
    settings = systems.environment.bounces
    if queue:
        if not settings.queue:
            raise ConfigurationError("[bounces] names no queue.", f"Add queue = NAME to it in {systems.environment.path}.")
        yield CountQueue(queue=settings.queue, region=settings.region, aside=_aside(systems, aside, settings.queue))
        return
    pinned = systems.notifications.pin(file or STDIN)
    name = "stdin" if pinned.source == STDIN else Path(pinned.source).stem
    kept = _aside(systems, aside, f"{name}-{pinned.digest[:12]}")
    if kept == pinned.source:
        raise click.UsageError("--aside is the file that is read; name another.")
    yield CountNotifications(source=pinned.source, digest=pinned.digest, size=pinned.size, aside=kept)


@bounces.command()
@requires("postgres:mail.status", changes="mark-address unmark-address")
@click.argument("email")
@click.option("--hard", is_flag=True, help="The address doesn't exist: mark it as bounced.")
@click.option("--soft", is_flag=True, help="The failure is temporary: add one to the user's bounce count.")
@click.option("--notification", required=True, metavar="ID", help="The feedbackId of SES's notification; each id is counted once.")
@mutating
def mark(planning: Planning, email: str, hard: bool, soft: bool, notification: str) -> Iterator[Change]:
    """Record one bounce of one address by hand.

    Examples:
        opsctl bounces mark jane@example.com --hard --notification 0100018f
    """
    from opsctl.changes.bounces import MarkAddress

    systems = planning.systems
    if hard == soft:
        raise click.UsageError("Add either --hard or --soft.")
    if not IDENTIFIER.fullmatch(notification):
        raise click.UsageError("--notification is SES's feedbackId: up to 256 characters, none of them a space.")
    systems.environment.require("bounces")
    try:
        address = systems.notifications.address(email)
    except ValueError as cause:
        raise click.UsageError(f"{email!r} is no e-mail address.") from cause
    if ">" in email:
        raise click.UsageError("Give the bare address, without the name: the ledger keeps the command.")
    holders = systems.bounce_store.holders(address)
    if not holders:
        raise NotFound(f"No user has the address {address.recipient}.", "Check its spelling.")
    before = tuple((each.id, each.status) for each in holders)
    yield MarkAddress(notification=notification, address=unicodedata.normalize("NFC", email.strip()), hard=hard, before=before)


def _aside(systems: Systems, given: Path | None, name: str) -> str:
    """Where to keep what can't be read: in the state folder, unless somebody says otherwise."""
    path = state_folder().resolve() / f"aside-{name}.jsonl" if given is None else given.resolve()
    if given and not path.parent.is_dir():
        raise ConfigurationError(f"There is no folder {path.parent} for --aside.", "Make it, or name another file.")
    systems.notifications.aside_fits(str(path))
    return str(path)
