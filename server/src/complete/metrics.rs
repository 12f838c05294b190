//! Counts of what happened to suggestions. They stay in this process; nothing is sent anywhere.
//!
//! *Shown* means that the client said so, or that a suggestion stood for [`VISIBLE`] before
//! anything ended it. The accept rate is taken over what was shown, so requests that were
//! cancelled or overtaken do not water it down.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::Source;

/// A suggestion that stood for so long was seen.
pub const VISIBLE: Duration = Duration::from_millis(250);
/// Times that the percentiles are taken over.
const TIMES: usize = 2000;

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answered {
        source: Source,
        reused: bool,
    },
    /// Nothing worth showing.
    Empty,
    /// A newer request or an edit overtook it.
    Superseded,
    /// The client took it back.
    Cancelled,
}

/// Everything counted since the server started.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub requested: u64,
    pub answered_by_model: u64,
    pub answered_by_local: u64,
    /// Of those: continued from a suggestion that was there, without asking again.
    pub reused: u64,
    pub empty: u64,
    pub superseded: u64,
    pub cancelled: u64,
    /// Answered without the model because it was too late.
    pub model_late: u64,
    pub model_failed: u64,
    pub shown: u64,
    /// Of those, each once: what was best of what became of it.
    pub accepted: u64,
    pub partially_accepted: u64,
    pub accepted_characters: u64,
    pub rejected: u64,
    /// Accepted text that was still there after 30 s, and that was not.
    pub retained: u64,
    pub reverted: u64,
    /// Next edits that were proposed, and what became of them.
    pub next_edits_proposed: u64,
    pub next_edits_accepted: u64,
    pub next_edits_rejected: u64,
}

/// Milliseconds from request to answer.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Percentiles {
    pub n: usize,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

/// What `pairwright/metrics/get` answers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    #[serde(flatten)]
    pub counts: Counts,
    /// Accepted, wholly or in part, of shown.
    pub accept_rate: Option<f64>,
    pub answer_ms: Percentiles,
}

#[derive(Debug, Default)]
pub struct Metrics(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    times: VecDeque<Duration>,
}

impl Metrics {
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).counts);
    }

    /// Counts a request that came to its end after `took`.
    pub fn finished(&self, outcome: Outcome, took: Duration) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut inner.counts;
        counts.requested += 1;
        match outcome {
            Outcome::Answered { source, reused } => {
                match source {
                    Source::Model => counts.answered_by_model += 1,
                    Source::Local => counts.answered_by_local += 1,
                }
                counts.reused += u64::from(reused);
            }
            Outcome::Empty => counts.empty += 1,
            Outcome::Superseded => counts.superseded += 1,
            Outcome::Cancelled => counts.cancelled += 1,
        }
        if matches!(outcome, Outcome::Answered { .. } | Outcome::Empty) {
            if inner.times.len() == TIMES {
                inner.times.pop_front();
            }
            inner.times.push_back(took);
        }
    }

    pub fn report(&self) -> Report {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = inner.counts.clone();
        let taken = counts.accepted + counts.partially_accepted;
        let accept_rate = (counts.shown > 0).then(|| taken as f64 / counts.shown as f64);
        Report {
            accept_rate,
            answer_ms: percentiles(inner.times.iter().copied()),
            counts,
        }
    }
}

fn percentiles(times: impl Iterator<Item = Duration>) -> Percentiles {
    let mut ms: Vec<f64> = times.map(|t| t.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let at = |q: f64| ms.get(((ms.len() as f64 * q) as usize).min(ms.len().saturating_sub(1)));
    let at = |q| at(q).copied().unwrap_or_default();
    Percentiles {
        n: ms.len(),
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelled_requests_count_neither_as_answers_nor_in_the_times() {
        let metrics = Metrics::default();
        let ms = Duration::from_millis;
        metrics.finished(
            Outcome::Answered {
                source: Source::Model,
                reused: true,
            },
            ms(2),
        );
        metrics.finished(
            Outcome::Answered {
                source: Source::Local,
                reused: false,
            },
            ms(4),
        );
        metrics.finished(Outcome::Cancelled, ms(900));
        metrics.finished(Outcome::Superseded, ms(900));
        metrics.finished(Outcome::Empty, ms(6));
        metrics.count(|c| {
            c.shown = 4;
            c.accepted = 1;
        });
        let report = metrics.report();
        assert_eq!(
            report.answer_ms,
            Percentiles {
                n: 3,
                p50: 4.0,
                p95: 6.0,
                p99: 6.0
            }
        );
        assert_eq!(report.accept_rate, Some(0.25));
        let counts = report.counts;
        assert_eq!(
            (
                counts.requested,
                counts.answered_by_model,
                counts.answered_by_local
            ),
            (5, 1, 1)
        );
        assert_eq!(
            (
                counts.reused,
                counts.cancelled,
                counts.superseded,
                counts.empty
            ),
            (1, 1, 1, 1)
        );
    }
}
