//! What was done to files, written down before it is done: the rows behind rollback tokens and
//! recovery after a crash.
//!
//! Holds: a transaction is `begun` on the disk, with every byte before and after, ahead of the
//! first file it touches, and `done` or `undone` after the last one is safe. So one found `begun`
//! while nobody works on it was cut off, and can be undone from its rows alone.
//! Not here: touching files (`transaction`), the tables (`store`).

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::hunks::{Conflict, HunkState};
use super::path::RepoPath;
use crate::store::{Store, StoreError, now};

/// Name of a transaction; whoever has it can take the transaction back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Makes one that sorts after all earlier ones of this process, and after those of others as
    /// far as the clock tells: by the millisecond, and as long as it is not set back.
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
    /// The token that takes all of it back.
    pub undone_by: Option<Token>,
    /// What it left as it was, where it took back the rest.
    #[serde(skip)]
    pub conflicts: Vec<Conflict>,
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
    /// What it leaves as it is for these, where it takes back the rest.
    pub conflicts: Vec<Conflict>,
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
    /// How the hunk was decided before.
    pub was: Option<HunkState>,
    pub path: Option<&'a str>,
}

/// A hunk that a transaction decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub proposal: String,
    pub hunk: String,
    /// How it was decided before; `None` where that was not written down.
    pub was: Option<HunkState>,
}

/// A proposal as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalRow<'a> {
    pub id: &'a str,
    pub author: &'a str,
    pub step: Option<&'a str>,
    pub is_open: bool,
    pub body: String,
}

/// What is written down in the same stroke as the end of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note<'a> {
    Log(LogRow<'a>),
    Proposal(ProposalRow<'a>),
}

/// Which state of a proposal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: String,
    pub is_open: bool,
    /// Grows each time it is written.
    pub version: i64,
}

/// How long and how much is kept for rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub milliseconds: i64,
    pub bytes: i64,
}

/// How often the time of [`Retention`] passes until an expired token is not even known any more.
const FORGOTTEN_AFTER: i64 = 3;

impl Default for Retention {
    /// 30 days and 1 GiB.
    fn default() -> Self {
        Self {
            milliseconds: 30 * 24 * 3600 * 1000,
            bytes: 1 << 30,
        }
    }
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
                (id, at, state, kind, author, proposal, hunks, undoes, request, directories,
                conflicts)
             VALUES (?1, ?2, 'begun', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
                json(&purpose.conflicts),
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

/// Writes down that all of it is done, and what follows from that. From here on the token is good.
pub fn finish(store: &Store, token: &Token, notes: &[Note<'_>]) -> Result<(), StoreError> {
    store.write(|t| {
        set_state(t, token, "done")?;
        write_notes(t, notes, Some(token))
    })
}

/// Writes down what needs no file to change.
pub fn note(store: &Store, notes: &[Note<'_>]) -> Result<(), StoreError> {
    store.write(|t| write_notes(t, notes, None))
}

/// As [`note`], with the hunks that were decided so under a request key.
pub fn note_request(
    store: &Store,
    notes: &[Note<'_>],
    request: &str,
    hunks: &[String],
) -> Result<(), StoreError> {
    store.write(|t| {
        write_notes(t, notes, None)?;
        t.execute(
            "INSERT INTO requests (request, at, hunks) VALUES (?1, ?2, ?3)",
            params![request, now(), json(hunks)],
        )?;
        Ok(())
    })
}

/// The hunks that were decided under a request key without any byte that changed.
pub fn noted(store: &Store, request: &str) -> Result<Option<Vec<String>>, StoreError> {
    store.read(|c| {
        let sql = "SELECT hunks FROM requests WHERE request = ?1";
        c.query_row(sql, [request], |row| read_list(row, 0))
            .optional()
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

/// The last transaction that stands: done, not taken back, and an edit or one that was done again,
/// which is the taking back of a taking back.
pub fn last(store: &Store) -> Result<Option<Entry>, StoreError> {
    // A taking back that is no longer known to be of what does nothing again.
    let stands = "state = 'done' AND NOT EXISTS (
            SELECT 1 FROM transactions u WHERE u.undoes = t.id AND u.state IN ('done', 'expired')
            AND u.conflicts = '[]')
        AND (kind <> 'rollback' OR (
            WITH RECURSIVE up (kind, undoes, depth) AS (
                SELECT t.kind, t.undoes, 0
                UNION ALL
                SELECT p.kind, p.undoes, depth + 1 FROM transactions p JOIN up ON p.id = up.undoes
            )
            SELECT depth % 2 = 0 FROM up WHERE kind <> 'rollback'))";
    Ok(entries(store, stands, 1)?.pop())
}

/// The hunks that a transaction decided, each with its proposal.
pub fn decided(store: &Store, token: &Token) -> Result<Vec<Decided>, StoreError> {
    store.read(|c| {
        let mut select = c.prepare(
            "SELECT DISTINCT proposal, hunk, was FROM diff_log
             WHERE token = ?1 AND proposal IS NOT NULL AND hunk IS NOT NULL ORDER BY id",
        )?;
        let rows = select.query_map([token.as_str()], |row| {
            Ok(Decided {
                proposal: row.get(0)?,
                hunk: row.get(1)?,
                was: match row.get::<_, Option<String>>(2)?.as_deref() {
                    Some("pending") => Some(HunkState::Pending),
                    Some("accepted") => Some(HunkState::Accepted),
                    Some("rejected") => Some(HunkState::Rejected),
                    _ => None,
                },
            })
        })?;
        rows.collect()
    })
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

/// Which proposals are kept, newest first.
pub fn kept_proposals(store: &Store) -> Result<Vec<Kept>, StoreError> {
    store.read(|c| {
        let mut select = c.prepare(
            "SELECT id, is_open, version FROM proposals INDEXED BY proposals_by_version
             ORDER BY id DESC",
        )?;
        let rows = select.query_map([], |row| {
            Ok(Kept {
                id: row.get(0)?,
                is_open: row.get(1)?,
                version: row.get(2)?,
            })
        })?;
        rows.collect()
    })
}

/// Body of a proposal.
pub fn proposal(store: &Store, id: &str) -> Result<Option<String>, StoreError> {
    store.read(|c| {
        c.query_row("SELECT body FROM proposals WHERE id = ?1", [id], |row| {
            row.get(0)
        })
        .optional()
    })
}

/// Forgets bytes that are too old or too many; their tokens answer `expired` from then on, and are
/// forgotten themselves, with what the log says of them, when they are three times as old.
///
/// Returns how many tokens expired. One pass over all rows, whatever is dropped.
pub fn expire(store: &Store, retention: Retention) -> Result<usize, StoreError> {
    store.write(|t| {
        let too_old = now() - retention.milliseconds;
        let mut expired = t.execute(
            "UPDATE transactions SET state = 'expired', request = NULL
             WHERE state IN ('done', 'undone') AND at < ?1",
            [too_old],
        )?;
        t.execute("DELETE FROM proposals WHERE at < ?1", [too_old])?;
        t.execute("DELETE FROM requests WHERE at < ?1", [too_old])?;
        if let Some((at, id)) = newest_beyond(t, retention.bytes)? {
            expired += t.execute(
                "UPDATE transactions SET state = 'expired', request = NULL
                 WHERE state IN ('done', 'undone') AND (at, id) <= (?1, ?2)",
                params![at, id],
            )?;
            t.execute(
                "DELETE FROM proposals WHERE NOT is_open AND (at, id) <= (?1, ?2)",
                params![at, id],
            )?;
        }
        drop_unused(t)?;
        forget(t, now() - FORGOTTEN_AFTER * retention.milliseconds)?;
        Ok(expired)
    })
}

/// The bytes that transactions need to be taken back, and what needs them.
const USED: &str = "used (hash, token) AS (
    SELECT before_hash, token FROM changes JOIN transactions ON token = id
    WHERE state IN ('begun', 'done') AND before_hash IS NOT NULL
    UNION ALL
    SELECT after_hash, token FROM changes JOIN transactions ON token = id
    WHERE state IN ('begun', 'done') AND after_hash IS NOT NULL)";

/// The newest transaction or decided proposal that there is no room for after all newer ones. Bytes
/// that several transactions share are those of the newest.
fn newest_beyond(t: &Transaction<'_>, bytes: i64) -> rusqlite::Result<Option<(i64, String)>> {
    let sql = format!(
        "WITH {USED},
        newest (hash, token) AS (SELECT hash, max(token) FROM used GROUP BY hash),
        kept (at, id, bytes) AS (
            SELECT at, id, sum(length(b.bytes)) FROM newest
            JOIN blobs b ON b.hash = newest.hash JOIN transactions ON id = token GROUP BY id
            UNION ALL
            SELECT at, id, length(CAST(body AS BLOB)) FROM proposals WHERE NOT is_open),
        running (at, id, bytes) AS (
            SELECT at, id, sum(bytes) OVER (ORDER BY at DESC, id DESC) FROM kept)
        SELECT at, id FROM running WHERE bytes > ?1 ORDER BY at DESC, id DESC LIMIT 1"
    );
    t.query_row(&sql, [bytes], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Drops all rows from before a moment.
fn forget(t: &Transaction<'_>, before: i64) -> rusqlite::Result<()> {
    let old = "SELECT id FROM transactions WHERE state = 'expired' AND at < ?1";
    for sql in [
        format!("UPDATE transactions SET undoes = NULL WHERE undoes IN ({old})"),
        format!("DELETE FROM changes WHERE token IN ({old})"),
        "DELETE FROM transactions WHERE state = 'expired' AND at < ?1".to_owned(),
        "DELETE FROM diff_log WHERE at < ?1".to_owned(),
    ] {
        t.execute(&sql, [before])?;
    }
    Ok(())
}

fn drop_unused(t: &Transaction<'_>) -> rusqlite::Result<usize> {
    let sql = format!("WITH {USED} DELETE FROM blobs WHERE hash NOT IN (SELECT hash FROM used)");
    t.execute(&sql, [])
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

fn write_notes(
    t: &Transaction<'_>,
    notes: &[Note<'_>],
    token: Option<&Token>,
) -> rusqlite::Result<()> {
    notes.iter().try_for_each(|note| match note {
        Note::Log(row) => write_log(t, row, token),
        Note::Proposal(row) => write_proposal(t, row),
    })
}

fn write_proposal(t: &Transaction<'_>, row: &ProposalRow<'_>) -> rusqlite::Result<()> {
    t.execute(
        "INSERT INTO proposals (id, at, author, step, is_open, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (id) DO UPDATE SET is_open = ?5, body = ?6, version = version + 1",
        params![row.id, now(), row.author, row.step, row.is_open, row.body],
    )
    .map(|_| ())
}

fn write_log(t: &Transaction<'_>, row: &LogRow<'_>, token: Option<&Token>) -> rusqlite::Result<()> {
    t.execute(
        "INSERT INTO diff_log (at, action, author, proposal, step, hunk, path, token, was)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            now(),
            row.action,
            row.author,
            row.proposal,
            row.step,
            row.hunk,
            row.path,
            token.map(Token::as_str),
            row.was.map(name_of_state),
        ],
    )
    .map(|_| ())
}

const ENTRY: &str =
    "SELECT id, at, state, kind, author, proposal, hunks, undoes, request, directories,
    (SELECT u.id FROM transactions u WHERE u.undoes = t.id AND u.state IN ('done', 'expired')
        AND u.conflicts = '[]' ORDER BY u.id LIMIT 1),
    (SELECT json_group_array(path) FROM changes WHERE token = t.id), conflicts
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
    let list = |idx: usize| read_list(row, idx);
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
        conflicts: read_list(row, 12)?,
    })
}

fn read_list<T: DeserializeOwned>(row: &Row<'_>, idx: usize) -> rusqlite::Result<Vec<T>> {
    serde_json::from_str(&row.get::<_, String>(idx)?).map_err(|why| broken(idx, &why.to_string()))
}

fn broken(idx: usize, why: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(idx, rusqlite::types::Type::Text, why.into())
}

fn json<T: Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("because nothing in it has keys that are no strings")
}

fn name_of_state(state: HunkState) -> &'static str {
    match state {
        HunkState::Pending => "pending",
        HunkState::Accepted => "accepted",
        HunkState::Rejected => "rejected",
    }
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
