"""The ledger's tables in SQLite, as the steps by which a file of any age comes to them."""

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
MIGRATIONS = (TABLES, HOLDERS)
"""Each brings the file from the version of its place to the next; SQLite's `user_version` says which were made. Only ever added to."""

STEP = ("run", "seq", "kind", "target", "change", "state", "why", "at", "count", "unit", "begun", "ended", "evidence")
"""The columns of a step that its newest event vouches for; one that a later release adds has to vouch for itself."""

UNENDED = "(ifnull(wish, '') <> 'cancel' AND ifnull(result, '') NOT IN ('changed', 'unchanged', 'refused'))"
"""Of a run that wasn't given up and may go on."""

NEEDED = """
WITH open AS (
    SELECT id FROM runs AS r WHERE EXISTS (
        SELECT 1 FROM runs AS o WHERE (o.id = r.id OR o.id = r.parent) AND ifnull(o.wish, '') <> 'cancel'
        AND ifnull(o.result, '') NOT IN ('changed', 'unchanged', 'refused')
    )
)
SELECT row FROM runs WHERE id IN open UNION ALL SELECT change FROM steps WHERE run IN open
UNION ALL SELECT detail FROM events WHERE run IN open
"""
"""The texts of runs that may go on, and of the steps that those have made."""
