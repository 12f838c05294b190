//! Turns of a conversation: what a chat or agent model is asked, and what it answers piece by
//! piece.
//!
//! Holds: a request is a plain value that can be stored and sent again, and the same messages
//! always make the same bytes, so that the prompt caches of servers hit. Texts are passed on as
//! they come, and so is what calls are written of, to be shown; a call is one only when it is whole.
//! Dropping the stream ends the request at the server.
//! Not here: what the tools are and whether a call may run (`agent`), what is put into a prompt
//! (`chat`, `agent`), how a dialect writes and reads all this (`turn::{openai, anthropic,
//! ollama}`), when it is asked again (`turn::ask`).

mod anthropic;
mod ask;
mod draft;
mod endpoint;
mod ollama;
mod openai;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::ask::{TurnModel, TurnStream};
pub use self::endpoint::{Prices, TurnApi, TurnEndpoint};

/// One request for the next turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnRequest {
    /// Instructions, the same for every turn of a session: prompt caches begin here.
    pub system: String,
    /// The conversation so far; the last is what is to be answered.
    pub messages: Vec<Message>,
    /// In an order that stays the same over a session.
    pub tools: Vec<ToolSpec>,
    /// The most tokens the model may write, thinking included.
    pub max_tokens: u32,
    /// `None` leaves it to the server; some models accept nothing else.
    pub temperature: Option<f32>,
}

/// One message of a conversation, stored in the event log as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "role",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Message {
    User {
        text: String,
    },
    Assistant {
        text: String,
        /// Sent back to servers that want to see their own thoughts again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        thinking: Vec<Thinking>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<ToolCall>,
    },
    /// What came of one call. Every call of an assistant message has exactly one, before the
    /// next message of another kind.
    ToolResult {
        /// [`ToolCall::id`].
        call: String,
        text: String,
        #[serde(default)]
        failed: bool,
    },
}

/// One block of thinking, as the server wants it back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Thinking {
    pub text: String,
    /// The server's proof that the text is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// A block the server shows to nobody, as it wrote it; `text` is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
}

/// A tool the model wants to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolCall {
    /// Unique within a conversation; made up where the server gives none.
    pub id: String,
    pub name: String,
    /// JSON as the model wrote it, perhaps malformed; `{}` when it wrote nothing.
    pub arguments: String,
}

/// A tool the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments: an object.
    pub schema: Value,
}

/// What happens while a turn is written.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnEvent {
    /// The next piece of the answer.
    Text(String),
    /// The next piece of what the model thinks, to be shown.
    Thinking(String),
    /// A whole block of thinking, to be sent back in [`Message::Assistant`].
    Thought(Thinking),
    /// The next piece of the arguments of a call, which is not whole yet and may never be.
    Calling {
        /// Counts the calls of the answer, from 1.
        nth: usize,
        name: String,
        piece: String,
    },
    /// A whole call.
    Call(ToolCall),
    /// At most once, before the end.
    Usage(TurnUsage),
    /// Nothing was answered yet; the server is asked again after a pause.
    Retry { why: String, after: Duration },
    /// Nothing was answered, and another model is asked instead.
    Fallback {
        why: String,
        /// Its name and its place.
        model: String,
        place: String,
    },
    /// The last event of a good answer.
    End(TurnEnd),
}

/// What a turn took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnUsage {
    /// Tokens of the prompt, those from a cache among them.
    pub input: u64,
    pub output: u64,
    /// Tokens of the prompt that the server had in its cache.
    pub cached: u64,
    /// Tokens of the prompt that were put into the cache, where that is paid for.
    #[serde(default)]
    pub written: u64,
    /// In US dollars, where the server says it or prices are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TurnEnd {
    /// The model was done.
    Stop,
    /// The model waits for the results of its calls.
    ToolCalls,
    /// `max_tokens` or the window was full. A call cut off by it is not passed on.
    Length,
    /// The model or its provider declined.
    Refused,
}

/// An answer collected from its events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    pub text: String,
    pub thinking: Vec<Thinking>,
    pub calls: Vec<ToolCall>,
    pub usage: Option<TurnUsage>,
    /// The name of the model that answers, where it is not the first.
    pub fallback: Option<String>,
    /// `None` while it is being written, and when it was cut.
    pub end: Option<TurnEnd>,
}

impl Reply {
    /// Adds what `event` says.
    pub fn take(&mut self, event: &TurnEvent) {
        match event {
            TurnEvent::Text(text) => self.text.push_str(text),
            TurnEvent::Thought(thinking) => self.thinking.push(thinking.clone()),
            TurnEvent::Call(call) => self.calls.push(call.clone()),
            TurnEvent::Usage(usage) => self.usage = Some(*usage),
            TurnEvent::Fallback { model, .. } => self.fallback = Some(model.clone()),
            TurnEvent::End(end) => self.end = Some(*end),
            TurnEvent::Thinking(_) | TurnEvent::Calling { .. } | TurnEvent::Retry { .. } => {}
        }
    }

    /// Returns the answer as the next message of the conversation.
    pub fn message(&self) -> Message {
        Message::Assistant {
            text: self.text.clone(),
            thinking: self.thinking.clone(),
            calls: self.calls.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
