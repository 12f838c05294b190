//! What was said in a session, as a model is told it.
//!
//! Holds: the messages only grow at the end, so that prompt caches hit; when they no longer fit,
//! the oldest are left out in one step, which is written down, and a session read again from its
//! log is the same.

use crate::model::Message;
use crate::store::StoreError;
use crate::store::events::{EventKind, EventLog};

/// Events read from the log at a time.
const PAGE: usize = 2000;

/// Stands where a question got no answer: roles take turns.
const NO_ANSWER: &str = "(No answer was given.)";

/// Stands where a message must not be sent.
const LEFT_OUT: &str = "(This message is not shown.)";

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Conversation {
    /// Each with its position in the log.
    messages: Vec<(u64, Message)>,
    /// The number of the last turn.
    pub(super) turn: u32,
}

impl Conversation {
    /// Reads a session from the log.
    pub(super) fn read(log: &EventLog, session: &str) -> Result<Self, StoreError> {
        let mut read = Self::default();
        let mut from = 1;
        loop {
            let events = log.read_from(session, from, PAGE)?;
            let n_read = events.len();
            for event in events {
                from = event.seq + 1;
                read.turn = read.turn.max(event.turn);
                match event.kind {
                    EventKind::Entry { message } => read.push(event.seq, message),
                    EventKind::Compaction { up_to, .. } => {
                        read.messages.retain(|(seq, _)| *seq > up_to);
                    }
                    _ => {}
                }
            }
            if n_read < PAGE {
                return Ok(read);
            }
        }
    }

    pub(super) fn push(&mut self, seq: u64, message: Message) {
        self.messages.push((seq, message));
    }

    /// Returns the text of each message, with what the model thought before it.
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |message: &Message| match message {
            Message::User { text } | Message::ToolResult { text, .. } => text.clone(),
            Message::Assistant { text, thinking, .. } => {
                let thoughts = thinking.iter().map(|block| block.text.as_str());
                thoughts
                    .chain([text.as_str()])
                    .collect::<Vec<_>>()
                    .join("\n")
            }
        };
        self.messages
            .iter()
            .map(|(_, message)| text(message))
            .collect()
    }

    /// Has the model not told the `nth` message any more.
    pub(super) fn leave_out(&mut self, nth: usize) {
        let Some((_, message)) = self.messages.get_mut(nth) else {
            return;
        };
        *message = match message {
            Message::Assistant { .. } => Message::Assistant {
                text: LEFT_OUT.to_owned(),
                thinking: Vec::new(),
                calls: Vec::new(),
            },
            Message::User { .. } | Message::ToolResult { .. } => Message::User {
                text: LEFT_OUT.to_owned(),
            },
        };
    }

    /// Returns what the model is told, `next` last.
    pub(super) fn with(&self, next: &Message) -> Vec<Message> {
        let mut told: Vec<Message> = Vec::with_capacity(self.messages.len() + 1);
        let is_user = |message: &Message| matches!(message, Message::User { .. });
        for message in self.messages.iter().map(|(_, m)| m).chain([next]) {
            if is_user(message) && told.last().is_some_and(is_user) {
                told.push(Message::Assistant {
                    text: NO_ANSWER.to_owned(),
                    thinking: Vec::new(),
                    calls: Vec::new(),
                });
            }
            told.push(message.clone());
        }
        told
    }

    /// Leaves out the oldest messages when all together are more than `most` tokens, so many that
    /// half of it is free again. Returns the event that says so.
    pub(super) fn fit(&mut self, most: usize) -> Option<EventKind> {
        let tokens = |messages: &[(u64, Message)]| -> usize {
            messages.iter().map(|(_, m)| estimate(m)).sum()
        };
        let before = tokens(&self.messages);
        if before <= most {
            return None;
        }
        let is_question = |at: &usize| matches!(self.messages[*at].1, Message::User { .. });
        let mut questions = (0..self.messages.len()).filter(is_question);
        let first_kept = questions
            .find(|&at| tokens(&self.messages[at..]) <= most / 2)
            .unwrap_or(self.messages.len());
        let left_out: Vec<(u64, Message)> = self.messages.drain(..first_kept).collect();
        Some(EventKind::Compaction {
            before: before as u64,
            after: tokens(&self.messages) as u64,
            summary: String::new(),
            up_to: left_out.last().map_or(0, |(seq, _)| *seq),
        })
    }
}

/// Tokens of a message, roughly: three bytes each, so that code is not underestimated.
pub(super) fn estimate(message: &Message) -> usize {
    let bytes = match message {
        Message::User { text } | Message::ToolResult { text, .. } => text.len(),
        Message::Assistant {
            text,
            thinking,
            calls,
        } => {
            let thoughts: usize = thinking.iter().map(|block| block.text.len()).sum();
            let calls: usize = calls.iter().map(|call| call.arguments.len()).sum();
            text.len() + thoughts + calls
        }
    };
    bytes / 3 + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::User {
            text: text.to_owned(),
        }
    }

    fn assistant(text: &str) -> Message {
        Message::Assistant {
            text: text.to_owned(),
            thinking: Vec::new(),
            calls: Vec::new(),
        }
    }

    #[test]
    fn a_question_without_answer_keeps_roles_in_turn() {
        let mut conversation = Conversation::default();
        conversation.push(1, user("a"));
        let told = conversation.with(&user("b"));
        assert_eq!(told, [user("a"), assistant(NO_ANSWER), user("b")]);
    }

    #[test]
    fn the_oldest_are_left_out_in_one_step_and_whole_turns_stay() {
        let mut conversation = Conversation::default();
        for nth in 0..10 {
            conversation.push(2 * nth, user(&"q".repeat(300)));
            conversation.push(2 * nth + 1, assistant(&"a".repeat(300)));
        }
        assert_eq!(conversation.fit(10_000), None);
        let left_out = conversation.fit(2_000);
        let Some(EventKind::Compaction { up_to, after, .. }) = left_out else {
            panic!("{left_out:?}")
        };
        assert_eq!((up_to, conversation.messages[0].0), (11, 12));
        assert!(after <= 1_000);
        assert_eq!(conversation.messages[0].1, user(&"q".repeat(300)));
        assert_eq!(conversation.fit(2_000), None, "it fits for a while");
    }
}
