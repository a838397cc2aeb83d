"""Mail: what becomes of an address that bounces."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from opsctl.settings.values import Duration, Section, Share


class BounceSettings(Section, frozen=True, kw_only=True):
    """Where SES tells of bounces, and the table and columns that keep them. `queue` is the name of the SQS queue.

    Notifications of other `accounts` than the environment's are not counted; where `topics` (ARNs) are named, those through another SNS
    topic, or without SNS's signature, aren't either. `visibility` is how long a message taken from the queue stays ours, `wait` how long
    an empty queue is asked before it counts as empty. Whoever has `threshold` bounces within `window` is deactivated, but for the
    addresses and domains in `exempt`; not when more than `domain_share` or `hour_share` of those bounces are of one domain or one hour.
    `marked` are the statuses that mean that an address gets no mail.
    """

    region: str | None = None
    queue: str | None = None
    topics: list[str] = []
    accounts: list[str] = []
    visibility: Duration = Duration(seconds=60)
    wait: Duration = Duration(seconds=5)
    notifications_table: str = "ses_notifications"
    users_table: str = "users"
    id_column: str = "id"
    email_column: str = "email"
    status_column: str = "email_status"
    count_column: str = "bounce_count"
    active_column: str = "is_active"
    marked: tuple[str, ...] = ("bounced", "complained")
    threshold: Annotated[int, Meta(ge=1)] = 5
    window: Duration = Duration(days=30)
    domain_share: Share = 0.5
    hour_share: Share = 0.5
    exempt: list[str] = []

    def __post_init__(self) -> None:
        if not 1 <= self.visibility.total_seconds() <= 43_200:
            raise ValueError("expected a visibility from 1s to 12h")
        if self.wait.total_seconds() > 20:
            raise ValueError("expected a wait of at most 20s")
