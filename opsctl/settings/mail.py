"""Mail: what becomes of an address that bounces."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from opsctl.settings.values import Duration, Section, Share


class BounceSettings(Section, frozen=True, kw_only=True):
    """Where SES tells of bounces, and the columns that keep them. `queue` is the name of the SQS queue.

    `notifications_table` holds each notification that was counted. Whoever has `threshold` bounces within `window` is deactivated, but for
    the addresses and domains in `exempt`; not when more than `domain_share` or `hour_share` of those bounces are of one domain or one
    hour. `marked` are the statuses that mean that an address gets no mail.
    """

    region: str | None = None
    queue: str | None = None
    users_table: str = "users"
    email_column: str = "email"
    status_column: str = "email_status"
    count_column: str = "bounce_count"
    active_column: str = "is_active"
    id_column: str = "id"
    notifications_table: str = "ses_notifications"
    marked: tuple[str, ...] = ("bounced", "complained")
    threshold: Annotated[int, Meta(ge=1)] = 5
    window: Duration = Duration(days=30)
    domain_share: Share = 0.5
    hour_share: Share = 0.5
    exempt: list[str] = []
