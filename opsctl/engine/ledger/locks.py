"""Locks on targets: leases with a fencing token, renewed while a step lasts, void the moment their process is gone.

Targets are paths, and locks nest: `sessions` excludes `sessions/42`, and the other way round. They need no sync of the disk: processes
see each other's writes without it, and no holder outlives the power.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opsctl.engine.ledger import process
from opsctl.engine.ledger.rows import Lease
from opsctl.errors import LedgerFailed, LockHeld

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator

    from opsctl.engine.ledger.sqlite import Ledger

LEASE = 600.0
"""Seconds after which a living holder that doesn't renew is taken for hung; a dead one's lock is void at once."""
RENEW = 10.0
SOON = 1.0
"""Seconds until a renewal that the ledger refused is tried again."""


def paths(target: str) -> set[str]:
    """A target and all that it lies in: `a/b/c`, `a/b` and `a`."""
    pieces = target.split("/")
    return {"/".join(pieces[:n]) for n in range(1, len(pieces) + 1)}


class Locks:
    """The locks of one ledger, as one process takes them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[int, Lease] = {}
        self._renewer: threading.Thread | None = None
        self._idle = threading.Event()

    def take(self, target: str, run: str, operator: str, doing: str, beside: Collection[str] = ()) -> Lease:
        """Take the lock of a target and of those beside it at once, or raise LockHeld that says who has one, since when, and doing what."""
        with self._ledger.passing() as db:
            self._bury(db)
            wanted = {self._ledger.aside(each) for each in (target, *beside)}
            within = set().union(*map(paths, wanted))
            for held, holder, by, what, since in db.execute("SELECT target, run, operator, doing, since FROM locks"):
                if held in within or not wanted.isdisjoint(paths(held)):
                    when = since[:19].replace("T", " ")
                    told = f"{held} is held by {by} since {when} UTC: {what} (run {holder}). Nothing was changed here."
                    raise LockHeld(self._ledger.reveal(told), f"See it: opsctl runs show {holder}")
            fence = 1 + int((db.execute("SELECT value FROM meta WHERE name = 'fence'").fetchone() or (0,))[0])
            db.execute("INSERT OR REPLACE INTO meta VALUES ('fence', ?)", (fence,))
            pid = os.getpid()
            owner = (process.boot(), pid, process.started(pid), process.uptime() + LEASE)
            holding = (run, fence, self._ledger.aside(operator), self._ledger.aside(doing), self._ledger.now().isoformat(), *owner)
            db.executemany("INSERT INTO locks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [(each, *holding) for each in sorted(wanted)])
        lease = Lease(target, run, fence)
        self._held[fence] = lease
        self._renew_from_now_on()
        return lease

    def _bury(self, db: sqlite3.Connection) -> None:
        rows = db.execute("SELECT DISTINCT fence, boot, pid, started, expires FROM locks").fetchall()
        for fence, boot, pid, began, expires in rows:
            if boot != process.boot() or expires < process.uptime() or not process.alive(pid, began):
                db.execute("DELETE FROM locks WHERE fence = ?", (fence,))

    def fence(self, lease: Lease) -> None:
        """Raise LockHeld if the lease was lost; inside the transaction that relies on it."""
        if not self._ledger.query("SELECT 1 FROM locks WHERE target = ? AND fence = ?", self._ledger.hidden(lease.target), lease.fence):
            raise LockHeld(
                f"The lock on {lease.target} was lost to another run; this one stops before its next effect.",
                f"opsctl runs resume {lease.run}",
            )

    def release(self, lease: Lease) -> None:
        """Give a lock back; one that was lost already is no error."""
        self._held.pop(lease.fence, None)
        with self._ledger.passing() as db:
            db.execute("DELETE FROM locks WHERE fence = ?", (lease.fence,))

    @contextmanager
    def holding(self, target: str, run: str, operator: str, doing: str) -> Iterator[Lease]:
        """Hold a lock for the length of a block."""
        lease = self.take(target, run, operator, doing)
        try:
            yield lease
        finally:
            self.release(lease)

    def driven(self) -> set[str]:
        """The runs that some living process drives."""
        with self._ledger.passing() as db:
            self._bury(db)
            return {str(run) for (run,) in db.execute("SELECT run FROM locks")}

    def _renew_from_now_on(self) -> None:
        if self._renewer is None:
            self._renewer = threading.Thread(target=self._renew, name="lease-renewer", daemon=True)
            self._renewer.start()

    def _renew(self) -> None:
        pause = RENEW
        while not self._idle.wait(pause):
            try:
                self._renew_once()
                pause = RENEW
            except LedgerFailed:
                # The step's own next write tells of it; the lock must outlast the trouble.
                pause = SOON

    def _renew_once(self) -> None:
        if held := list(self._held.values()):
            with self._ledger.passing() as db:
                until = process.uptime() + LEASE
                db.executemany("UPDATE locks SET expires = ? WHERE fence = ?", [(until, lease.fence) for lease in held])
