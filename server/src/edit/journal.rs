//! What was done to files, written down before it is done: the rows behind rollback tokens and
//! recovery after a crash.
//!
//! Holds: a transaction is `begun` on the disk, with every byte before and after, ahead of the
//! first file it touches, and `done` or `undone` after the last one is safe. So one found `begun`
//! while nobody works on it was cut off, and can be undone from its rows alone.
//! Not here: touching files (`transaction`, `recover`).

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;

use super::path::RepoPath;
use crate::store::{Store, StoreError};

/// Tables of this module, as a migration.
pub const TABLES: &str = "
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

/// Name of a transaction; whoever has it can take the transaction back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Makes one that sorts after all earlier ones.
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// Reads one as the user gives it; `None` for what cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let id = uuid::Uuid::parse_str(text.trim()).ok()?;
        Some(Self(id.to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file's bytes and permission bits at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// How a change gets into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// A new file in place of the old one.
    Disk,
    /// Over the old bytes, because the file has other names or another owner.
    InPlace,
    /// Through the editor that has it open. Images are the editor's text in UTF-8.
    Document,
}

/// What a transaction does to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub path: RepoPath,
    /// The path that this one's text came from; another record takes that away.
    pub moved_from: Option<RepoPath>,
    pub world: World,
    /// `None` where nothing was.
    pub before: Option<Image>,
    /// `None` where nothing is afterwards.
    pub after: Option<Image>,
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Apply,
    /// Takes back hunks of a proposal that were applied.
    Reject,
    Rollback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Begun,
    Done,
    /// It failed half way, and was taken back.
    Undone,
    /// Its bytes are no longer kept.
    Expired,
}

/// A transaction without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub token: Token,
    /// Milliseconds since 1970.
    pub at: i64,
    pub state: State,
    pub kind: Kind,
    pub author: String,
    pub proposal: Option<String>,
    /// Ids of the hunks it applies or takes back.
    pub hunks: Vec<String>,
    /// The token it takes back.
    pub undoes: Option<Token>,
    /// The token that takes it back.
    pub undone_by: Option<Token>,
    #[serde(skip)]
    pub request: Option<String>,
    pub paths: Vec<String>,
    /// Directories it makes, outermost first.
    #[serde(skip)]
    pub directories: Vec<String>,
}

/// What is known of a transaction when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    pub kind: Kind,
    pub author: String,
    pub proposal: Option<String>,
    pub hunks: Vec<String>,
    pub undoes: Option<Token>,
    /// The client's key for asking the same thing twice.
    pub request: Option<String>,
}

/// A row of the log: who decided what about which hunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow<'a> {
    pub action: &'static str,
    pub author: &'a str,
    pub proposal: Option<&'a str>,
    pub step: Option<&'a str>,
    pub hunk: Option<&'a str>,
    pub path: Option<&'a str>,
    pub token: Option<&'a Token>,
}

/// How long and how much is kept for rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub milliseconds: i64,
    pub bytes: i64,
}

impl Default for Retention {
    /// 30 days and 1 GiB.
    fn default() -> Self {
        Self {
            milliseconds: 30 * 24 * 3600 * 1000,
            bytes: 1 << 30,
        }
    }
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Writes down what is about to be done, and that nothing is left over of `swept`.
pub fn begin(
    store: &Store,
    token: &Token,
    purpose: &Purpose,
    records: &[Record],
    directories: &[String],
    swept: &[Token],
) -> Result<(), StoreError> {
    store.write(|t| {
        for token in swept {
            set_swept(t, token)?;
        }
        t.execute(
            "INSERT INTO transactions
                (id, at, state, kind, author, proposal, hunks, undoes, request, directories)
             VALUES (?1, ?2, 'begun', ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                token.as_str(),
                now(),
                name_of_kind(purpose.kind),
                purpose.author,
                purpose.proposal,
                json(&purpose.hunks),
                purpose.undoes.as_ref().map(Token::as_str),
                purpose.request,
                json(directories),
            ],
        )?;
        for (idx, record) in (0_i64..).zip(records) {
            t.execute(
                "INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    token.as_str(),
                    idx,
                    record.path.as_str(),
                    record.moved_from.as_ref().map(RepoPath::as_str),
                    name_of_world(record.world),
                    keep(t, record.before.as_ref())?,
                    record.before.as_ref().map(|i| i.mode),
                    keep(t, record.after.as_ref())?,
                    record.after.as_ref().map(|i| i.mode),
                ],
            )?;
        }
        Ok(())
    })
}

/// Writes down that all of it is done. From here on the token is good.
pub fn finish(store: &Store, token: &Token, rows: &[LogRow<'_>]) -> Result<(), StoreError> {
    store.write(|t| {
        set_state(t, token, "done")?;
        rows.iter().try_for_each(|row| write_log(t, row))
    })
}

/// Writes down that none of it is left. Its request may be made again.
pub fn undo(store: &Store, token: &Token) -> Result<(), StoreError> {
    store.write(|t| {
        set_state(t, token, "undone")?;
        t.execute(
            "UPDATE transactions SET request = NULL, undoes = NULL, is_swept = 1 WHERE id = ?1",
            [token.as_str()],
        )?;
        Ok(())
    })
}

/// Notes that no temporary file of the transaction is left.
pub fn swept(store: &Store, token: &Token) -> Result<(), StoreError> {
    store.write(|t| set_swept(t, token))
}

/// Adds rows to the log.
pub fn log(store: &Store, rows: &[LogRow<'_>]) -> Result<(), StoreError> {
    store.write(|t| rows.iter().try_for_each(|row| write_log(t, row)))
}

/// Transactions that were cut off, newest first: they are undone in this order.
pub fn begun(store: &Store) -> Result<Vec<Entry>, StoreError> {
    entries(store, "state = 'begun'", usize::MAX)
}

/// Transactions whose temporary files may still be there.
pub fn unswept(store: &Store) -> Result<Vec<Entry>, StoreError> {
    entries(store, "state = 'done' AND is_swept = 0", usize::MAX)
}

/// The last transactions, newest first.
pub fn recent(store: &Store, most: usize) -> Result<Vec<Entry>, StoreError> {
    entries(store, "state <> 'begun'", most)
}

/// Finds a transaction.
pub fn entry(store: &Store, token: &Token) -> Result<Option<Entry>, StoreError> {
    store.read(|c| one_entry(c, "id = ?1", token.as_str()))
}

/// Finds what the client asked for under this key before.
pub fn by_request(store: &Store, request: &str) -> Result<Option<Entry>, StoreError> {
    store.read(|c| one_entry(c, "request = ?1", request))
}

/// What a transaction did, with all bytes.
pub fn records(store: &Store, token: &Token) -> Result<Vec<Record>, StoreError> {
    store.read(|c| {
        let mut select = c.prepare(
            "SELECT path, moved_from, world, before_mode, after_mode, b.bytes, a.bytes
             FROM changes
             LEFT JOIN blobs b ON b.hash = before_hash
             LEFT JOIN blobs a ON a.hash = after_hash
             WHERE token = ?1 ORDER BY idx",
        )?;
        let rows = select.query_map([token.as_str()], |row| {
            let image = |mode: Option<u32>, bytes: Option<Vec<u8>>| {
                Some(Image {
                    mode: mode?,
                    bytes: bytes?,
                })
            };
            let path =
                |text: String| RepoPath::parse(&text).map_err(|why| broken(0, &why.to_string()));
            Ok(Record {
                path: path(row.get(0)?)?,
                moved_from: row.get::<_, Option<String>>(1)?.map(path).transpose()?,
                world: match row.get::<_, String>(2)?.as_str() {
                    "disk" => World::Disk,
                    "in_place" => World::InPlace,
                    _ => World::Document,
                },
                before: image(row.get(3)?, row.get(5)?),
                after: image(row.get(4)?, row.get(6)?),
            })
        })?;
        rows.collect()
    })
}

/// Keeps a proposal as it stands.
pub fn save_proposal(
    store: &Store,
    id: &str,
    author: &str,
    step: Option<&str>,
    is_open: bool,
    body: &str,
    rows: &[LogRow<'_>],
) -> Result<(), StoreError> {
    store.write(|t| {
        t.execute(
            "INSERT INTO proposals (id, at, author, step, is_open, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET is_open = ?5, body = ?6",
            params![id, now(), author, step, is_open, body],
        )?;
        rows.iter().try_for_each(|row| write_log(t, row))
    })
}

/// Bodies of the proposals that have undecided hunks, oldest first.
pub fn open_proposals(store: &Store) -> Result<Vec<String>, StoreError> {
    store.read(|c| {
        let mut select = c.prepare("SELECT body FROM proposals WHERE is_open ORDER BY id")?;
        let rows = select.query_map([], |row| row.get(0))?;
        rows.collect()
    })
}

/// Forgets bytes that are too old or too many; their tokens answer `expired` from then on.
///
/// Returns how many tokens expired.
pub fn expire(store: &Store, retention: Retention) -> Result<usize, StoreError> {
    store.write(|t| {
        let mut expired = t.execute(
            "UPDATE transactions SET state = 'expired'
             WHERE state IN ('done', 'undone') AND at < ?1",
            [now() - retention.milliseconds],
        )?;
        drop_unused(t)?;
        while kept_bytes(t)? > retention.bytes {
            let oldest = t.execute(
                "UPDATE transactions SET state = 'expired' WHERE id =
                 (SELECT id FROM transactions WHERE state IN ('done', 'undone') ORDER BY id LIMIT 1)",
                [],
            )?;
            if oldest == 0 {
                break;
            }
            expired += oldest;
            drop_unused(t)?;
        }
        t.execute(
            "DELETE FROM proposals WHERE at < ?1",
            [now() - retention.milliseconds],
        )?;
        Ok(expired)
    })
}

fn drop_unused(t: &Transaction<'_>) -> rusqlite::Result<usize> {
    t.execute(
        "DELETE FROM blobs WHERE hash NOT IN (
            SELECT before_hash FROM changes JOIN transactions ON token = id
            WHERE state IN ('begun', 'done') AND before_hash IS NOT NULL
            UNION
            SELECT after_hash FROM changes JOIN transactions ON token = id
            WHERE state IN ('begun', 'done') AND after_hash IS NOT NULL)",
        [],
    )
}

fn kept_bytes(t: &Transaction<'_>) -> rusqlite::Result<i64> {
    t.query_row(
        "SELECT coalesce(sum(length(bytes)), 0) FROM blobs",
        [],
        |row| row.get(0),
    )
}

/// Keeps an image's bytes under their hash.
fn keep(t: &Transaction<'_>, image: Option<&Image>) -> rusqlite::Result<Option<[u8; 32]>> {
    let Some(image) = image else { return Ok(None) };
    let hash = *blake3::hash(&image.bytes).as_bytes();
    t.execute(
        "INSERT INTO blobs (hash, bytes) VALUES (?1, ?2) ON CONFLICT (hash) DO NOTHING",
        params![hash, image.bytes],
    )?;
    Ok(Some(hash))
}

fn set_swept(t: &Transaction<'_>, token: &Token) -> rusqlite::Result<()> {
    t.execute(
        "UPDATE transactions SET is_swept = 1 WHERE id = ?1",
        [token.as_str()],
    )
    .map(|_| ())
}

fn set_state(t: &Transaction<'_>, token: &Token, state: &str) -> rusqlite::Result<()> {
    let changed = t.execute(
        "UPDATE transactions SET state = ?2 WHERE id = ?1 AND state = 'begun'",
        [token.as_str(), state],
    )?;
    match changed {
        1 => Ok(()),
        _ => Err(rusqlite::Error::StatementChangedRows(changed)),
    }
}

fn write_log(t: &Transaction<'_>, row: &LogRow<'_>) -> rusqlite::Result<()> {
    t.execute(
        "INSERT INTO diff_log (at, action, author, proposal, step, hunk, path, token)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            now(),
            row.action,
            row.author,
            row.proposal,
            row.step,
            row.hunk,
            row.path,
            row.token.map(Token::as_str)
        ],
    )
    .map(|_| ())
}

const ENTRY: &str =
    "SELECT id, at, state, kind, author, proposal, hunks, undoes, request, directories,
    (SELECT u.id FROM transactions u WHERE u.undoes = t.id AND u.state <> 'undone'
        ORDER BY u.id LIMIT 1),
    (SELECT json_group_array(path) FROM changes WHERE token = t.id)
    FROM transactions t";

fn entries(store: &Store, filter: &str, most: usize) -> Result<Vec<Entry>, StoreError> {
    store.read(|c| {
        let mut select = c.prepare(&format!("{ENTRY} WHERE {filter} ORDER BY id DESC LIMIT ?1"))?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = select.query_map([most], read_entry)?;
        rows.collect()
    })
}

fn one_entry(c: &Connection, filter: &str, value: &str) -> rusqlite::Result<Option<Entry>> {
    c.query_row(&format!("{ENTRY} WHERE {filter}"), [value], read_entry)
        .optional()
}

fn read_entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let list = |idx: usize| -> rusqlite::Result<Vec<String>> {
        serde_json::from_str(&row.get::<_, String>(idx)?)
            .map_err(|why| broken(idx, &why.to_string()))
    };
    Ok(Entry {
        token: Token(row.get(0)?),
        at: row.get(1)?,
        state: match row.get::<_, String>(2)?.as_str() {
            "begun" => State::Begun,
            "done" => State::Done,
            "undone" => State::Undone,
            _ => State::Expired,
        },
        kind: match row.get::<_, String>(3)?.as_str() {
            "apply" => Kind::Apply,
            "reject" => Kind::Reject,
            _ => Kind::Rollback,
        },
        author: row.get(4)?,
        proposal: row.get(5)?,
        hunks: list(6)?,
        undoes: row.get::<_, Option<String>>(7)?.map(Token),
        request: row.get(8)?,
        directories: list(9)?,
        undone_by: row.get::<_, Option<String>>(10)?.map(Token),
        paths: list(11)?,
    })
}

fn broken(idx: usize, why: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(idx, rusqlite::types::Type::Text, why.into())
}

fn json(list: &[String]) -> String {
    serde_json::to_string(list).expect("a list of strings is valid JSON")
}

fn name_of_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Apply => "apply",
        Kind::Reject => "reject",
        Kind::Rollback => "rollback",
    }
}

fn name_of_world(world: World) -> &'static str {
    match world {
        World::Disk => "disk",
        World::InPlace => "in_place",
        World::Document => "document",
    }
}
