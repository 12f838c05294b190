//! Figures beside their targets, as a Markdown table.

use std::fmt;
use std::time::Duration;

/// Rows of what was measured, what it should be, and what other programs were measured at.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 4]>);

impl Table {
    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        measured: impl Into<String>,
        target: &str,
        others: &str,
    ) {
        self.0
            .push([what.into(), measured.into(), target.into(), others.into()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | measured | target | others |\n|---|---|---|---|")?;
        for [what, measured, target, others] in &self.0 {
            writeln!(f, "| {what} | {measured} | {target} | {others} |")?;
        }
        Ok(())
    }
}

/// Times of one thing done many times.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that `share` of all are not above; zero when there are none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        sorted.get(at).copied().unwrap_or_default()
    }
}

/// Median, 99th percentile and worst, in milliseconds.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, worst] = [0.5, 0.99, 1.0].map(|share| ms(self.quantile(share)));
        let n = self.len();
        write!(f, "{median} / {p99} / {worst} ms (n = {n})")
    }
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
