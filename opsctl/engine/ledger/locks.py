"""Locks on targets: leases with a fencing token, renewed while a step lasts, void the moment their process is gone.

Targets are paths, and locks nest: `sessions` excludes `sessions/42`, and the other way round. They need no sync of the disk: processes
see each other's writes without it, and no holder outlives the power.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
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
UNSEEN = 60.0
"""Seconds after which a holder that doesn't renew is taken for dead where its life can't be seen: in another container, on another host."""
RENEW = 10.0
HOLDER = "host, boot, namespace, pid, started, expires, until"
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
                    told = f"{held} is held by {by} since {when} UTC: {what} (run {holder})."
                    raise LockHeld(self._ledger.reveal(told), f"See it: opsctl runs show {holder}")
            fence = 1 + int((db.execute("SELECT value FROM meta WHERE name = 'fence'").fetchone() or (0,))[0])
            db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('fence', ?)", (fence,))
            holding = (run, fence, self._ledger.aside(operator), self._ledger.aside(doing), self._ledger.now().isoformat(), *_holder())
            columns = f"target, run, fence, operator, doing, since, {HOLDER}"
            marks = ", ".join("?" * (len(holding) + 1))
            db.executemany(f"INSERT INTO locks ({columns}) VALUES ({marks})", [(each, *holding) for each in sorted(wanted)])
        lease = Lease(target, run, fence)
        self._held[fence] = lease
        self._renew_from_now_on()
        return lease

    def _bury(self, db: sqlite3.Connection) -> None:
        rows = db.execute(f"SELECT DISTINCT fence, {HOLDER} FROM locks").fetchall()
        db.executemany("DELETE FROM locks WHERE fence = ?", [(fence,) for fence, *holder in rows if not _holds(*holder)])

    def fence(self, lease: Lease) -> None:
        """Raise LockHeld if the lease was lost; inside the transaction that relies on it."""
        if not self._ledger.query("SELECT 1 FROM locks WHERE target = ? AND fence = ?", self._ledger.hidden(lease.target), lease.fence):
            raise LockHeld(
                f"The lock on {lease.target} was lost to another run; this one stops before its next effect.",
                f"opsctl runs resume {lease.run}",
            )

    def release(self, lease: Lease) -> None:
        """Give a lock back; one that was lost already is no error, and one that the ledger can't take back ends with this process."""
        self._held.pop(lease.fence, None)
        with suppress(LedgerFailed), self._ledger.passing() as db:
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
        return {str(run) for run, *holder in self._ledger.query(f"SELECT DISTINCT run, {HOLDER} FROM locks") if _holds(*holder)}

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
                expires, until = _leases()
                db.executemany("UPDATE locks SET expires = ?, until = ? WHERE fence = ?", [(expires, until, lease.fence) for lease in held])


def _leases() -> tuple[float, float]:
    """Until when a lock is held: on the clock that the processes of one boot share, and on the wall's for another host."""
    return process.uptime() + LEASE, time.time() + UNSEEN


def _holder() -> tuple[str, str, str, int, str, float, float]:
    pid = process.number()
    return process.host(), process.boot(), process.namespace(), pid, process.started(pid), *_leases()


def _holds(host: str, boot: str, namespace: str, pid: int, began: str, expires: float, until: float) -> bool:
    """Whether a lock's holder still lives, as far as can be seen from here."""
    if boot != process.boot():
        # This machine has been started anew since, and took the holder with it; another machine's can't be seen.
        return host != process.host() and until > time.time()
    if namespace != process.namespace():
        return expires - LEASE + UNSEEN > process.uptime()
    return expires > process.uptime() and process.alive(pid, began)
