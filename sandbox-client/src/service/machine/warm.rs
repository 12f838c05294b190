//! Clones that wait for someone, as many as come while one is replaced.
//!
//! A clone that waits has been restored and stands still: it takes memory and no time of a
//! processor. Holds: only clones of what was asked for last are held, never more than the service's
//! [`Options::ready`](crate::service::Options::ready), and none when nobody asked for [`IDLE`]. One
//! that is dropped is killed, and its groups are removed when it is dead.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::stock::{Copied, Key};
use crate::capacity;

/// Without a new sandbox for so long nothing is held ready.
pub(super) const IDLE: Duration = Duration::from_secs(120);
/// Arrivals that the rate is computed from.
const ARRIVALS: usize = 16;
/// Asked for at one moment: one, and whoever comes with it waits.
const BURST: u32 = 1;

/// Of one service.
#[derive(Default)]
pub(super) struct Warm(Mutex<State>);

#[derive(Default)]
struct State {
    key: Option<Key>,
    clones: Vec<Copied>,
    n_making: usize,
    arrivals: VecDeque<Instant>,
    /// How long the last took to make.
    making: Duration,
    /// Whether someone looks when they are no longer wanted.
    is_watched: bool,
}

impl State {
    /// How many are to be ready now.
    fn wanted(&self, most: usize, now: Instant) -> usize {
        let (Some(first), Some(last)) = (self.arrivals.front(), self.arrivals.back()) else {
            return 0;
        };
        if now.saturating_duration_since(*last) >= IDLE {
            return 0;
        }
        let span = now.saturating_duration_since(*first).max(self.making);
        let rate = match span.is_zero() {
            true => 0.0,
            false => self.arrivals.len() as f64 / span.as_secs_f64(),
        };
        let wanted = capacity::ready(rate, self.making, BURST);
        usize::try_from(wanted).unwrap_or(usize::MAX).min(most)
    }
}

impl Warm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that one is asked for, and gives one that is ready. Those of another kind are dropped.
    pub(super) fn take(&self, key: &Key) -> Option<Copied> {
        let now = Instant::now();
        let mut state = self.state();
        if state.key.as_ref() != Some(key) {
            state.key = Some(key.clone());
            state.clones.clear();
            state.arrivals.clear();
        }
        state.arrivals.push_back(now);
        if state.arrivals.len() > ARRIVALS {
            state.arrivals.pop_front();
        }
        state.clones.pop()
    }

    /// Whether another is to be made ready. If so, it is counted until [`put`](Self::put).
    pub(super) fn begin(&self, key: &Key, most: usize) -> bool {
        let mut state = self.state();
        let there = state.clones.len() + state.n_making;
        let lacks = state.key.as_ref() == Some(key) && there < state.wanted(most, Instant::now());
        state.n_making += usize::from(lacks);
        lacks
    }

    /// Takes one that was made, or notes that it was not. One that nobody wants any more is dropped.
    pub(super) fn put(&self, key: &Key, made: Option<Copied>, took: Duration) {
        let mut state = self.state();
        state.n_making = state.n_making.saturating_sub(1);
        let Some(made) = made else { return };
        if state.key.as_ref() == Some(key) {
            state.making = took;
            state.clones.push(made);
        }
    }

    /// Whether nobody looks yet when they are no longer wanted.
    pub(super) fn watch(&self) -> bool {
        !std::mem::replace(&mut self.state().is_watched, true)
    }

    /// When to look again; or, when nobody has asked for long enough, all that are ready.
    pub(super) fn tidy(&self) -> Result<Instant, Vec<Copied>> {
        let mut state = self.state();
        let ends = state.arrivals.back().map(|last| *last + IDLE);
        match ends.filter(|ends| Instant::now() < *ends) {
            Some(ends) => Ok(ends),
            None => {
                state.is_watched = false;
                state.arrivals.clear();
                Err(std::mem::take(&mut state.clones))
            }
        }
    }

    /// All that are ready, and no more after them.
    pub(super) fn close(&self) -> Vec<Copied> {
        let mut state = self.state();
        state.key = None;
        std::mem::take(&mut state.clones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are wanted after arrivals at these seconds, `now` seconds in.
    fn wanted(arrivals: &[u64], making: u64, most: usize, now: u64) -> usize {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let state = State {
            arrivals: arrivals.iter().map(|seconds| at(*seconds)).collect(),
            making: Duration::from_secs(making),
            ..State::default()
        };
        state.wanted(most, at(now))
    }

    #[test]
    fn as_many_are_ready_as_come_while_one_is_made_and_one_more() {
        assert_eq!(wanted(&[], 1, 8, 0), 0, "nobody asked");
        assert_eq!(wanted(&[0], 1, 8, 60), 2, "one a minute");
        assert_eq!(
            wanted(&[0, 1, 2, 3, 4, 5, 6, 7], 2, 8, 8),
            3,
            "one a second"
        );
        assert_eq!(wanted(&[0, 0, 0, 0, 0, 0, 0, 0], 1, 8, 1), 8, "a crowd");
        assert_eq!(wanted(&[0, 1, 2, 3], 2, 1, 4), 1, "no more than may be");
        assert_eq!(wanted(&[0, 1], 1, 8, 121), 0, "nobody comes any more");
    }
}
