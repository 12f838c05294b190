//! An answer while it is being written, in any dialect.
//!
//! Holds: what may be passed on at once is; a tool call or a block of thinking is passed on when
//! it is whole, the pieces of a call besides, to be shown. Text, calls and their arguments are
//! bounded.

use std::time::Duration;

use super::{Thinking, ToolCall, TurnEnd, TurnEvent, TurnUsage};
use crate::model::failure::Failure;

/// Most calls in one answer.
const MOST_CALLS: usize = 128;

/// Longest name or id of a call, in bytes.
const LONGEST_NAME: usize = 512;

/// Collects what the events of an answer say.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Events to be passed on.
    pub(super) out: Vec<TurnEvent>,
    pub(super) usage: Option<TurnUsage>,
    /// Why the model stopped, once it said so.
    pub(super) end: Option<TurnEnd>,
    /// The server says that nothing more comes.
    pub(super) last: bool,
    /// Bytes of text, thinking and calls.
    pub(super) size: usize,
    /// The call whose pieces are coming.
    open: Option<OpenCall>,
    thought: Option<Thinking>,
    n_calls: usize,
}

#[derive(Debug)]
struct OpenCall {
    /// What later pieces name it by.
    place: u64,
    call: ToolCall,
}

impl Draft {
    pub(super) fn text(&mut self, text: &str) {
        self.end_thought(None);
        if text.is_empty() {
            return;
        }
        self.size += text.len();
        match self.out.last_mut() {
            Some(TurnEvent::Text(before)) => before.push_str(text),
            _ => self.out.push(TurnEvent::Text(text.to_owned())),
        }
    }

    pub(super) fn thinking(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.size += text.len();
        self.thought.get_or_insert_default().text.push_str(text);
        match self.out.last_mut() {
            Some(TurnEvent::Thinking(before)) => before.push_str(text),
            _ => self.out.push(TurnEvent::Thinking(text.to_owned())),
        }
    }

    /// Adds to the proof of the block of thinking that is open.
    pub(super) fn sign(&mut self, signature: &str) {
        self.size += signature.len();
        let thought = self.thought.get_or_insert_default();
        thought
            .signature
            .get_or_insert_default()
            .push_str(signature);
    }

    /// Ends a block of thinking, if one is open, or one that is shown to nobody.
    pub(super) fn end_thought(&mut self, hidden: Option<&str>) {
        if let Some(thought) = self.thought.take() {
            self.out.push(TurnEvent::Thought(thought));
        }
        if let Some(hidden) = hidden {
            self.size += hidden.len();
            self.out.push(TurnEvent::Thought(Thinking {
                hidden: Some(hidden.to_owned()),
                ..Thinking::default()
            }));
        }
    }

    /// Begins a call, which later pieces name by `place`. The call before it is whole.
    ///
    /// # Errors
    /// [`Failure::Garbage`] when there are too many, or the name is no name.
    pub(super) fn begin_call(
        &mut self,
        place: u64,
        id: Option<&str>,
        name: &str,
    ) -> Result<(), Failure> {
        self.end_thought(None);
        self.end_call();
        self.n_calls += 1;
        if self.n_calls > MOST_CALLS {
            return Err(Failure::Garbage("it calls too many tools".to_owned()));
        }
        if name.len() > LONGEST_NAME || id.is_some_and(|id| id.len() > LONGEST_NAME) {
            return Err(Failure::Garbage(
                "the name of a tool is too long".to_owned(),
            ));
        }
        let id = id.filter(|id| !id.is_empty()).map_or_else(
            || format!("call_{}", uuid::Uuid::now_v7().simple()),
            str::to_owned,
        );
        self.open = Some(OpenCall {
            place,
            call: ToolCall {
                id,
                name: name.to_owned(),
                arguments: String::new(),
            },
        });
        Ok(())
    }

    /// Returns the id of the open call, if `place` does not name another.
    pub(super) fn open_call(&self, place: Option<u64>) -> Option<&str> {
        let open = self.open.as_ref()?;
        (place.is_none_or(|place| place == open.place)).then_some(open.call.id.as_str())
    }

    /// Adds a piece to the arguments of the open call.
    pub(super) fn extend_call(&mut self, arguments: &str) {
        self.size += arguments.len();
        let Some(open) = &mut self.open else { return };
        open.call.arguments.push_str(arguments);
        match self.out.last_mut() {
            Some(TurnEvent::Calling { nth, piece, .. }) if *nth == self.n_calls => {
                piece.push_str(arguments);
            }
            _ => self.out.push(TurnEvent::Calling {
                nth: self.n_calls,
                name: open.call.name.clone(),
                piece: arguments.to_owned(),
            }),
        }
    }

    /// Passes on the open call: it is whole.
    pub(super) fn end_call(&mut self) {
        if let Some(mut open) = self.open.take() {
            if open.call.arguments.trim().is_empty() {
                open.call.arguments = "{}".to_owned();
            }
            self.out.push(TurnEvent::Call(open.call));
        }
    }

    /// Ends the answer: passes on what is whole, usage and the end.
    ///
    /// # Errors
    /// [`Failure::Cut`] when the model did not say that it was done.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let end = match self.end {
            Some(end) => end,
            None if self.last => TurnEnd::Stop,
            None => return Err(Failure::Cut),
        };
        self.end_thought(None);
        if end == TurnEnd::Length {
            // What the limit cut off would be run with half of its arguments.
            self.open.take_if(|open| !is_object(&open.call.arguments));
        }
        self.end_call();
        let end = match (end, self.n_calls) {
            // Some servers say "stop" although there are calls, or the other way round.
            (TurnEnd::Stop, 1..) => TurnEnd::ToolCalls,
            (TurnEnd::ToolCalls, 0) => TurnEnd::Stop,
            (end, _) => end,
        };
        self.out.extend(self.usage.map(TurnEvent::Usage));
        self.out.push(TurnEvent::End(end));
        Ok(())
    }

    /// Whether a piece of the answer was passed on: asking again would repeat it.
    pub(super) fn has_spoken(&self) -> bool {
        self.size > 0 || self.n_calls > 0
    }
}

fn is_object(json: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json).is_ok()
}

/// Time to wait for the count of tokens after the model was done.
pub(super) const USAGE_PATIENCE: Duration = Duration::from_secs(2);
