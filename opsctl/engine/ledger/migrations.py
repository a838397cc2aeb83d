"""The migrations that bring a ledger's file of any version to the present schema, in order. Never change one; only append.

SQLite's `user_version` is the number of migrations done. Each is tested with a file of the version before (tests/engine/ledger/versions).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from opsctl.engine.ledger.chain import START, Chain, run_mark
from opsctl.engine.ledger.keys import Keyring

Migration = Callable[[sqlite3.Connection, Keyring], None]

TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS runs (
        id TEXT PRIMARY KEY, parent TEXT, environment TEXT NOT NULL, command TEXT NOT NULL, opened TEXT NOT NULL, closed TEXT,
        result TEXT, wish TEXT, head TEXT NOT NULL, events INTEGER NOT NULL, row TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS runs_parent ON runs (parent)",
    """CREATE TABLE IF NOT EXISTS steps (
        run TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL, change TEXT NOT NULL, state TEXT NOT NULL,
        why TEXT NOT NULL, at TEXT, count INTEGER NOT NULL, unit TEXT NOT NULL, begun TEXT, ended TEXT, evidence TEXT,
        PRIMARY KEY (run, seq)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS steps_target ON steps (target, state)",
    """CREATE TABLE IF NOT EXISTS events (
        run TEXT NOT NULL, number INTEGER NOT NULL, at TEXT NOT NULL, what TEXT NOT NULL, seq INTEGER, detail TEXT NOT NULL,
        hash TEXT NOT NULL, PRIMARY KEY (run, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS log (
        number INTEGER PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, what TEXT NOT NULL, head TEXT NOT NULL, hash TEXT NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS log_opened ON log (run) WHERE what = 'opened'",
    """CREATE TABLE IF NOT EXISTS locks (
        target TEXT PRIMARY KEY, run TEXT NOT NULL, fence INTEGER NOT NULL, operator TEXT NOT NULL, doing TEXT NOT NULL,
        since TEXT NOT NULL, boot TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL, expires REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS personal (digest TEXT PRIMARY KEY, text TEXT NOT NULL, at TEXT NOT NULL) WITHOUT ROWID",
)
HOLDERS = (
    "ALTER TABLE locks ADD COLUMN host TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE locks ADD COLUMN namespace TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE locks ADD COLUMN until REAL NOT NULL DEFAULT 0",
)

UNENDED = "ifnull(wish, '') <> 'cancel' AND ifnull(result, '') NOT IN ('changed', 'unchanged', 'refused')"
"""The condition for a run that wasn't cancelled and can be resumed."""
UNDECIDED = "ifnull(result, '') NOT IN ('changed', 'unchanged')"
NUMBERED = (
    "ALTER TABLE runs ADD COLUMN number INTEGER",
    "ALTER TABLE runs ADD COLUMN config_digest TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE runs ADD COLUMN mark TEXT NOT NULL DEFAULT ''",
    "UPDATE runs SET number = (SELECT min(number) FROM log WHERE run = runs.id AND what = 'opened')",
    "DROP INDEX runs_parent",
    "DROP INDEX steps_target",
    "DROP INDEX IF EXISTS log_opened",
    "CREATE INDEX runs_parent ON runs (parent, number)",
    "CREATE INDEX runs_command ON runs (environment, command, number)",
    f"CREATE INDEX runs_undecided ON runs (environment, command, number) WHERE {UNDECIDED}",
    f"CREATE INDEX runs_unended ON runs (number) WHERE parent IS NULL AND {UNENDED}",
    "CREATE INDEX runs_open ON runs (id) WHERE closed IS NULL",
    "CREATE INDEX steps_kind ON steps (kind, target)",
    "CREATE INDEX log_run ON log (run)",
)
LEGACY = "key:"
"""The prefix of the names of keys in the former table `meta`."""


def m001_tables(db: sqlite3.Connection, keyring: Keyring) -> None:
    """Create the first tables. Files without a version have them already."""
    _execute(db, TABLES)


def m002_lock_holders(db: sqlite3.Connection, keyring: Keyring) -> None:
    """Add the holder's container and host to locks."""
    _execute(db, HOLDERS)


def m003_keyed_chain(db: sqlite3.Connection, keyring: Keyring) -> None:
    """Move the keys to their own file, key the chain from here on, and number the runs."""
    _execute(db, NUMBERED)
    for run, row in db.execute("SELECT id, row FROM runs").fetchall():
        db.execute("UPDATE runs SET config_digest = ? WHERE id = ?", (_config_digest(row), run))
    _move_keys(db, keyring)
    _seal(db, Chain(keyring))


MIGRATIONS: tuple[Migration, ...] = (m001_tables, m002_lock_holders, m003_keyed_chain)


def _execute(db: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        db.execute(statement)


class _ConfigDigest(msgspec.Struct):
    config_digest: str


def _config_digest(row: str) -> str:
    """The digest of a run's configuration; empty if its row is damaged."""
    try:
        return msgspec.json.decode(row, type=_ConfigDigest).config_digest
    except (msgspec.MsgspecError, RecursionError):
        return ""


def _move_keys(db: sqlite3.Connection, keyring: Keyring) -> None:
    """Adopt the keys of fingerprints and pseudonyms, so that stored ones stay comparable."""
    held = {str(name).removeprefix(LEGACY): bytes(key) for name, key in db.execute("SELECT name, value FROM meta WHERE name LIKE 'key:%'")}
    adopted = {name.replace("environment:", "fingerprint "): key for name, key in held.items() if ":" in name or name == "personal"}
    if adopted:
        keyring.make(adopted)
    db.execute("DROP TABLE meta")


def _seal(db: sqlite3.Connection, chain: Chain) -> None:
    """Sign the present content with the key. Edits made before can't be detected by it."""
    last = db.execute("SELECT number, hash FROM log ORDER BY number DESC LIMIT 1").fetchone()
    if last:
        entry = [last[0] + 1, datetime.now(UTC).isoformat(), "", "keyed", START]
        values = (*entry, chain.link(last[1], entry))
        db.execute("INSERT INTO log (number, at, run, what, head, hash) VALUES (?, ?, ?, ?, ?, ?)", values)
    for run, *state in db.execute("SELECT id, head, events, closed, result, wish FROM runs").fetchall():
        db.execute("UPDATE runs SET mark = ? WHERE id = ?", (run_mark(chain, run, state), run))
