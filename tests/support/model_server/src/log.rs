//! What the server saw, and waiting for it to see something.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;

use crate::route::Route;

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// How a request ended, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The answer was sent to its end.
    Answered,
    /// RST_STREAM from the client, with its code; 8 is CANCEL.
    Reset(u32),
    /// The client closed the connection.
    Closed,
    /// The server cut it off, as the script said.
    Cut,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Position among all requests, from 0.
    pub nth: usize,
    pub connection: usize,
    pub protocol: Protocol,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub arrived: Instant,
    pub ended: Option<(Instant, End)>,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn route(&self) -> Option<Route> {
        Route::of(&self.path)
    }

    pub fn end(&self) -> Option<End> {
        self.ended.map(|(_, end)| end)
    }
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Connection {
    pub opened: Instant,
    /// Its handshake is over.
    pub is_ready: bool,
    pub closed: Option<Instant>,
    pub requests: usize,
}

/// Everything that was seen so far.
#[derive(Debug, Clone, Default)]
pub struct Log {
    pub requests: Vec<Seen>,
    pub connections: Vec<Connection>,
}

impl Log {
    /// The completion requests: everything that was posted.
    pub fn completions(&self) -> Vec<&Seen> {
        self.requests
            .iter()
            .filter(|seen| seen.method == "POST")
            .collect()
    }

    /// Number of requests that ended as `end`.
    pub fn ended(&self, end: End) -> usize {
        self.requests
            .iter()
            .filter(|seen| seen.end() == Some(end))
            .count()
    }

    /// Number of connections that are open.
    pub fn open(&self) -> usize {
        self.connections
            .iter()
            .filter(|connection| connection.closed.is_none())
            .count()
    }
}

/// A line for each connection and each of the last requests.
impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends: Vec<_> = self.requests.iter().filter_map(Seen::end).collect();
        writeln!(
            f,
            "{} requests, {} of them ended",
            self.requests.len(),
            ends.len()
        )?;
        for connection in &self.connections {
            let state = if connection.closed.is_some() {
                "closed"
            } else {
                "open"
            };
            writeln!(
                f,
                "connection {state} after {} requests",
                connection.requests
            )?;
        }
        for seen in self.requests.iter().rev().take(10).rev() {
            let (nth, connection, end) = (seen.nth, seen.connection, seen.end());
            writeln!(
                f,
                "{nth}: {} {} on {connection}: {end:?}",
                seen.method, seen.path
            )?;
        }
        let odd = self
            .requests
            .iter()
            .filter(|seen| !matches!(seen.end(), Some(End::Answered | End::Reset(8))));
        for seen in odd.take(10) {
            writeln!(f, "{}: {:?}", seen.nth, seen.end())?;
        }
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct Book {
    log: Mutex<Log>,
    changed: Notify,
}

impl Book {
    pub(crate) fn read(&self) -> Log {
        self.lock().clone()
    }

    pub(crate) fn connected(&self) -> usize {
        let mut log = self.lock();
        log.connections.push(Connection {
            opened: Instant::now(),
            is_ready: false,
            closed: None,
            requests: 0,
        });
        let id = log.connections.len() - 1;
        drop(log);
        self.changed.notify_waiters();
        id
    }

    pub(crate) fn ready(&self, id: usize) {
        self.lock().connections[id].is_ready = true;
        self.changed.notify_waiters();
    }

    pub(crate) fn disconnected(&self, id: usize) {
        self.lock().connections[id].closed = Some(Instant::now());
        self.changed.notify_waiters();
    }

    pub(crate) fn arrived(&self, mut seen: Seen) -> Seen {
        let mut log = self.lock();
        seen.nth = log.requests.len();
        log.connections[seen.connection].requests += 1;
        log.requests.push(seen.clone());
        drop(log);
        self.changed.notify_waiters();
        seen
    }

    /// The first end of a request counts.
    pub(crate) fn ended(&self, nth: usize, end: End) {
        self.lock().requests[nth]
            .ended
            .get_or_insert((Instant::now(), end));
        self.changed.notify_waiters();
    }

    /// Waits until `found` finds something in the log.
    ///
    /// # Panics
    /// When it does not within 20 seconds; the message has `what` and the log.
    pub(crate) async fn wait<T>(&self, what: &str, found: impl FnMut(&Log) -> Option<T>) -> T {
        match tokio::time::timeout(PATIENCE, self.find(found)).await {
            Ok(found) => found,
            Err(_) => panic!("the model server did not see {what}, but:\n{}", self.read()),
        }
    }

    /// Waits, for as long as it takes, until `found` finds something in the log.
    pub(crate) async fn find<T>(&self, mut found: impl FnMut(&Log) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = found(&self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
