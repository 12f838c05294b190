//! Who drives a session: one process at a time.
//!
//! Holds: a lease has a generation that rises with every owner; each write checks it in its own
//! transaction, so a process that was overtaken while it slept writes nothing. A lease is taken
//! over when it ran out or its process is dead.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::store::now;
use crate::store::{Store, StoreError};

/// How often an owner says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a lease holds without that.
const HOLDS: i64 = 45_000;

/// The right to write a session's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    session: String,
    generation: i64,
}

impl Lease {
    /// Takes the lease of a session; `None` while another process that lives holds it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn take(store: &Store, session: &str, owner: &str) -> Result<Option<Self>, StoreError> {
        let pid = std::process::id();
        store.write(|t| {
            let held: Option<(String, u32, i64, i64)> = t
                .query_row(
                    "SELECT owner, pid, generation, expires FROM leases WHERE session = ?1",
                    [session],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
                )
                .optional()?;
            let generation = match held {
                Some((holder, holder_pid, generation, expires)) => {
                    let is_free = holder == owner || expires < now() || !is_alive(holder_pid);
                    if !is_free {
                        return Ok(None);
                    }
                    generation + 1
                }
                None => 1,
            };
            t.execute(
                "INSERT INTO leases VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (session)
                 DO UPDATE SET owner = ?2, pid = ?3, generation = ?4, expires = ?5",
                params![session, owner, pid, generation, now() + HOLDS],
            )?;
            Ok(Some(Self {
                session: session.to_owned(),
                generation,
            }))
        })
    }

    /// Whether no process that lives holds the lease of a session.
    pub(super) fn is_free(c: &Connection, session: &str) -> rusqlite::Result<bool> {
        let select = "SELECT pid, expires FROM leases WHERE session = ?1";
        let held: Option<(u32, i64)> = c
            .query_row(select, [session], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(held.is_none_or(|(pid, expires)| expires < now() || !is_alive(pid)))
    }

    /// Says that the owner is alive. Returns whether it still is the owner.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn renew(&self, store: &Store) -> Result<bool, StoreError> {
        let renewed = store.write_soon(|t| {
            t.execute(
                "UPDATE leases SET expires = ?3 WHERE session = ?1 AND generation = ?2",
                params![self.session, self.generation, now() + HOLDS],
            )
        })?;
        Ok(renewed == 1)
    }

    /// Lets another process have the session at once.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn release(&self, store: &Store) -> Result<(), StoreError> {
        store
            .write_soon(|t| {
                t.execute(
                    "UPDATE leases SET expires = 0 WHERE session = ?1 AND generation = ?2",
                    params![self.session, self.generation],
                )
            })
            .map(drop)
    }

    pub(super) fn holds(&self, t: &Transaction<'_>) -> rusqlite::Result<bool> {
        let generation: Option<i64> = t
            .prepare_cached("SELECT generation FROM leases WHERE session = ?1")?
            .query_row([&self.session], |row| row.get(0))
            .optional()?;
        Ok(generation == Some(self.generation))
    }
}

/// Whether a process of this number runs. Where that cannot be told, it does.
fn is_alive(pid: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        std::path::Path::new("/proc").join(pid.to_string()).exists()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        true
    }
}
