"""The change that deactivates users whose mail comes back too often, and puts them back."""

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
    """Up to a hundred users, each with whether it was active before, are `active` or not.

    `threshold` bounces within `window` are why; `spared` is how many more have them and are exempt. Without any user it says that there
    is nobody to deactivate. Only who was the other way before is changed, and is put back.
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
        """Says how many, and why."""
        why = f"{self.threshold:,} {'bounce' if self.threshold == 1 else 'bounces'} or more within {self.window}"
        if not self.users:
            return f"deactivate users with {why}"
        whose = f"user {self.users[0][0]}" if len(self.users) == 1 else f"{len(self.users)} users"
        still = whose if len(self.users) == 1 else f"{whose} (those still inactive)"
        return f"reactivate {still}, deactivated for {why}" if self.active else f"deactivate {whose} with {why}"

    @property
    def changed(self) -> list[str]:
        """The ids of those who were the other way before."""
        return [id for id, was in self.users if was is not self.active]

    def difference(self) -> tuple[Any, Any]:
        """One user's state; of several, the count says it."""
        if len(self.users) != 1:
            return None, None
        return _word(self.users[0][1]), _word(self.active)

    def check(self, read: Systems) -> Finding:
        """Read them back. Who was deactivated by somebody else meanwhile must not be put back as ours: then it has moved."""
        exempt = f"; {self.spared:,} more users with as many are exempt" if self.spared else ""
        if not self.users:
            return Done(f"no user has {self.threshold:,} bounces or more within {self.window}{exempt}")
        now = read.bounce_store.active([id for id, _ in self.users])
        todo = [id for id in self.changed if now.get(id) is not None and now[id] is not self.active]
        if not todo:
            said = "is" if len(self.users) == 1 else f"all {len(self.users)} are"
            return Done(f"{said} {_word(self.active)}{exempt}" if len(now) == len(self.users) else f"all left are {_word(self.active)}")
        other = [id for id in self.changed if id not in todo]
        if other and not self.active:
            return Drifted(f"{_some(other)}: deactivated or deleted by somebody else since the plan")
        left = f"; {len(other)} skipped, because they are active again or deleted: {_some(other)}" if other else ""
        return Pending(len(todo), "users", f"{_some(todo)}{left}{exempt}")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One UPDATE of those who are still as reviewed; rolled back where one to deactivate isn't, so that undo takes back ours alone."""
        done = write.bounce_store.set_active(self.changed, self.active, all_or_none=not self.active)
        return {"reactivated" if self.active else "deactivated": done}

    def inverse(self) -> SetUsersActive:
        """Those that it changes, as they were."""
        back = tuple((id, self.active) for id in self.changed)
        return SetUsersActive(active=not self.active, users=back, threshold=self.threshold, window=self.window)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's line (Safawinet 3.3), for these users alone; rolled back where one to deactivate isn't as reviewed."""
        settings = environment.bounces
        ids, wanted = statements.ids_json(settings, self.changed), "true" if self.active else "false"
        update = raw.sql(
            environment, statements.SET_ALL_ACTIVE, statements.names(settings), ids=ids, wanted=wanted, count=str(len(self.changed))
        )
        return [*raw.database(environment), update]


def _word(active: bool) -> str:
    return "active" if active else "inactive"


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{'user' if len(ids) == 1 else 'users'} {', '.join(ids[:SHOWN])}{more}"
