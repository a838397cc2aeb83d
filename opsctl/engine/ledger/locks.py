"""Locks on targets: leases with a fencing token. They are renewed while a step runs, and are void as soon as their process has ended.

Targets are paths, and locks nest: `sessions` excludes `sessions/42`, and vice versa. Locks need no disk sync: processes see each other's
writes without it, and no process survives a power failure.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from opsctl.engine.ledger import process
from opsctl.engine.ledger.personal import Pseudonyms
from opsctl.engine.ledger.rows import Lease
from opsctl.engine.ledger.store import Holder, LockRow, LockStore
from opsctl.errors import LedgerFailed, LockHeld, Retry

LEASE_SECONDS = 600.0
"""Seconds after which a running holder that doesn't renew its lock counts as hung. The lock of an ended process is void at once."""
UNSEEN_LEASE_SECONDS = 60.0
"""Seconds after which a holder in another container or on another host, which can't be seen from here, counts as ended."""
RENEW_INTERVAL = 10.0
RETRY_INTERVAL = 1.0
"""Seconds until a failed renewal is retried."""
IDLE_INTERVAL = 0.5
"""Seconds between two checks whether any lock is held."""


def paths(target: str) -> set[str]:
    """A target and its parents: `a/b/c`, `a/b` and `a`."""
    pieces = target.split("/")
    return {"/".join(pieces[:n]) for n in range(1, len(pieces) + 1)}


class Locks:
    """The locks of one ledger, for one process."""

    def __init__(self, store: LockStore, pseudonyms: Pseudonyms, stamp: Callable[[], str]) -> None:
        self._store, self._pseudonyms, self._stamp = store, pseudonyms, stamp
        self._mutex = threading.Lock()
        self._held: dict[int, Lease] = {}
        self._renewing = False

    def acquire(self, target: str, run: str, operator: str, doing: str, beside: Collection[str] = ()) -> Lease:
        """Lock a target and those of `beside` together. Raises LockHeld, which says who holds a lock, since when, and for which command."""
        hide, fence = self._pseudonyms.pseudonymize, secrets.randbits(62)
        with self._store.transaction(durable=False):
            locks = self._reap_stale()
            wanted = {hide(each) for each in (target, *beside)}
            within = set().union(*map(paths, wanted))
            for lock in locks:
                if lock.target in within or not wanted.isdisjoint(paths(lock.target)):
                    raise self._held_by(lock)
            row = (run, fence, hide(operator), hide(doing), self._stamp(), _holder())
            self._store.add_locks([LockRow(each, *row) for each in sorted(wanted)])
        lease = Lease(target, run, fence)
        with self._mutex:
            if not self._renewing:
                threading.Thread(target=self._renew, name="lease-renewer", daemon=True).start()
                self._renewing = True
            self._held[fence] = lease
        return lease

    def _held_by(self, lock: LockRow) -> LockHeld:
        when = lock.since[:19].replace("T", " ")
        what = f"{lock.target} is locked by {lock.operator} since {when} UTC: {lock.doing} (run {lock.run})."
        return LockHeld(self._pseudonyms.reveal(what), f"To see that run: opsctl runs show {lock.run}")

    def _reap_stale(self) -> list[LockRow]:
        """Remove the locks whose holder has ended; return the others."""
        locks = self._store.locks()
        alive = [lock for lock in locks if _is_alive(lock.holder)]
        if stale := {lock.fence for lock in locks} - {lock.fence for lock in alive}:
            self._store.remove_locks(stale)
        return alive

    def require_held(self, lease: Lease) -> None:
        """Raise LockHeld if the lease was lost. Call it inside the transaction that relies on the lease."""
        if not self._store.holds_lock(self._pseudonyms.lookup_key(lease.target), lease.fence):
            raise LockHeld(
                f"The lock on {lease.target} was lost to another run. This run stops before its next change.",
                Retry(run=lease.run),
            )

    def release(self, lease: Lease) -> None:
        """Release a lock. A lost lock is no error; a lock that can't be removed from the ledger ends with this process."""
        with self._mutex:
            self._held.pop(lease.fence, None)
        with suppress(LedgerFailed), self._store.transaction(durable=False):
            self._store.remove_locks([lease.fence])

    @contextmanager
    def hold(self, target: str, run: str, operator: str, doing: str) -> Iterator[Lease]:
        """A context manager that holds a lock."""
        lease = self.acquire(target, run, operator, doing)
        try:
            yield lease
        finally:
            self.release(lease)

    def active_runs(self) -> set[str]:
        """The ids of the runs that a running process drives."""
        return {lock.run for lock in self._store.locks() if _is_alive(lock.holder)}

    def _renew(self) -> None:
        """Renew the held locks until none is left. A thread that went on would keep the ledger's file open.

        The thread ends shortly after the last lock is released, so that a run of many short steps doesn't start one for each step.
        """
        left = RENEW_INTERVAL
        while self._still_renewing():
            pause = min(left, IDLE_INTERVAL)
            time.sleep(pause)
            left -= pause
            if left <= 0:
                try:
                    self._renew_once()
                    left = RENEW_INTERVAL
                except LedgerFailed:
                    # The next write of the step reports the error; the lock must outlast it.
                    left = RETRY_INTERVAL

    def _still_renewing(self) -> bool:
        with self._mutex:
            self._renewing = bool(self._held)
            return self._renewing

    def _renew_once(self) -> None:
        if held := list(self._held.values()):
            with self._store.transaction(durable=False):
                self._store.renew_locks([lease.fence for lease in held], *_expiries())


def _expiries() -> tuple[float, float]:
    """When a lock expires: on the boot clock that all processes share, and on the wall clock, for other hosts."""
    return process.uptime() + LEASE_SECONDS, time.time() + UNSEEN_LEASE_SECONDS


def _holder() -> Holder:
    pid = process.number()
    return Holder(process.host(), process.boot(), process.namespace(), pid, process.started(pid), *_expiries())


def _is_alive(holder: Holder) -> bool:
    """Whether a lock's holder is still running, as far as can be seen from here."""
    if holder.boot != process.boot():
        # This machine has rebooted, which ended the holder; the processes of another machine can't be seen.
        return holder.host != process.host() and holder.until > time.time()
    if holder.namespace != process.namespace():
        return holder.expires - LEASE_SECONDS + UNSEEN_LEASE_SECONDS > process.uptime()
    return holder.expires > process.uptime() and process.alive(holder.pid, holder.started)
