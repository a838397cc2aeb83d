"""Mail: what becomes of an address that bounces."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from opsctl.settings.values import Duration, Section, Share


class BounceSettings(Section, frozen=True, kw_only=True):
    """Bounces: the queue that SES reports them to, and the tables that record them."""

    region: str | None = None
    """The queue's region, if it differs from [aws]."""
    queue: str | None = None
    """The name of the SQS queue."""
    topics: list[str] = []
    """ARNs of the SNS topics to accept, with a valid SNS signature. Default: any."""
    accounts: list[str] = []
    """Other AWS accounts whose notifications count. This environment's account always counts."""
    visibility: Duration = Duration(seconds=60)
    """How long a message that opsctl received stays hidden from other readers, from 1s to 12h."""
    wait: Duration = Duration(seconds=5)
    """How long to wait for a message before the queue counts as empty, at most 20s."""
    notifications_table: str = "ses_notifications"
    """The table of notifications that were counted."""
    users_table: str = "users"
    """The table of users."""
    id_column: str = "id"
    """Its primary key."""
    email_column: str = "email"
    """Its column with the e-mail address."""
    status_column: str = "email_status"
    """Its column with the e-mail status."""
    count_column: str = "bounce_count"
    """Its column with the number of soft bounces."""
    active_column: str = "is_active"
    """Its column that says whether the user is active."""
    marked: tuple[str, ...] = ("bounced", "complained")
    """The e-mail statuses of an address that gets no more mail."""
    threshold: Annotated[int, Meta(ge=1)] = 5
    """A user with this many bounces within the window is deactivated."""
    window: Duration = Duration(days=30)
    """The time within which bounces count."""
    domain_share: Share = 0.5
    """Deactivate nobody when more than this share of the bounces is of one domain: its server may be down."""
    hour_share: Share = 0.5
    """Deactivate nobody when more than this share of the bounces came in one hour."""
    exempt: list[str] = []
    """Addresses and domains that are never deactivated."""

    def __post_init__(self) -> None:
        if not 1 <= self.visibility.total_seconds() <= 43_200:
            raise ValueError("expected a visibility from 1s to 12h")
        if self.wait.total_seconds() > 20:
            raise ValueError("expected a wait of at most 20s")
