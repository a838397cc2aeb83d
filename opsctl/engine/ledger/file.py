"""The ledger's file: checked, opened or created, migrated to the present schema, and watched while it is in use."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from opsctl import files
from opsctl.engine.ledger.keys import Keyring
from opsctl.engine.ledger.migrations import MIGRATIONS
from opsctl.errors import LedgerFailed, Refused
from opsctl.retry import Policy, TryAgain, retry

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
OPENING = Policy(tries=100_000, deadline=30.0, first=0.05, longest=0.05, jitter=0.9)
"""How long a process waits while others create or migrate the file."""
PARTS = ("", "-wal")
ADVICE = {
    sqlite3.SQLITE_FULL: "Free space on its disk, then: opsctl runs list --active",
    sqlite3.SQLITE_READONLY: "Check its owner and mode, and whether the disk is mounted read-only: ls -l {path}",
    sqlite3.SQLITE_CANTOPEN: "Check the folder's owner and mode: ls -la {folder}; to use another folder, set XDG_STATE_HOME",
    sqlite3.SQLITE_PERM: "Check its owner and mode: ls -l {path}",
    sqlite3.SQLITE_BUSY: "Another opsctl process is writing; try again: opsctl runs list --active",
    sqlite3.SQLITE_CORRUPT: "The file is damaged. Keep a copy of it and of {path}-wal, then restore a backup, or move the file away.",
    sqlite3.SQLITE_NOTADB: "The file is damaged. Keep a copy of it and of {path}-wal, then restore a backup, or move the file away.",
    sqlite3.SQLITE_IOERR: "Check the disk: df {folder}; dmesg. Then: opsctl runs list --active",
}
SYSTEM_ADVICE = {
    errno.ENOSPC: ADVICE[sqlite3.SQLITE_FULL],
    errno.EDQUOT: ADVICE[sqlite3.SQLITE_FULL],
}


def advice_for(cause: Exception, path: Path) -> str:
    """The hint for an error of SQLite or of the system."""
    told = ADVICE.get((getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF)
    if isinstance(cause, OSError):
        told = SYSTEM_ADVICE.get(cause.errno or 0)
    return (told or "Check it: ls -la {folder}; to use another folder, set XDG_STATE_HOME.").format(path=path, folder=path.parent)


def system_message(cause: Exception) -> str:
    """The message of an error of SQLite or of the system."""
    return str(cause.strerror if isinstance(cause, OSError) else cause)


def open_error(cause: Exception, path: Path) -> LedgerFailed:
    """The LedgerFailed error for a ledger that can't be opened."""
    return LedgerFailed(f"The ledger {path} can't be opened: {system_message(cause)}.", advice_for(cause, path))


def open_for_writing(path: Path, keyring: Keyring) -> sqlite3.Connection:
    """Open the ledger for writing, and create it if it is missing. Raises LedgerFailed, or Refused for a file that others could edit."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        require_private(path)
        # SQLite gives its other files the mode of this one.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        if not os.access(path, os.W_OK):
            code = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code))
        return retry(partial(_connect, path, keyring), OPENING)
    except (OSError, sqlite3.Error) as cause:
        raise open_error(cause, path) from cause


def require_private(path: Path) -> None:
    """Raise Refused unless only this user can change the ledger, its write-ahead log and its folder."""
    for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        try:
            files.private(part)
        except IsADirectoryError:
            raise
        except files.Unfit as cause:
            what = f"The ledger {part} was not opened: {cause.strerror}."
            mode = f"chmod 600 {part}; then check that it is intact: opsctl runs verify"
            way = mode if cause.errno == errno.EPERM and "mode" in str(cause.strerror) else f"Check it: ls -la {path.parent}"
            raise Refused(what, way) from cause
    info = path.parent.stat()
    if info.st_mode & 0o002 and not info.st_mode & 0o1000:
        what = f"The ledger's folder {path.parent} is writable by everybody (mode {info.st_mode & 0o7777:04o})."
        raise Refused(what, f"chmod 700 {path.parent}; then check that the ledger is intact: opsctl runs verify")


def _connect(path: Path, keyring: Keyring) -> sqlite3.Connection:
    """A connection in WAL mode. Raises TryAgain if another process is switching to it: SQLite doesn't wait for that."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        _prepare(db, keyring)
    except BaseException as cause:
        db.close()
        if isinstance(cause, sqlite3.OperationalError) and (cause.sqlite_errorcode & 0xFF) in BUSY:
            raise TryAgain(cause) from cause
        raise
    return db


def _prepare(db: sqlite3.Connection, keyring: Keyring) -> None:
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    # Purged data must not stay in the file's free pages.
    db.execute("PRAGMA secure_delete=ON")
    if _version(db) != len(MIGRATIONS):
        db.execute("BEGIN IMMEDIATE")
        try:
            _migrate(db, keyring)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _version(db: sqlite3.Connection) -> int:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found > len(MIGRATIONS):
        what = f"The ledger was written by a newer opsctl: it has schema version {found}; this opsctl knows up to {len(MIGRATIONS)}."
        raise LedgerFailed(what, "Use the newer opsctl, or another ledger (XDG_STATE_HOME). To see this version: opsctl --version")
    return found


def _migrate(db: sqlite3.Connection, keyring: Keyring) -> None:
    """Migrate the schema to the present version. Reads the version again, since another process may have migrated it meanwhile."""
    for migration in MIGRATIONS[_version(db) :]:
        migration(db, keyring)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def open_copy(path: Path, keyring: Keyring) -> sqlite3.Connection:
    """Open a copy of the ledger in memory, for a file or disk that can't be written. Raises LedgerFailed if it can't be read."""
    folder = Path(tempfile.mkdtemp(prefix="opsctl-"))
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        for part in PARTS:
            source = path.with_name(path.name + part)
            if not part or source.exists():
                with files.opened(source, links=False) as held, (folder / source.name).open("wb") as copy:
                    shutil.copyfileobj(held, copy)
        copied = sqlite3.connect(folder / path.name, isolation_level=None)
        try:
            copied.backup(memory)
        finally:
            copied.close()
        if memory.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("database disk image is malformed")
        _migrate(memory, keyring)
        return memory
    except (OSError, sqlite3.Error) as cause:
        memory.close()
        raise open_error(cause, path) from cause
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_empty(keyring: Keyring) -> sqlite3.Connection:
    """An empty ledger in memory."""
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _migrate(memory, keyring)
    return memory


class Identity:
    """Remembers which file was opened, to notice that it is deleted or replaced while it is in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A step looks many times: the names are put together once.
        self._names = [f"{path}{part}" for part in PARTS]
        self._seen = self._look()

    def _look(self) -> list[tuple[int, int] | None]:
        return [self._one(name) for name in self._names]

    @staticmethod
    def _one(name: str) -> tuple[int, int] | None:
        try:
            info = os.lstat(name)
        except OSError:
            return None
        return info.st_dev, info.st_ino

    def require_unchanged(self) -> None:
        """Raise LedgerFailed if the file or its write-ahead log is no longer the one that was opened."""
        if self._look() != self._seen:
            raise LedgerFailed(
                f"The ledger {self._path} was deleted or replaced while opsctl was using it; further changes can't be recorded.",
                f"Find out who did it, and restore a copy: ls -la {self._path.parent}",
            )
