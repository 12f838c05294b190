//! What happened in sessions, event by event: the one record that faces show, that tasks resume
//! from and that audits read.
//!
//! Holds: events of a session are numbered from 1 without gaps, and each carries the hash of the
//! one before, so that a changed, removed or inserted row is found. Rows of the other tables are
//! written in the same transaction as the event they follow from. Secrets are taken out before
//! anything is kept ([`crate::secret::redact`]). What [`Durability::Synced`] wrote is on the disk
//! when it returns; a power cut may take back pieces of running text, never an effect. Who lost
//! its lease writes nothing any more.
//! Not here: what an event leads to (`agent`, `chat`), how it is shown.

mod chain;
mod follow;
mod kind;
mod lease;
mod pace;
mod projections;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{OptionalExtension, Row, Transaction, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

pub use chain::{Broken, Verified};
pub use follow::Follow;
pub use kind::{
    Answer, Approval, Branch, Decision, Denial, DiffFile, Effect, EventKind, Footprint, Grant,
    GrantScope, Intake, Outcome, Permission, Place, PlanItem, PlanState, Risk, Scenario, Shown,
    Spent, Subject, TaskState,
};
pub use lease::{HEARTBEAT, Lease};
pub use pace::Pace;
pub use projections::{Session, Step, Task};

use super::{Store, StoreError};
use crate::store::now;

pub(super) const TABLES: &str = "
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, created INTEGER NOT NULL, title TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '', input INTEGER NOT NULL DEFAULT 0,
    output INTEGER NOT NULL DEFAULT 0, cached INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0, head BLOB NOT NULL
) STRICT;
CREATE TABLE events (
    session TEXT NOT NULL, seq INTEGER NOT NULL, turn INTEGER NOT NULL, ts INTEGER NOT NULL,
    kind TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE task_state (
    session TEXT PRIMARY KEY, state TEXT NOT NULL, why TEXT, prompt TEXT NOT NULL,
    mode TEXT NOT NULL, intake TEXT NOT NULL, spent TEXT NOT NULL DEFAULT '{}',
    request TEXT UNIQUE, updated INTEGER NOT NULL
) STRICT;
CREATE TABLE execution_steps (
    session TEXT NOT NULL, call TEXT NOT NULL, seq INTEGER NOT NULL, tool TEXT NOT NULL,
    arguments TEXT NOT NULL, effect TEXT NOT NULL, state TEXT NOT NULL, text TEXT,
    planned INTEGER NOT NULL, ended INTEGER, PRIMARY KEY (session, call)
) STRICT;
CREATE TABLE approvals (
    id TEXT PRIMARY KEY, session TEXT NOT NULL, call TEXT, subject TEXT NOT NULL,
    asked INTEGER NOT NULL, decision TEXT, decided INTEGER, decided_by TEXT
) STRICT;
CREATE TABLE grants (
    id TEXT PRIMARY KEY, session TEXT NOT NULL, body TEXT NOT NULL, expires INTEGER,
    revoked INTEGER
) STRICT;
CREATE TABLE leases (
    session TEXT PRIMARY KEY, owner TEXT NOT NULL, pid INTEGER NOT NULL,
    generation INTEGER NOT NULL, expires INTEGER NOT NULL
) STRICT;
CREATE TABLE proposed (
    session TEXT NOT NULL, path TEXT NOT NULL, base BLOB, now BLOB,
    executable INTEGER NOT NULL, was_executable INTEGER NOT NULL,
    PRIMARY KEY (session, path)
) STRICT, WITHOUT ROWID;
";

/// Whose a session is, of which folder, and where its commands run. Of sessions that are there,
/// tasks have said so.
pub(super) const WHOSE: &str = "
ALTER TABLE sessions ADD COLUMN user TEXT;
ALTER TABLE sessions ADD COLUMN repo TEXT;
ALTER TABLE task_state ADD COLUMN sandbox TEXT;
UPDATE sessions SET (user, repo) = (
    SELECT t.intake ->> 'user', t.intake ->> 'root' FROM task_state t
    WHERE t.session = sessions.id AND json_valid(t.intake)
);
";

/// Where a file that a task moved was before.
pub(super) const MOVES: &str = "ALTER TABLE proposed ADD COLUMN moved_from TEXT;";

/// Events that a subscriber may be behind; then it reads the rest with [`EventLog::read_from`].
const BACKLOG: usize = 1024;
/// The longest body of one event, in bytes.
const MAX_BODY: usize = 16 << 20;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    pub session: String,
    /// Counts what the user said, from 1.
    pub turn: u32,
    /// The position in the session's log, from 1.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub ts: i64,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Whether to wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The event is on the disk when it returns: intents, outcomes, decisions.
    Synced,
    /// A crash of the program loses nothing, a power cut may: text as it arrives.
    Soon,
}

/// Where events go.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub session: &'a str,
    pub turn: u32,
    /// Checked with every write, where the session is driven by one process at a time.
    pub lease: Option<&'a Lease>,
}

/// Why events could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("another process has taken over this session")]
    LostLease,
    #[error("the event is longer than {} MiB", MAX_BODY >> 20)]
    TooLong,
}

/// The log of one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventLog {
    store: Arc<Store>,
    told: broadcast::Sender<Arc<Event>>,
    /// Held from writing to telling, so that subscribers hear events in their order.
    telling: Arc<Mutex<()>>,
    /// The folder that sessions begun here are of.
    folder: Option<Arc<str>>,
}

/// A row beside the events that is to be written with them, or not at all.
pub type Beside<'a> = &'a dyn Fn(&Transaction<'_>) -> rusqlite::Result<()>;

impl EventLog {
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            told: broadcast::channel(BACKLOG).0,
            telling: Arc::default(),
            folder: None,
        }
    }

    /// The same log, in which sessions that begin are said to be of this folder.
    #[must_use]
    pub fn of_folder(self, folder: &Path) -> Self {
        Self {
            folder: Some(folder.display().to_string().into()),
            ..self
        }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Writes events down and tells subscribers. Returns them as they are kept: without secrets.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is written then.
    pub fn append(
        &self,
        target: Target<'_>,
        kinds: Vec<EventKind>,
        durability: Durability,
    ) -> Result<Vec<Arc<Event>>, AppendError> {
        self.append_with(target, kinds, durability, &|_| Ok(()))
    }

    /// As [`append`](Self::append), with other rows in the same transaction.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is written then.
    pub fn append_with(
        &self,
        target: Target<'_>,
        kinds: Vec<EventKind>,
        durability: Durability,
        beside: Beside<'_>,
    ) -> Result<Vec<Arc<Event>>, AppendError> {
        let kinds: Vec<(EventKind, String)> = kinds
            .into_iter()
            .map(kind::redacted)
            .collect::<Option<_>>()
            .ok_or(AppendError::TooLong)?;
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let work = |t: &Transaction<'_>| {
            if let Some(lease) = target.lease
                && !lease.holds(t)?
            {
                return Ok(None);
            }
            beside(t)?;
            write(t, target, self.folder.as_deref(), &kinds).map(Some)
        };
        let written = match durability {
            Durability::Synced => self.store.write(work)?,
            Durability::Soon => self.store.write_soon(work)?,
        };
        let events = written.ok_or(AppendError::LostLease)?;
        for event in &events {
            // Nobody may be listening.
            let _ = self.told.send(Arc::clone(event));
        }
        Ok(events)
    }

    /// Returns events as they are written by this process, from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.told.subscribe()
    }

    /// Reads at most `most` events of a session, from `seq` on.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn read_from(
        &self,
        session: &str,
        seq: u64,
        most: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.store.read(|c| {
            let mut select = c.prepare_cached(
                "SELECT session, turn, seq, ts, body FROM events
                 WHERE session = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
            )?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let rows = select.query_map(params![session, seq, most], read_event)?;
            rows.collect()
        })
    }

    /// Checks that no event of a session was changed, removed or put in since it was written.
    ///
    /// What was cut off at the end is found by the session's own row, which an export carries.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn verify(&self, session: &str) -> Result<Result<Verified, Broken>, StoreError> {
        self.store.read(|c| chain::verify(c, session))
    }
}

/// Writes events and what follows from them.
fn write(
    t: &Transaction<'_>,
    target: Target<'_>,
    folder: Option<&str>,
    kinds: &[(EventKind, String)],
) -> rusqlite::Result<Vec<Arc<Event>>> {
    let found: Option<(u64, [u8; 32])> = t
        .prepare_cached("SELECT last, head FROM sessions WHERE id = ?1")?
        .query_row([target.session], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let ts = now();
    let (mut seq, mut head) = match found {
        Some(found) => found,
        None => {
            let start = chain::start(target.session);
            t.execute(
                "INSERT INTO sessions (id, created, head, user, repo) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![target.session, ts, start, account(), folder],
            )?;
            (0, start)
        }
    };
    let mut insert = t.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut events = Vec::with_capacity(kinds.len());
    for (kind, body) in kinds {
        seq += 1;
        head = chain::next(&head, seq, target.turn, ts, body);
        insert.execute(params![
            target.session,
            seq,
            target.turn,
            ts,
            kind.name(),
            body,
            head
        ])?;
        let event = Event {
            session: target.session.to_owned(),
            turn: target.turn,
            seq,
            ts,
            kind: kind.clone(),
        };
        projections::project(t, &event)?;
        events.push(Arc::new(event));
    }
    t.prepare_cached("UPDATE sessions SET last = ?2, head = ?3 WHERE id = ?1")?
        .execute(params![target.session, seq, head])?;
    Ok(events)
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let body: String = row.get(4)?;
    let kind = serde_json::from_str(&body).map_err(|why| {
        rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, Box::new(why))
    })?;
    Ok(Event {
        session: row.get(0)?,
        turn: row.get(1)?,
        seq: row.get(2)?,
        ts: row.get(3)?,
        kind,
    })
}

/// The name of the account that this program runs under.
pub fn account() -> String {
    std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "unknown".into())
}

/// Makes an id that sorts by time: `t_…` for tasks, `s_…` for chats.
pub fn new_id(prefix: char) -> String {
    format!("{prefix}_{}", uuid::Uuid::now_v7().simple())
}

#[cfg(test)]
mod tests;
