//! What became of the requests to an endpoint, and how long they took.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// Weight of the newest request in the averages: about the last ten count.
const NEWEST: f64 = 0.2;

/// Counters and averages of one endpoint since it was configured.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Streams handed out.
    pub requests: u64,
    /// Of these, streams that shared the upstream request of another.
    pub shared: u64,
    /// Upstream requests that were answered to the end.
    pub answered: u64,
    /// Upstream requests dropped before the end.
    pub cancelled: u64,
    /// Upstream requests that failed.
    pub failed: u64,
    /// Requests not sent because the endpoint was being left alone.
    pub paused: u64,
    /// Tokens, where the server counts them.
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// Moving average from sending to the first piece of text, in milliseconds.
    pub first_text_ms: Option<f64>,
    /// Moving average from sending to the end, in milliseconds.
    pub total_ms: Option<f64>,
    /// Connections opened to the endpoint's host.
    pub connections: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Stats>);

impl Counters {
    pub(super) fn update(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.lock());
    }

    pub(super) fn snapshot(&self) -> Stats {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Stats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves an average towards the newest value.
pub(super) fn average(known: &mut Option<f64>, newest: Duration) {
    let newest = newest.as_secs_f64() * 1000.0;
    *known = Some(known.map_or(newest, |known| known + NEWEST * (newest - known)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_follows_the_newest_values() {
        let mut known = None;
        average(&mut known, Duration::from_millis(100));
        assert_eq!(known, Some(100.0));
        for _ in 0..30 {
            average(&mut known, Duration::from_millis(50));
        }
        assert!(
            known.is_some_and(|ms| (50.0..51.0).contains(&ms)),
            "{known:?}"
        );
    }
}
