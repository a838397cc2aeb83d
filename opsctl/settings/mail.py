"""Mail: what becomes of an address that bounces."""

from __future__ import annotations

from opsctl.settings.values import Section


class BounceSettings(Section, frozen=True, kw_only=True):
    """Where SES tells of bounces, and the columns that keep them. `queue` is the name of the SQS queue."""

    region: str | None = None
    queue: str | None = None
    users_table: str = "users"
    email_column: str = "email"
    status_column: str = "email_status"
    count_column: str = "bounce_count"
    active_column: str = "is_active"
