//! Turns of a conversation: how each dialect streams one, and what a request must hold to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::{Ending, Text};
use crate::log::Log;
use crate::route::Route;

/// In a piece of text: microseconds since the Unix epoch when the piece is sent.
pub const NOW: &str = "{now}";

/// One turn as a script gives it.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Pieces of thinking.
    pub thinking: Vec<String>,
    /// Pieces of text.
    pub text: Vec<String>,
    pub calls: Vec<Call>,
    /// Before each frame but the first.
    pub gap: Duration,
    pub ending: Ending,
    /// Prompt tokens, and of them those from the cache.
    pub input: u64,
    pub cached: u64,
}

/// A tool call as a model writes it.
#[derive(Debug, Clone)]
pub struct Call {
    pub id: String,
    pub name: String,
    /// JSON, or what the script wants the model to write instead.
    pub arguments: String,
}

impl Call {
    pub fn new(id: &str, name: &str, arguments: &impl ToString) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_string(),
        }
    }
}

impl From<&Text> for Turn {
    fn from(text: &Text) -> Self {
        Self {
            gap: text.gap,
            ending: text.ending,
            input: text.prompt_tokens,
            ..Self::pieces(text.pieces.clone())
        }
    }
}

impl Turn {
    /// Text alone, in one piece.
    pub fn text(text: &str) -> Self {
        Self::pieces([text])
    }

    pub fn pieces<S: Into<String>>(pieces: impl IntoIterator<Item = S>) -> Self {
        Self {
            thinking: Vec::new(),
            text: pieces.into_iter().map(Into::into).collect(),
            calls: Vec::new(),
            gap: Duration::ZERO,
            ending: Ending::Proper,
            input: 40,
            cached: 0,
        }
    }

    /// Tool calls, after `text`.
    pub fn calls(text: &str, calls: impl IntoIterator<Item = Call>) -> Self {
        Self {
            calls: calls.into_iter().collect(),
            ..Self::text(text)
        }
    }

    #[must_use]
    pub fn with_thinking(mut self, pieces: &[&str]) -> Self {
        self.thinking = pieces.iter().map(ToString::to_string).collect();
        self
    }

    #[must_use]
    pub fn with_gap(mut self, gap: Duration) -> Self {
        self.gap = gap;
        self
    }

    #[must_use]
    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    #[must_use]
    pub fn with_usage(mut self, input: u64, cached: u64) -> Self {
        (self.input, self.cached) = (input, cached);
        self
    }

    fn output(&self) -> usize {
        self.thinking.len() + self.text.len() + self.calls.len()
    }

    /// The turn as `route` streams it; a turn that does not end properly lacks what ends it.
    pub(crate) fn frames(&self, route: Route) -> Vec<String> {
        match route {
            Route::Messages => self.anthropic(),
            Route::OllamaChat => self.ollama(),
            _ => self.openai(),
        }
    }

    fn openai(&self) -> Vec<String> {
        let chunk = |delta: Value, reason: Option<&str>| {
            event(&json!({
                "object": "chat.completion.chunk",
                "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }],
            }))
        };
        let mut frames = vec![chunk(json!({ "role": "assistant", "content": "" }), None)];
        let thoughts = self.thinking.iter();
        frames.extend(thoughts.map(|t| chunk(json!({ "reasoning_content": t }), None)));
        let texts = self.text.iter().filter(|text| !text.is_empty());
        frames.extend(texts.map(|t| chunk(json!({ "content": t }), None)));
        for (index, call) in self.calls.iter().enumerate() {
            let begin = json!({
                "index": index, "id": call.id, "type": "function",
                "function": { "name": call.name, "arguments": "" },
            });
            frames.push(chunk(json!({ "tool_calls": [begin] }), None));
            for piece in halves(&call.arguments) {
                let piece = json!({ "index": index, "function": { "arguments": piece } });
                frames.push(chunk(json!({ "tool_calls": [piece] }), None));
            }
        }
        if let Some(reason) = self.reason("stop", "tool_calls", "length") {
            frames.push(chunk(json!({}), Some(reason)));
            frames.push(event(&json!({ "choices": [], "usage": {
                "prompt_tokens": self.input, "completion_tokens": self.output(),
                "prompt_tokens_details": { "cached_tokens": self.cached },
            }})));
            frames.push("data: [DONE]\n\n".to_owned());
        }
        frames
    }

    fn anthropic(&self) -> Vec<String> {
        let named = |event: Value| {
            let name = event["type"].as_str().unwrap_or_default().to_owned();
            format!("event: {name}\ndata: {event}\n\n")
        };
        let usage = json!({
            "input_tokens": self.input - self.cached, "cache_read_input_tokens": self.cached,
            "cache_creation_input_tokens": 0, "output_tokens": 1,
        });
        let mut frames = vec![
            named(
                json!({ "type": "message_start", "message": { "role": "assistant", "content": [], "usage": usage } }),
            ),
            named(json!({ "type": "ping" })),
        ];
        let mut index = 0;
        let mut block = |start: Value, deltas: Vec<Value>, is_whole: bool| {
            frames.push(named(
                json!({ "type": "content_block_start", "index": index, "content_block": start }),
            ));
            frames.extend(deltas.into_iter().map(|delta| {
                named(json!({ "type": "content_block_delta", "index": index, "delta": delta }))
            }));
            if is_whole {
                frames.push(named(
                    json!({ "type": "content_block_stop", "index": index }),
                ));
            }
            index += 1;
        };
        let is_proper = matches!(self.ending, Ending::Proper | Ending::Length);
        if !self.thinking.is_empty() {
            let thought = |t: &String| json!({ "type": "thinking_delta", "thinking": t });
            let mut deltas: Vec<Value> = self.thinking.iter().map(thought).collect();
            deltas.push(json!({ "type": "signature_delta", "signature": "c2ln" }));
            block(
                json!({ "type": "thinking", "thinking": "", "signature": "" }),
                deltas,
                true,
            );
        }
        if self.text.iter().any(|text| !text.is_empty()) {
            let text = |t: &String| json!({ "type": "text_delta", "text": t });
            let deltas = self.text.iter().map(text).collect();
            let is_whole = is_proper || !self.calls.is_empty();
            block(json!({ "type": "text", "text": "" }), deltas, is_whole);
        }
        for call in &self.calls {
            let piece = |p: &str| json!({ "type": "input_json_delta", "partial_json": p });
            let deltas = halves(&call.arguments).into_iter().map(piece).collect();
            let start =
                json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
            block(start, deltas, is_proper);
        }
        if let Some(reason) = self.reason("end_turn", "tool_use", "max_tokens") {
            frames.push(named(json!({
                "type": "message_delta", "delta": { "stop_reason": reason },
                "usage": { "output_tokens": self.output() },
            })));
            frames.push(named(json!({ "type": "message_stop" })));
        }
        frames
    }

    fn ollama(&self) -> Vec<String> {
        let line = |message: Value| format!("{}\n", json!({ "message": message, "done": false }));
        let mut frames: Vec<String> = Vec::new();
        let thoughts = self.thinking.iter();
        frames.extend(
            thoughts.map(|t| line(json!({ "role": "assistant", "content": "", "thinking": t }))),
        );
        let texts = self.text.iter().filter(|text| !text.is_empty());
        frames.extend(texts.map(|t| line(json!({ "role": "assistant", "content": t }))));
        for call in &self.calls {
            let arguments: Value = serde_json::from_str(&call.arguments)
                .unwrap_or_else(|_| call.arguments.clone().into());
            let call = json!({ "function": { "name": call.name, "arguments": arguments } });
            frames.push(line(
                json!({ "role": "assistant", "content": "", "tool_calls": [call] }),
            ));
        }
        if let Some(reason) = self.reason("stop", "stop", "length") {
            let last = json!({
                "message": { "role": "assistant", "content": "" }, "done": true,
                "done_reason": reason, "prompt_eval_count": self.input, "eval_count": self.output(),
            });
            frames.push(format!("{last}\n"));
        }
        frames
    }

    fn reason<'a>(&self, done: &'a str, calls: &'a str, length: &'a str) -> Option<&'a str> {
        match self.ending {
            Ending::Proper if self.calls.is_empty() => Some(done),
            Ending::Proper => Some(calls),
            Ending::Length => Some(length),
            Ending::Bare | Ending::Cut | Ending::Hang | Ending::Endless => None,
        }
    }
}

fn event(json: &Value) -> String {
    format!("data: {json}\n\n")
}

/// Arguments come in pieces that are no JSON by themselves.
fn halves(text: &str) -> [&str; 2] {
    let middle = (text.len() / 2..=text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or_default();
    let (first, second) = text.split_at(middle);
    [first, second]
}

/// What is said in a conversation, without the words of its dialect.
enum Part {
    Call(String),
    Result(String),
    Other,
}

/// Refuses what the strictest real server would: a request that does not stream, has no limit,
/// an empty message, two roles in a row (Anthropic), a call without its one result right after
/// it, a result without its call, or two tools of one name.
pub(crate) fn fault(route: Route, body: &Value) -> Option<String> {
    if body["stream"] != Value::Bool(true) {
        return Some("this server only streams".to_owned());
    }
    let limits = [
        "/max_tokens",
        "/max_completion_tokens",
        "/options/num_predict",
    ];
    if !limits.iter().any(|limit| body.pointer(limit).is_some()) {
        return Some("max_tokens is missing".to_owned());
    }
    if route == Route::OllamaChat && body.pointer("/options/num_ctx").is_none() {
        return Some("without num_ctx the prompt would be cut".to_owned());
    }
    let tools = body["tools"].as_array().map_or(&[][..], Vec::as_slice);
    let mut names: Vec<&str> = tools
        .iter()
        .filter_map(|tool| {
            tool.pointer("/function/name")
                .or_else(|| tool.get("name"))?
                .as_str()
        })
        .collect();
    names.sort_unstable();
    if names.len() != tools.len() || names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Some("tools need names of their own".to_owned());
    }
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    if messages.iter().all(|message| message["role"] == "system") {
        return Some("there is no message".to_owned());
    }
    if route == Route::Messages {
        let twice = messages
            .windows(2)
            .any(|pair| pair[0]["role"] == pair[1]["role"]);
        if twice || messages[0]["role"] != "user" {
            return Some("roles must alternate, beginning with the user".to_owned());
        }
    }
    unpaired(route, messages)
}

/// Finds a call that has not exactly one result before the next other message.
fn unpaired(route: Route, messages: &[Value]) -> Option<String> {
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        let parts = parts(route, message);
        if parts.is_empty() {
            return Some(format!("a message is empty: {message}"));
        }
        for part in parts {
            match part {
                Part::Result(id) => match open.iter().position(|known| *known == id) {
                    Some(at) => drop(open.remove(at)),
                    None => return Some(format!("a result for {id:?}, which was not called")),
                },
                Part::Call(id) if open.contains(&id) && route != Route::OllamaChat => {
                    return Some(format!("two calls are named {id:?}"));
                }
                Part::Call(id) => open.push(id),
                Part::Other if open.is_empty() => {}
                // Text may stand between thoughts and calls of one message, not after calls.
                Part::Other => return Some(format!("no result for {:?}", open[0])),
            }
        }
    }
    open.first().map(|id| format!("no result for {id:?}"))
}

fn parts(route: Route, message: &Value) -> Vec<Part> {
    let id = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if route == Route::Messages {
        let blocks = message["content"].as_array().map_or(&[][..], Vec::as_slice);
        let part = |block: &Value| match block["type"].as_str()? {
            "tool_use" if block["input"].is_object() => Some(Part::Call(id(&block["id"]))),
            "tool_result" => Some(Part::Result(id(&block["tool_use_id"]))),
            "text" if !block["text"].as_str()?.trim().is_empty() => Some(Part::Other),
            "thinking" if !block["signature"].as_str()?.is_empty() => Some(Part::Other),
            "redacted_thinking" => Some(Part::Other),
            _ => None,
        };
        let parts: Option<Vec<Part>> = blocks.iter().map(part).collect();
        return parts.unwrap_or_default();
    }
    if message["role"] == "tool" {
        // Ollama knows results by the name of their tool.
        let name = message
            .get("tool_call_id")
            .or_else(|| message.get("tool_name"));
        return name
            .map(|name| Part::Result(id(name)))
            .into_iter()
            .collect();
    }
    let calls = message["tool_calls"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut parts: Vec<Part> = Vec::new();
    if message["content"].is_string() {
        parts.push(Part::Other);
    }
    parts.extend(calls.iter().map(|call| {
        let name = call.get("id").unwrap_or(&call["function"]["name"]);
        Part::Call(id(name))
    }));
    parts
}

/// Finds a request that repeats a conversation otherwise than it was sent before, so that no
/// prompt cache can be used: conversations are told apart by their first message, marks for
/// caches do not count. `None` when every conversation only grew.
pub fn broken_prefix(log: &Log) -> Option<String> {
    let turns: Vec<(usize, Value)> = log
        .requests
        .iter()
        .filter(|seen| seen.route().is_some_and(Route::is_turn))
        .map(|seen| (seen.nth, without_marks(seen.json())))
        .collect();
    for (nth, later) in &turns {
        let before = turns
            .iter()
            .rev()
            .find(|(earlier, body)| earlier < nth && first_message(body) == first_message(later));
        let Some((earlier, before)) = before else {
            continue;
        };
        let empty = Vec::new();
        let said = |body: &Value| body["messages"].as_array().unwrap_or(&empty).clone();
        let (said_before, said_now) = (said(before), said(later));
        for what in ["tools", "system", "model"] {
            if before[what] != later[what] {
                return Some(format!(
                    "request {nth} changes `{what}` of request {earlier}"
                ));
            }
        }
        if !said_now.starts_with(&said_before) {
            let at = said_before
                .iter()
                .zip(&said_now)
                .position(|(a, b)| a != b)
                .unwrap_or(said_now.len());
            return Some(format!(
                "request {nth} changes message {at} of request {earlier}"
            ));
        }
    }
    None
}

fn first_message(body: &Value) -> Option<&Value> {
    body["messages"]
        .as_array()?
        .iter()
        .find(|m| m["role"] != "system")
}

fn without_marks(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.remove("cache_control");
            for field in fields.values_mut() {
                *field = without_marks(field.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_marks(item.take());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}
