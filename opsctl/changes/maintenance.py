"""The change that announces maintenance to users."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from opsctl.changes import raw
from opsctl.contract import Change, Drifted, Evidence, Finding, OutcomeKnownBy, Pending
from opsctl.permissions import Permissions, needs
from opsctl.shell import File

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems


class AnnounceMaintenance(Change, frozen=True, kw_only=True):
    """Users were notified of a maintenance of `duration` (`2 hours`) that begins `at`, or now. The API lists no announcements."""

    permissions: ClassVar[Permissions] = needs(apply="api:announce")
    outcome_known_by: ClassVar[OutcomeKnownBy] = "nothing"
    target_template: ClassVar[str] = "maintenance"
    proven_by_history: ClassVar[bool] = True
    irreversible: ClassVar[str] = "users may have read it; announce a correction"

    message: str
    duration: str
    at: datetime | None = None

    @property
    def summary(self) -> str:
        """The text for users, and the window."""
        window = f"from {self.at:%Y-%m-%d %H:%M} UTC" if self.at else "from now"
        return f"announce maintenance {window}, for {self.duration}: {self.message}"

    def check(self, read: Systems) -> Finding:
        """Pending: announcements can't be queried. Raises Refused once the window has begun."""
        if self.at and self.at < read.now():
            return Drifted(f"its start, {self.at:%Y-%m-%d %H:%M} UTC, is over")
        return Pending(1, "announcements", "every user is notified")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One POST."""
        write.api.announce(self.message, self.duration, token, at=self.at)
        return {"why": "the API accepted it"}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 9.1)."""
        header = File("admin-header")
        body = {"message": self.message, "duration": self.duration, **({"at": self.at.isoformat()} if self.at else {})}
        url = f"{environment.api.base}/v1/notifications/maintenance"
        return raw.administrator(environment, header, raw.curl("POST", url, headers=[header], body=json.dumps(body)))
