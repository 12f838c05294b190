//! How often pieces of an answer are passed on: the first at once, the others together, at most
//! thirty times a second.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::events::EventKind;

/// Time between two batches of pieces.
pub(super) const STEP: Duration = Duration::from_millis(34);

/// Pieces that wait to be passed on.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pending: Vec<EventKind>,
    last: Option<Instant>,
}

impl Pace {
    pub(super) fn text(&mut self, piece: &str) {
        match self.pending.last_mut() {
            Some(EventKind::Message { text }) => text.push_str(piece),
            _ => self.pending.push(EventKind::Message {
                text: piece.to_owned(),
            }),
        }
    }

    pub(super) fn thought(&mut self, piece: &str) {
        match self.pending.last_mut() {
            Some(EventKind::Thought { text }) => text.push_str(piece),
            _ => self.pending.push(EventKind::Thought {
                text: piece.to_owned(),
            }),
        }
    }

    /// When what waits is to be passed on; `None` when nothing waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let is_empty = self.pending.is_empty();
        (!is_empty).then(|| self.last.map_or_else(Instant::now, |last| last + STEP))
    }

    /// Takes what waits, to be passed on now.
    pub(super) fn take(&mut self) -> Vec<EventKind> {
        self.last = Some(Instant::now());
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_piece_goes_at_once_and_the_others_thirty_times_a_second() {
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
        assert!((25..=30).contains(&sent.len()), "{}", sent.len());
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
