//! What outlives the process: one SQLite database per workspace, in the state directory.
//!
//! Holds: one writer at a time in this process, and SQLite's own locks between processes; what a
//! [`Store::write`] did is on the disk when it returns. The tables of each part are made by its
//! own migrations, listed here in the order in which they came to be.
//! Not here: what the rows mean.

mod edits;
pub mod events;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

const FILE: &str = "pairwright.db";
/// How long another process may hold the database.
const BUSY: Duration = Duration::from_secs(10);

/// Each is run once, in this order; a database remembers how many were.
const MIGRATIONS: &[&str] = &[
    edits::TABLES,
    events::TABLES,
    edits::LOOKUPS,
    events::WHOSE,
    edits::DECISIONS,
    events::MOVES,
];

/// An opened database.
pub struct Store {
    connection: Mutex<Connection>,
    directory: PathBuf,
}

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database in {directory} cannot be used: {why}")]
    Database {
        directory: PathBuf,
        why: rusqlite::Error,
    },
    #[error("the state directory {directory} cannot be used: {why}")]
    Directory {
        directory: PathBuf,
        why: std::io::Error,
    },
    #[error(
        "the database in {directory} was written by a newer Pairwright (step {found}, this one knows {known}); update this one, or move the directory away, with the edits and tasks it remembers"
    )]
    Newer {
        directory: PathBuf,
        found: u32,
        known: u32,
    },
}

impl Store {
    /// Opens the database in `directory`, which is made if it is missing and closed to others.
    ///
    /// # Errors
    /// [`StoreError`] when the directory or the database cannot be used.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let broken = |why| StoreError::Directory {
            directory: directory.to_owned(),
            why,
        };
        make_private(directory).map_err(broken)?;
        let failed = |why| StoreError::Database {
            directory: directory.to_owned(),
            why,
        };
        let mut connection = Connection::open(directory.join(FILE)).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
            .and_then(|()| connection.pragma_update(None, "foreign_keys", true))
            .map_err(failed)?;
        let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
        let found = migrate(&mut connection).map_err(failed)?;
        if found > known {
            return Err(StoreError::Newer {
                directory: directory.to_owned(),
                found,
                known,
            });
        }
        Ok(Self {
            connection: Mutex::new(connection),
            directory: directory.to_owned(),
        })
    }

    /// Whether there is a database in `directory`.
    pub fn is_in(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// The directory the database is in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs `work` in a transaction that is either wholly on the disk afterwards or not at all.
    ///
    /// # Errors
    /// What `work` or the database says; nothing is written then.
    pub fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        transact(&mut self.lock(), work).map_err(|why| self.failed(why))
    }

    /// Runs `work` in a transaction that a power cut may take back, but nothing less; whatever
    /// [`write`](Self::write) does later brings it to the disk too. Costs no wait for the disk.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_soon<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let run = || {
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            let done = transact(&mut connection, work);
            connection.pragma_update(None, "synchronous", "FULL")?;
            done
        };
        run().map_err(|why| self.failed(why))
    }

    /// Runs `work`, which only reads.
    ///
    /// # Errors
    /// What the database says.
    pub fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.lock()).map_err(|why| self.failed(why))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        // A panic drops its transaction, which undoes it.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, why: rusqlite::Error) -> StoreError {
        StoreError::Database {
            directory: self.directory.clone(),
            why,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

fn transact<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Brings the tables up to date; returns how many migrations the database has seen.
fn migrate(connection: &mut Connection) -> rusqlite::Result<u32> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seen: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mut n_seen = 0;
    for (number, sql) in (1_u32..).zip(MIGRATIONS) {
        if number > seen {
            transaction.execute_batch(sql)?;
        }
        n_seen = number;
    }
    let seen = seen.max(n_seen);
    transaction.pragma_update(None, "user_version", seen)?;
    transaction.commit()?;
    Ok(seen)
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Makes a directory that only its owner may look into.
fn make_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory)
}

#[cfg(test)]
mod tests;
