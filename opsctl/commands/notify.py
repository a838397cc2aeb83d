"""`opsctl notify`: tell people. Where no channel is configured, a person is asked to do it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

import click

from opsctl.cli.app import group
from opsctl.cli.command import mutating, requires
from opsctl.contract import Change, Planning

SEVERITIES = ["critical", "error", "warning", "info"]
STATUSES = ["investigating", "identified", "monitoring", "resolved"]

notify = group("notify")


@notify.command()
@requires(changes="end-status post-status")
@click.option("--title", required=True, help="The incident's name on the page.")
@click.option("--status", type=click.Choice(STATUSES), default="investigating", show_default=True, help="The incident's state.")
@click.option("--message", required=True, help="What users read.")
@mutating
def status(
    planning: Planning, title: str, status: Literal["investigating", "identified", "monitoring", "resolved"], message: str
) -> Iterator[Change]:
    """Post an incident to the status page.

    Examples:
        opsctl notify status --title 'Sign-in is slow' --status investigating --message 'We are looking into it.'
    """
    from opsctl.changes.notices import Ask, PostStatus

    channels = planning.systems.config.channels
    if channels.status_page and channels.status_key:
        yield PostStatus(title=title, status=status, text=message)
    else:
        yield Ask(question=f"Post to the status page ({status}): {title}: {message}")


@notify.command()
@requires(changes="post-slack")
@click.option("--message", required=True, help="The text to post.")
@mutating
def slack(planning: Planning, message: str) -> Iterator[Change]:
    """Post a message to the team's Slack channel.

    Examples:
        opsctl notify slack --message 'Failover done, watching the API'
    """
    from opsctl.changes.notices import Ask, PostSlack

    yield PostSlack(text=message) if planning.systems.config.channels.slack else Ask(question=f"Tell the team: {message}")


@notify.command()
@requires(changes="set-page")
@click.option("--message", required=True, help="What the pager says.")
@click.option("--severity", type=click.Choice(SEVERITIES), default="critical", show_default=True, help="How bad it is.")
@mutating
def page(planning: Planning, message: str, severity: Literal["critical", "error", "warning", "info"]) -> Iterator[Change]:
    """Page the person on call.

    Examples:
        opsctl notify page --message 'Lease endpoint answers 500' --severity critical
    """
    from opsctl.changes.notices import Ask, SetPage

    if planning.systems.config.channels.page:
        key = "opsctl-" + hashlib.sha256(message.encode()).hexdigest()[:16]
        yield SetPage(text=message, severity=severity, key=key)
    else:
        yield Ask(question=f"Page whoever is on call: {message}")
