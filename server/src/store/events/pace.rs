//! How often pieces of an answer are passed on: the first at once, those that come close behind one
//! another together.

use std::time::Duration;

use tokio::time::Instant;

use super::EventKind;

/// Time between two batches of pieces. Longer than a page takes to draw nothing is held back; a
/// model of a thousand tokens a second becomes 250 events.
const STEP: Duration = Duration::from_millis(4);

/// Pieces that wait to be passed on.
#[derive(Debug, Default)]
pub struct Pace {
    pending: Vec<EventKind>,
    last: Option<Instant>,
}

impl Pace {
    pub fn text(&mut self, piece: &str) {
        match self.pending.last_mut() {
            Some(EventKind::Message { text }) => text.push_str(piece),
            _ => self.pending.push(EventKind::Message {
                text: piece.to_owned(),
            }),
        }
    }

    pub fn thought(&mut self, piece: &str) {
        match self.pending.last_mut() {
            Some(EventKind::Thought { text }) => text.push_str(piece),
            _ => self.pending.push(EventKind::Thought {
                text: piece.to_owned(),
            }),
        }
    }

    /// Adds what is no piece of a text, behind the pieces before it.
    pub fn notice(&mut self, text: String) {
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
        std::mem::take(&mut self.pending)
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
