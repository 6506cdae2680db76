-- Everything that lasts, on SQLite. Instants are seconds since the epoch (REAL: a float comes back as it was).
-- STRICT: a column refuses a value of another type, whatever wrote it. Lists are JSON arrays.

CREATE TABLE thebes_accounts (
    id             TEXT    NOT NULL PRIMARY KEY,
    email          TEXT    NOT NULL,
    email_key      TEXT    NOT NULL UNIQUE,
    password_hash  TEXT,
    password_epoch INTEGER NOT NULL CHECK (password_epoch >= 0),
    epoch          INTEGER NOT NULL CHECK (epoch >= 0),
    is_enabled     INTEGER NOT NULL CHECK (is_enabled IN (0, 1)),
    is_compromised INTEGER NOT NULL CHECK (is_compromised IN (0, 1)),
    verified_at    REAL,
    roles          TEXT    NOT NULL,
    scopes         TEXT    NOT NULL,
    created_at     REAL    NOT NULL
) STRICT;

-- Single-use tokens that were mailed: a used or voided one has no row.
CREATE TABLE thebes_tokens (
    digest     BLOB NOT NULL PRIMARY KEY,
    purpose    TEXT NOT NULL CHECK (purpose IN ('verify', 'reset', 'invite')),
    account_id TEXT NOT NULL REFERENCES thebes_accounts (id) ON DELETE CASCADE,
    email_key  TEXT NOT NULL,
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX thebes_tokens_of_account ON thebes_tokens (account_id, purpose);
CREATE INDEX thebes_tokens_by_end ON thebes_tokens (expires_at);

-- A refresh updates one row and no index: none of the indexed columns changes by it.
CREATE TABLE thebes_sessions (
    id            TEXT    NOT NULL PRIMARY KEY,
    account_id    TEXT    NOT NULL REFERENCES thebes_accounts (id) ON DELETE CASCADE,
    mode          TEXT    NOT NULL CHECK (mode IN ('cookie', 'bearer')),
    generation    INTEGER NOT NULL CHECK (generation >= 0),
    digest        BLOB    NOT NULL,
    rotated_at    REAL    NOT NULL,
    presented_at  REAL,
    successor     TEXT,
    network       BLOB    NOT NULL,
    agent         BLOB    NOT NULL,
    strange_uses  INTEGER NOT NULL,
    grace         REAL    NOT NULL,
    created_at    REAL    NOT NULL,
    used_at       REAL    NOT NULL,
    expires_at    REAL    NOT NULL,
    idle_seconds  REAL    NOT NULL,
    is_remembered INTEGER NOT NULL CHECK (is_remembered IN (0, 1)),
    auth_time     REAL    NOT NULL,
    amr           TEXT    NOT NULL,
    epoch         INTEGER NOT NULL,
    device        TEXT    NOT NULL,
    address       TEXT    NOT NULL,
    revoked_at    REAL,
    revoked_for   TEXT
) STRICT;

CREATE INDEX thebes_sessions_of_account ON thebes_sessions (account_id, created_at);

-- Belongs to no account by reference: its rows outlive the account. AUTOINCREMENT: the last number that was
-- ever given stays known (sqlite_sequence) when its row is purged.
CREATE TABLE thebes_revocations (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT    NOT NULL CHECK (kind IN ('session', 'account')),
    subject  TEXT    NOT NULL,
    epoch    INTEGER NOT NULL,
    until    REAL    NOT NULL
) STRICT;

CREATE TABLE thebes_failures (
    key           BLOB    NOT NULL PRIMARY KEY,
    count         INTEGER NOT NULL CHECK (count > 0),
    last_at       REAL    NOT NULL,
    blocked_until REAL    NOT NULL
) STRICT, WITHOUT ROWID;

-- `place` is the order of arrival. A job that was taken is due again when its lease has run out.
CREATE TABLE thebes_jobs (
    place      INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    kind       TEXT    NOT NULL CHECK (kind IN ('mail', 'hook')),
    sealed     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL CHECK (attempts >= 0),
    due_at     REAL    NOT NULL,
    expires_at REAL    NOT NULL
) STRICT;

CREATE INDEX thebes_jobs_due ON thebes_jobs (kind, due_at);
CREATE INDEX thebes_jobs_by_end ON thebes_jobs (expires_at);

CREATE TABLE thebes_keys (
    kid         TEXT NOT NULL PRIMARY KEY,
    alg         TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('published', 'promoted', 'retired')),
    created_at  REAL NOT NULL,
    promoted_at REAL,
    retire_at   REAL,
    sealed      TEXT NOT NULL
) STRICT;
