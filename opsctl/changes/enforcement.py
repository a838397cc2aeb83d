"""The change that deactivates users whose mail bounces too often, and its undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.changes import raw
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, Pending
from opsctl.permissions import Permissions, needs
from opsctl.statements import bounces as statements

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

SHOWN = 3


class SetUsersActive(Change, frozen=True, kw_only=True):
    """Up to a hundred users are `active` or not; each user's former state is kept.

    The reason is `threshold` bounces within `window`; `spared` more users have them and are exempt. Without users the change does
    nothing. Only users in the opposite state are changed, and restored by undo.
    """

    under_way: ClassVar[float] = 0
    timeout: ClassVar[float] = 60
    permissions: ClassVar[Permissions] = needs(check="postgres:mail.active", apply="postgres:mail.deactivate")

    active: bool
    users: tuple[tuple[str, bool], ...]
    threshold: int
    window: str
    spared: int = 0

    @property
    def target(self) -> str:
        """`user/ID`, or `users/FIRST..LAST` for several."""
        ids = [id for id, _ in self.users]
        if not ids:
            return "users"
        return f"user/{ids[0]}" if len(ids) == 1 else f"users/{ids[0]}..{ids[-1]}"

    @property
    def extra_locks(self) -> frozenset[str]:
        """Each user."""
        return frozenset(f"user/{id}" for id, _ in self.users)

    @property
    def summary(self) -> str:
        """How many users, and why."""
        why = f"{self.threshold:,} {'bounce' if self.threshold == 1 else 'bounces'} or more within {self.window}"
        if not self.users:
            return f"deactivate users with {why}"
        whose = f"user {self.users[0][0]}" if len(self.users) == 1 else f"{len(self.users)} users"
        still = whose if len(self.users) == 1 else f"{whose} (those still inactive)"
        return f"reactivate {still}, deactivated for {why}" if self.active else f"deactivate {whose} with {why}"

    @property
    def changed(self) -> list[str]:
        """Ids of the users who were in the opposite state."""
        return [id for id, was in self.users if was is not self.active]

    def difference(self) -> tuple[Any, Any]:
        """The state of one user; for several users, None."""
        if len(self.users) != 1:
            return None, None
        return _word(self.users[0][1]), _word(self.active)

    def check(self, read: Systems) -> Finding:
        """Reads the users. A user whom somebody else deactivated meanwhile is drift: undo must not reactivate them."""
        exempt = f"; {self.spared:,} more users with as many are exempt" if self.spared else ""
        if not self.users:
            return Done(f"no user has {self.threshold:,} bounces or more within {self.window}{exempt}")
        now = read.bounce_store.active([id for id, _ in self.users])
        todo = [id for id in self.changed if now.get(id) is not None and now[id] is not self.active]
        if not todo:
            subject = "is" if len(self.users) == 1 else f"all {len(self.users)} are"
            return Done(f"{subject} {_word(self.active)}{exempt}" if len(now) == len(self.users) else f"all left are {_word(self.active)}")
        other = [id for id in self.changed if id not in todo]
        if other and not self.active:
            return Drifted(f"{_first_ids(other)}: deactivated or deleted by somebody else since the plan")
        left = f"; {len(other)} skipped, because they are active again or deleted: {_first_ids(other)}" if other else ""
        return Pending(len(todo), "users", f"{_first_ids(todo)}{left}{exempt}")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One UPDATE of the users who are as reviewed, rolled back if one to deactivate isn't, so that undo restores only ours."""
        done = write.bounce_store.set_active(self.changed, self.active, all_or_none=not self.active)
        return {"reactivated" if self.active else "deactivated": done}

    def inverse(self) -> SetUsersActive:
        """Restores the users that this change updates."""
        back = tuple((id, self.active) for id in self.changed)
        return SetUsersActive(active=not self.active, users=back, threshold=self.threshold, window=self.window)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 3.3) for these users only; rolled back if one to deactivate isn't as reviewed."""
        settings = environment.bounces
        ids, wanted = statements.ids_json(settings, self.changed), "true" if self.active else "false"
        update = raw.sql(
            environment, statements.SET_ALL_ACTIVE, statements.names(settings), ids=ids, wanted=wanted, count=str(len(self.changed))
        )
        return [*raw.database(environment), update]


def _word(active: bool) -> str:
    return "active" if active else "inactive"


def _first_ids(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{'user' if len(ids) == 1 else 'users'} {', '.join(ids[:SHOWN])}{more}"
