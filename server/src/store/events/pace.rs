//! How often pieces of an answer are passed on: the first at once, those that come close behind one
//! another together.
//!
//! Holds: what is passed on has no secret that is cut in two ([`Stream`]); texts and thoughts keep
//! their order.

use std::mem::take;
use std::time::Duration;

use tokio::time::Instant;

use super::EventKind;
use crate::secret::Stream;

/// Time between two batches of pieces. Longer than a page takes to draw nothing is held back; a
/// model of a thousand tokens a second becomes 250 events.
const STEP: Duration = Duration::from_millis(4);

/// Pieces that wait to be passed on.
#[derive(Debug, Default)]
pub struct Pace {
    pending: Vec<EventKind>,
    last: Option<Instant>,
    /// The text that is being written, and whether it is a thought.
    stream: Stream,
    is_thought: bool,
}

impl Pace {
    pub fn text(&mut self, piece: &str) {
        self.go_on(piece, false);
    }

    pub fn thought(&mut self, piece: &str) {
        self.go_on(piece, true);
    }

    fn go_on(&mut self, piece: &str, is_thought: bool) {
        if self.is_thought != is_thought {
            self.end_text();
            self.is_thought = is_thought;
        }
        let shown = self.stream.take(piece);
        self.add(shown);
    }

    /// Lets go of what was held back, as the text goes on no more.
    fn end_text(&mut self) {
        let shown = take(&mut self.stream).finish();
        self.add(shown);
    }

    fn add(&mut self, shown: String) {
        if shown.is_empty() {
            return;
        }
        match (self.is_thought, self.pending.last_mut()) {
            (false, Some(EventKind::Message { text }))
            | (true, Some(EventKind::Thought { text })) => text.push_str(&shown),
            (false, _) => self.pending.push(EventKind::Message { text: shown }),
            (true, _) => self.pending.push(EventKind::Thought { text: shown }),
        }
    }

    /// Adds what is no piece of a text, behind the pieces before it.
    pub fn notice(&mut self, text: String) {
        self.end_text();
        self.pending.push(EventKind::Notice { text });
    }

    /// Returns when what waits is to be passed on; never while nothing waits.
    pub async fn wait(&self) {
        match self.due() {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn due(&self) -> Option<Instant> {
        let is_empty = self.pending.is_empty();
        (!is_empty).then(|| self.last.map_or_else(Instant::now, |last| last + STEP))
    }

    /// Takes what waits, to be passed on now.
    pub fn take(&mut self) -> Vec<EventKind> {
        self.last = Some(Instant::now());
        take(&mut self.pending)
    }

    /// Takes what waits and what was held back, as no text goes on behind it.
    pub fn finish(&mut self) -> Vec<EventKind> {
        self.end_text();
        self.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_piece_goes_at_once_and_the_others_a_few_milliseconds_later() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.due(), None);
        let mut sent = Vec::new();
        for nth in 0..1000 {
            pace.text(&format!("{nth} "));
            if pace.due().is_some_and(|due| due <= Instant::now()) {
                sent.push((start.elapsed(), pace.take()));
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(sent[0].0, Duration::ZERO);
        assert_eq!(sent.len(), 250);
        let all: usize = sent.iter().map(|(_, events)| events.len()).sum();
        assert_eq!(all, sent.len(), "pieces of one kind become one event");
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_is_cut_is_held_until_it_is_whole() {
        let shown = |kinds: Vec<EventKind>| format!("{kinds:?}");
        let mut pace = Pace::default();
        pace.text("use ghp_16C7e42F292c");
        assert_eq!(shown(pace.take()), r#"[Message { text: "use " }]"#);
        pace.text("6912E7710c838347");
        assert_eq!(pace.due(), None);
        pace.text("Ae178B4a now");
        let clean = r#"[Message { text: "[redacted key] now" }]"#;
        assert_eq!(shown(pace.take()), clean);
        pace.thought("the token = abc123");
        pace.text("token = def");
        pace.text("456");
        let clean = r#"[Thought { text: "the token = abc123" }, Message { text: "token = " }]"#;
        assert_eq!(shown(pace.take()), clean);
        let clean = r#"[Message { text: "def456" }]"#;
        assert_eq!(shown(pace.finish()), clean);
    }

    #[tokio::test(start_paused = true)]
    async fn thoughts_and_text_keep_their_order() {
        let mut pace = Pace::default();
        pace.thought("a");
        pace.thought("b");
        pace.text("c");
        pace.thought("d");
        let shown: Vec<String> = pace.take().iter().map(|e| format!("{e:?}")).collect();
        let expected = [
            r#"Thought { text: "ab" }"#,
            r#"Message { text: "c" }"#,
            r#"Thought { text: "d" }"#,
        ];
        assert_eq!(shown, expected);
    }
}
