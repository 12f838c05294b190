//! The events of one session as they come, each once and in order.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Event, EventLog};
use crate::store::StoreError;

/// Tells events from a position on; what it is too slow for it reads from the log.
#[derive(Debug)]
pub struct Follow {
    log: EventLog,
    session: String,
    written: Receiver<Arc<Event>>,
    next: u64,
    /// Read from the log, not told yet.
    missed: VecDeque<Event>,
    /// Whether the log has more than was heard. Kept, so that a wait that is given up loses nothing.
    is_behind: bool,
}

impl EventLog {
    /// Follows a session from `from` on, what is written already among it.
    pub fn follow(&self, session: &str, from: u64) -> Follow {
        Follow {
            log: self.clone(),
            session: session.to_owned(),
            written: self.subscribe(),
            next: from,
            missed: VecDeque::new(),
            is_behind: true,
        }
    }

    /// Follows a session from now on. Reads the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn follow_from_now(&self, session: &str) -> Result<Follow, StoreError> {
        let mut follow = self.follow(session, 1);
        follow.next += self.session(session)?.map_or(0, |found| found.last);
        Ok(follow)
    }
}

impl Follow {
    /// Waits for the next event. Giving up the wait loses nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some(event) = self.missed.pop_front() {
                self.next = event.seq + 1;
                return Ok(event);
            }
            if self.is_behind {
                self.catch_up().await?;
                continue;
            }
            match self.written.recv().await {
                Ok(event) if event.session != self.session || event.seq < self.next => {}
                Ok(event) if event.seq == self.next => {
                    self.next += 1;
                    return Ok(Arc::unwrap_or_clone(event));
                }
                Ok(_) | Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => anyhow::bail!("the log was closed"),
            }
        }
    }

    /// What is left of a session that has ended.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<Event>> {
        let mut rest: Vec<Event> = self.missed.drain(..).collect();
        self.next = rest.last().map_or(self.next, |event| event.seq + 1);
        self.catch_up().await?;
        rest.extend(self.missed.drain(..));
        self.next = rest.last().map_or(self.next, |event| event.seq + 1);
        Ok(rest)
    }

    async fn catch_up(&mut self) -> anyhow::Result<()> {
        let (log, of, from) = (self.log.clone(), self.session.clone(), self.next);
        let reading = tokio::task::spawn_blocking(move || log.read_from(&of, from, usize::MAX));
        self.missed.extend(reading.await??);
        self.is_behind = false;
        Ok(())
    }
}
