//! Tables of what was done to files. What their rows mean is known to `edit::journal`.

pub(super) const TABLES: &str = "
CREATE TABLE blobs (hash BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE transactions (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'done', 'undone', 'expired')),
    kind TEXT NOT NULL CHECK (kind IN ('apply', 'reject', 'rollback')),
    author TEXT NOT NULL,
    proposal TEXT,
    hunks TEXT NOT NULL DEFAULT '[]',
    undoes TEXT REFERENCES transactions (id),
    request TEXT UNIQUE,
    directories TEXT NOT NULL DEFAULT '[]',
    is_swept INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE changes (
    token TEXT NOT NULL REFERENCES transactions (id),
    idx INTEGER NOT NULL,
    path TEXT NOT NULL,
    moved_from TEXT,
    world TEXT NOT NULL CHECK (world IN ('disk', 'in_place', 'document')),
    before_hash BLOB,
    before_mode INTEGER,
    after_hash BLOB,
    after_mode INTEGER,
    PRIMARY KEY (token, idx)
);
CREATE INDEX changes_by_path ON changes (path);
CREATE TABLE proposals (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    author TEXT NOT NULL,
    step TEXT,
    is_open INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE diff_log (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    author TEXT NOT NULL,
    proposal TEXT,
    step TEXT,
    hunk TEXT,
    path TEXT,
    token TEXT
);
CREATE INDEX diff_log_by_proposal ON diff_log (proposal);
";

/// Finds what a decision asks for without reading all rows, and counts how often a proposal was
/// written, so that one in memory is known to be of yesterday.
pub(super) const LOOKUPS: &str = "
ALTER TABLE proposals ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
CREATE INDEX proposals_by_version ON proposals (id, is_open, version);
CREATE INDEX transactions_by_state ON transactions (state);
CREATE INDEX transactions_by_undoes ON transactions (undoes);
CREATE INDEX diff_log_by_token ON diff_log (token);
";

/// Remembers what a decision takes back to: how each hunk was decided before it, and what of a
/// taking back was left out for its conflicts. Requests are those that changed no byte.
pub(super) const DECISIONS: &str = "
ALTER TABLE diff_log ADD COLUMN was TEXT CHECK (was IN ('pending', 'accepted', 'rejected'));
ALTER TABLE transactions ADD COLUMN conflicts TEXT NOT NULL DEFAULT '[]';
CREATE TABLE requests (
    request TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    hunks TEXT NOT NULL
) WITHOUT ROWID;
UPDATE transactions SET request = NULL WHERE state = 'expired';
";
