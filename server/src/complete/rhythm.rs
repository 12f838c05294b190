//! How long to wait before a model is asked: the typing rhythm decides.
//!
//! A keystroke after a pause is answered at once. Within a burst that is faster than anyone reads,
//! the request waits for about one more key, so that ten keys cost two requests and not ten. At
//! ordinary typing speed waiting would cost more than it saves: cancelled streams are cheap.

use std::time::{Duration, Instant};

/// Gaps shorter than this belong to a burst (held keys, pasted text, very fast typing).
const BURST: Duration = Duration::from_millis(64);
/// Waited beyond the usual gap, so that the next key of a steady burst is still in time.
const GUARD: Duration = Duration::from_micros(1500);

/// Requests that editors make on their own come this soon after the edit.
const FOLLOWS: Duration = Duration::from_millis(300);

/// The gaps between the edits of one document.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rhythm {
    last: Option<Instant>,
    gap: Option<Duration>,
}

impl Rhythm {
    /// Notes an edit.
    pub fn edited(&mut self, now: Instant) {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        self.gap = match (self.gap, since.filter(|s| *s < BURST)) {
            (Some(usual), Some(gap)) => Some((usual + gap) / 2),
            (None, gap) => gap,
            (Some(_), None) => None,
        };
        self.last = Some(now);
    }

    /// Whether the last edit was so recent that a request now follows from it.
    pub fn is_typing(&self, now: Instant) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) < FOLLOWS)
    }

    /// Returns how long a request made now should wait for another keystroke.
    pub fn delay(&self) -> Duration {
        self.gap
            .map_or(Duration::ZERO, |gap| (gap + GUARD).min(BURST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the delays, in ms, after each of edits that are `gaps` ms apart.
    fn delays(gaps: &[u64]) -> Vec<u64> {
        let mut rhythm = Rhythm::default();
        let mut now = Instant::now();
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap();
        gaps.iter()
            .map(|gap| {
                now += Duration::from_millis(*gap);
                rhythm.edited(now);
                ms(rhythm.delay())
            })
            .collect()
    }

    #[test]
    fn only_bursts_are_waited_for() {
        assert_eq!(delays(&[0, 150, 120, 400]), [0, 0, 0, 0], "ordinary typing");
        assert_eq!(delays(&[0, 30, 30, 30]), [0, 31, 31, 31], "a burst");
        assert_eq!(delays(&[0, 30, 500, 30]), [0, 31, 0, 31], "a pause ends it");
        assert_eq!(
            delays(&[0, 63, 63]),
            [0, 64, 64],
            "never longer than a burst's gap"
        );
    }
}
