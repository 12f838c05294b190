//! What a command prints while it runs, as content of its call.
//!
//! Holds: a client is told the last [`SHOWN`] bytes at most every [`EVERY`], because the protocol has
//! a call's content told whole each time. The result of the call replaces it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::update::content;

/// Bytes shown of what was printed so far.
const SHOWN: usize = 8 << 10;
/// How often a client is told.
const EVERY: Duration = Duration::from_millis(100);

/// The output of the command that runs; a task runs one at a time.
#[derive(Debug, Default)]
pub(super) struct Output {
    call: String,
    text: String,
    /// When what is new is told; `None` when nothing is.
    due: Option<Instant>,
    told: Option<Instant>,
}

impl Output {
    pub(super) fn add(&mut self, call: &str, text: &str) {
        if self.call != call {
            *self = Self {
                call: call.to_owned(),
                ..Self::default()
            };
        }
        self.text.push_str(text);
        let cut = self.text.len().saturating_sub(SHOWN);
        self.text.drain(..self.text.ceil_char_boundary(cut));
        let next = self.told.map_or_else(Instant::now, |told| told + EVERY);
        self.due.get_or_insert(next);
    }

    /// The call has its result, which says all of it.
    pub(super) fn end(&mut self, call: &str) {
        if self.call == call {
            *self = Self::default();
        }
    }

    /// Waits until there is something to tell.
    pub(super) async fn is_due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Returns what is to be told by now.
    pub(super) fn take(&mut self) -> Option<Value> {
        let now = Instant::now();
        self.due.take_if(|due| *due <= now)?;
        self.told = Some(now);
        Some(json!({
            "sessionUpdate": "tool_call_update",
            "toolCallId": self.call,
            "status": "in_progress",
            "content": [content(&self.text)],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(update: Option<Value>) -> Option<String> {
        let update = update?;
        Some(update["content"][0]["content"]["text"].as_str()?.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_piece_is_told_at_once_and_the_others_together() {
        let mut output = Output::default();
        output.add("c1", "one\n");
        assert_eq!(shown(output.take()).unwrap(), "one\n");
        output.add("c1", "two\n");
        output.add("c1", "three\n");
        assert_eq!(output.take(), None, "so soon");
        output.is_due().await;
        assert_eq!(shown(output.take()).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(output.take(), None, "nothing is new");
        output.add("c1", "four\n");
        output.end("c1");
        assert_eq!(output.due, None, "the result says it");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_end_of_long_output_is_kept() {
        let mut output = Output::default();
        for _ in 0..SHOWN {
            output.add("c1", "ä");
        }
        assert_eq!(output.text.len(), SHOWN);
        output.add("c2", "x");
        assert_eq!(shown(output.take()).unwrap(), "x");
    }
}
