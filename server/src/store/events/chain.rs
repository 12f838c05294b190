//! The chain of hashes that ties each event to the one before.
//!
//! The hash is BLAKE3 over the hash before, number, turn, time and body. It shows what was changed
//! by mistake or by somebody who does not compute it anew; who can write the database can.

use rusqlite::{Connection, OptionalExtension};
use schemars::JsonSchema;
use serde::Serialize;

/// A chain that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verified {
    pub events: u64,
    /// The last event's hash, in hexadecimal. Kept elsewhere, it proves the whole log later.
    pub head: String,
}

/// The first event that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[error("event {seq}: {why}")]
pub struct Broken {
    pub seq: u64,
    pub why: String,
}

pub(super) fn start(session: &str) -> [u8; 32] {
    *blake3::hash(session.as_bytes()).as_bytes()
}

pub(super) fn next(head: &[u8; 32], seq: u64, turn: u32, ts: i64, body: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head);
    hasher.update(&seq.to_le_bytes());
    hasher.update(&turn.to_le_bytes());
    hasher.update(&ts.to_le_bytes());
    hasher.update(body.as_bytes());
    *hasher.finalize().as_bytes()
}

pub(super) fn verify(c: &Connection, session: &str) -> rusqlite::Result<Result<Verified, Broken>> {
    let broken = |seq: u64, why: &str| {
        Ok(Err(Broken {
            seq,
            why: why.to_owned(),
        }))
    };
    let mut select =
        c.prepare("SELECT seq, turn, ts, body, hash FROM events WHERE session = ?1 ORDER BY seq")?;
    let mut rows = select.query([session])?;
    let (mut head, mut last) = (start(session), 0);
    while let Some(row) = rows.next()? {
        let (seq, turn, ts): (u64, u32, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (body, hash): (String, [u8; 32]) = (row.get(3)?, row.get(4)?);
        if seq != last + 1 {
            return broken(last + 1, "is missing");
        }
        head = next(&head, seq, turn, ts, &body);
        if head != hash {
            return broken(seq, "was changed, or one before it was removed");
        }
        last = seq;
    }
    let kept: Option<(u64, [u8; 32])> = c
        .query_row(
            "SELECT last, head FROM sessions WHERE id = ?1",
            [session],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    match kept {
        None => broken(1, "there is no such session"),
        Some(kept) if kept != (last, head) => broken(last + 1, "is missing: the end was cut off"),
        Some(_) => Ok(Ok(Verified {
            events: last,
            head: blake3::Hash::from_bytes(head).to_hex().to_string(),
        })),
    }
}
